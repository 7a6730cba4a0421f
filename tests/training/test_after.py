"""Quantization after training: the float network's weights, rounded, and batch norm that fits them."""

from typing import Any

import keras
import numpy as np
import pytest

import tinyrobust
from tinyrobust import recipe as recipes
from tinyrobust.data.arrays import Split, scale
from tinyrobust.data.sources import load
from tinyrobust.errors import RecipeError
from tinyrobust.pipeline.plan import signatures
from tinyrobust.quantizers.layers import weight_layers

_AFTER = ("train.quantization=after", "train.epochs=15", "network.width=0.25", "export.agreement=0.9", "export.accuracy_drop=3")
_TERNARY = 'precision.rule=[{layers="stem|logits", weights="fixed-point"}, {layers=".*", weights="ternary"}]'
_FLOAT = 'precision.rule=[{layers=".*", weights="float", activations="float"}]'


def _accuracy(network: keras.Model, split: Split) -> float:
    return float((network.predict(scale(split.x), verbose=0).argmax(axis=1) == split.y).mean())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tinyrobust.run("digits-stq", overrides=(*_AFTER, _TERNARY), runs_dir=tmp_path_factory.mktemp("runs"), until="export")


def test_the_weights_are_the_float_networks_rounded(run: Any) -> None:
    trained, network = (
        keras.models.load_model(run.path / name, compile=False) for name in ("float_model.keras", "model.keras")
    )
    assert all(layer.weight_quantizer is None for layer in weight_layers(trained))
    for layer in weight_layers(network):
        np.testing.assert_array_equal(layer.latent_weights, trained.get_layer(layer.name).latent_weights)
    kernel = network.get_layer("block1").quantized_weights()
    assert all(len(np.unique(channel)) == 3 for channel in np.moveaxis(kernel, -1, 0))


def test_batch_norm_is_measured_anew(run: Any) -> None:
    trained, network = (
        keras.models.load_model(run.path / name, compile=False) for name in ("float_model.keras", "model.keras")
    )
    data = load(run.recipe.data, run.recipe.seed).validation
    measured, float_accuracy = _accuracy(network, data), _accuracy(trained, data)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights(trained.get_layer(layer.name).get_weights())
    assert _accuracy(network, data) < measured < float_accuracy


def test_the_run_goes_on_from_there(run: Any) -> None:
    assert list(run.record.stages) == ["float", "train", "export"]
    assert (run.path / "history.jsonl").read_bytes() == (run.path / "float_history.jsonl").read_bytes()
    assert (run.path / "model.tflite").is_file()


def test_one_float_network_serves_every_precision() -> None:
    ternary, exact = (recipes.load("digits-stq", (*_AFTER, precision)) for precision in (_TERNARY, _FLOAT))
    assert signatures(ternary)["float"] == signatures(exact)["float"]
    assert signatures(ternary)["train"] != signatures(exact)["train"]
    assert "float" not in signatures(recipes.load("digits-stq"))


def test_recipes_from_before_keep_their_hash() -> None:
    assert recipes.load("digits-stq").hash == recipes.load("digits-stq", ["train.quantization=aware"]).hash
    assert recipes.load("digits-stq").hash != recipes.load("digits-stq", ["train.quantization=after"]).hash


def test_a_distilled_student_is_quantized_in_training() -> None:
    with pytest.raises(RecipeError, match="Expected quantization in training with distillation"):
        recipes.load("digits-stq-t50", ["train.quantization=after"])
