"""Quantization after training: the float network's weights, rounded, and batch norm that fits them."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

import tinyrobust
from tinyrobust import recipe as recipes
from tinyrobust.choices import members
from tinyrobust.data.arrays import Dataset, Split, scale
from tinyrobust.data.sources import load
from tinyrobust.errors import RecipeError
from tinyrobust.pipeline.plan import signatures
from tinyrobust.quantizers.layers import QuantConv2D, QuantDense, QuantDepthwiseConv2D, weight_layers
from tinyrobust.quantizers.norm import FusedBatchNormalization
from tinyrobust.recipe.activations import Activations
from tinyrobust.recipe.weights import Weights
from tinyrobust.training.after import quantize_after

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


# Calibration, on networks made by hand


def _convolutional(weights: str, activations: str, precision: dict[str, Any]) -> keras.Model:
    """Convolutions with batch norm, one of them depthwise, one without, and a dense layer with a bias."""
    weight, activation = members(Weights)[weights], members(Activations)[activations]
    kernel, rectifier = precision if weights != "float" else {}, precision if activations != "float" else {}

    def build(axes: tuple[int, ...]) -> object:
        return weight(kind=weights, **{k: v for k, v in kernel.items() if k in weight.model_fields}).build(axes, 1)

    def relu(name: str) -> keras.Layer:
        settings = {k: v for k, v in rectifier.items() if k in activation.model_fields}
        return activation(kind=activations, **settings).build(f"{name}-relu")

    image = keras.Input((8, 8, 1))
    x = QuantConv2D(6, 3, use_bias=False, kernel_quantizer=build((-1,)), name="first")(image)
    x = relu("first")(FusedBatchNormalization(momentum=0.9, name="first-bn")(x))
    x = QuantDepthwiseConv2D(3, use_bias=False, depthwise_quantizer=build((-2, -1)), name="second")(x)
    x = relu("second")(FusedBatchNormalization(momentum=0.9, name="second-bn")(x))
    x = relu("third")(QuantConv2D(5, 1, use_bias=False, kernel_quantizer=build((-1,)), name="third")(x))
    x = keras.layers.Flatten(name="flatten")(x)
    return keras.Model(image, QuantDense(4, kernel_quantizer=build((-1,)), name="logits")(x))


@pytest.fixture(scope="module")
def trained() -> keras.Model:
    """As if trained: batch norm fits what comes, with scales and shifts of its own."""
    keras.utils.set_random_seed(1)
    network, random = _convolutional("float", "float", {}), np.random.default_rng(2)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.gamma.assign(random.uniform(0.5, 2, layer.gamma.shape))
            layer.beta.assign(random.normal(size=layer.beta.shape))
    for _ in range(60):
        network(scale(_IMAGES[:64]), training=True)
    return network


_IMAGES = (np.random.default_rng(0).beta(0.4, 0.8, (80, 8, 8, 1)) * 255).astype(np.uint8)


def _calibrated(
    trained: keras.Model,
    path: Path,
    images: np.ndarray = _IMAGES,
    *,
    calibration: str,
    weights: str = "uniform",
    **precision: Any,
) -> keras.Model:
    """The network after `quantize_after` with `train.calibration`."""
    recipe = recipes.load("digits-stq", ("train.quantization=after", "train.batch_size=16", f"train.calibration={calibration}"))
    split = Split(images, np.arange(len(images)) % 4)
    network = _convolutional(weights, precision.pop("activations", "calibrated"), {"bits": 3, **precision})
    return quantize_after(
        trained, network, Dataset("made", split, split, split, ("a", "b", "c", "d"), "f" * 64), recipe, path / "model.keras"
    )


def _values(network: keras.Model, layer: str, images: np.ndarray = _IMAGES[:64]) -> np.ndarray:
    """What a layer puts out, [.., channels]."""
    part = keras.Model(network.inputs[0], network.get_layer(layer).output)
    return np.asarray(ops.convert_to_numpy(part(scale(images)))).reshape(-1, part.output_shape[-1])


_FIRST = "{images = 64, batch_norm = false}"


@pytest.mark.parametrize("kind", ["min-max", "percentile", "mse"])
def test_bounds_come_from_the_float_network(trained: keras.Model, tmp_path: Path, kind: str) -> None:
    network = _calibrated(trained, tmp_path, calibration=_FIRST, range=kind, percentile=98.0)
    for name in ("first-relu", "second-relu", "third-relu"):
        values, upper = _values(trained, name), network.get_layer(name).upper
        if kind == "min-max":
            assert upper == pytest.approx(values.max())
        elif kind == "percentile":
            assert 0 <= upper - np.percentile(values, 98, method="inverted_cdf") <= values.max() / 4096 * 1.01
        else:
            errors = [_rounding_error(values, bound) for bound in np.linspace(0.05, 1, 300) * values.max()]
            assert _rounding_error(values, upper) <= 1.03 * min(errors)
    again = keras.models.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(_values(again, "logits"), _values(network, "logits"))


def _rounding_error(values: np.ndarray, bound: float) -> float:
    step = bound / 7
    return float(np.square(step * np.round(np.minimum(values, bound) / step) - values).sum())


_ALL = '{images = 48, bias_correction = "mean-and-norm"}'


def test_calibration_sees_exactly_its_images_and_is_repeatable(trained: keras.Model, tmp_path: Path) -> None:
    def variables(images: np.ndarray) -> list[np.ndarray]:
        return _calibrated(trained, tmp_path, images, calibration=_ALL, range="mse").get_weights()

    first = variables(_IMAGES)
    beyond, last = _IMAGES.copy(), _IMAGES.copy()
    beyond[48:] = 0
    last[47] = 255 - last[47]
    for one, again, other in zip(first, variables(_IMAGES), variables(beyond), strict=True):
        np.testing.assert_array_equal(one, again)
        np.testing.assert_array_equal(one, other)
    assert any(not np.array_equal(one, other) for one, other in zip(first, variables(last), strict=True))


def test_a_hundred_batches_come_round_where_images_are_fewer(trained: keras.Model, tmp_path: Path) -> None:
    """Batch norm then fits what the quantized layer puts out, though the float network's statistics did not."""
    network = _calibrated(trained, tmp_path, calibration="{images = 64}", weights="ternary")
    for name in ("first", "second"):
        values, norm = _values(network, name), network.get_layer(f"{name}-bn")
        np.testing.assert_allclose(norm.moving_mean, values.mean(0), atol=0.1 * values.std())
        assert np.abs(trained.get_layer(f"{name}-bn").moving_mean - values.mean(0)).max() > 0.2 * values.std()


@pytest.mark.parametrize("weights", ["ternary", "uniform", "pwlq"])
def test_bias_correction_brings_means_back(trained: keras.Model, tmp_path: Path, weights: str) -> None:
    def networks(*corrections: str) -> list[keras.Model]:
        asked = [f'{{images = 64, batch_norm = false, bias_correction = "{one}"}}' for one in corrections]
        return [_calibrated(trained, tmp_path, calibration=one, weights=weights, bits=2) for one in asked]

    plain, mean, both = networks("none", "mean", "mean-and-norm")
    for name in ("first-bn", "second-bn", "logits"):
        expected, found = _values(trained, name), _values(plain, name)
        assert np.abs(found.mean(0) - expected.mean(0)).max() > 0.03, name
        for corrected in (mean, both):
            np.testing.assert_allclose(_values(corrected, name).mean(0), expected.mean(0), atol=1e-4)
    for name in ("first-bn", "second-bn"):
        expected = _values(trained, name).std(0)
        np.testing.assert_allclose(_values(both, name).std(0), expected, rtol=1e-3)
        assert np.abs(_values(mean, name).std(0) / expected - 1).max() > 0.02


def test_batch_norm_that_is_measured_anew_leaves_the_bias_to_correct(trained: keras.Model, tmp_path: Path) -> None:
    anew, corrected = (
        _calibrated(trained, tmp_path, calibration=f'{{images = 64, bias_correction = "{one}"}}', bits=2)
        for one in ("none", "mean")
    )
    np.testing.assert_array_equal(anew.get_layer("first-bn").moving_mean, corrected.get_layer("first-bn").moving_mean)
    expected = _values(trained, "logits").mean(0)
    np.testing.assert_allclose(_values(corrected, "logits").mean(0), expected, atol=1e-4)
    assert np.abs(_values(anew, "logits").mean(0) - expected).max() > 0.01


def test_activations_alone_can_be_quantized(trained: keras.Model, tmp_path: Path) -> None:
    network = _calibrated(trained, tmp_path, calibration="{images = 64}", weights="float")
    assert len(np.unique(_values(network, "third-relu"))) == 8
    for name in ("first", "second", "third", "logits"):
        kept = network.get_layer(name)
        np.testing.assert_array_equal(kept.quantized_weights(), trained.get_layer(name).latent_weights)


def test_what_is_float_is_taken_as_it_is(trained: keras.Model, tmp_path: Path) -> None:
    network = _calibrated(trained, tmp_path, calibration=_ALL, weights="float", activations="float")
    for variable, other in zip(network.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_array_equal(variable, other)


# Bad input


def _refused(*overrides: str) -> str:
    with pytest.raises(RecipeError) as refused:
        recipes.load("digits-stq", overrides)
    return str(refused.value)


def test_calibration_belongs_to_quantization_after_training() -> None:
    assert 'beside quantization = "after" only' in _refused("train.calibration.images=10")
    assert recipes.load("digits-stq", ["train.calibration.batch_norm=true"]).hash == recipes.load("digits-stq").hash


@pytest.mark.parametrize(
    ("after", "activations", "hint"),
    [
        ("aware", "calibrated", 'quantization = "after", which calibrates'),
        ("after", "pact", 'quantization = "aware", which learns them'),
    ],
)
def test_a_range_that_nothing_sets_is_refused(after: str, activations: str, hint: str) -> None:
    rule = f'precision.rule=[{{layers=".*", weights="ternary", activations="{activations}"}}]'
    said = _refused(f"train.quantization={after}", rule)
    assert hint in said
    assert f"Received: '{activations}' for layers '.*'" in said


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('weights={kind="pwlq", bits=1}', "greater than or equal to 2"),
        ('weights={kind="pwlq", bits=9}', "less than or equal to 8"),
        ('weights={kind="uniform", bits=1}', "greater than or equal to 2"),
        ('weights={kind="uniform", range="percentile", percentile=0}', "greater than 0"),
        ('weights={kind="pwlq", breakpoint="cauchy"}', "'gaussian', 'laplace' or 'search'"),
        ('weights="ternary", activations={kind="calibrated", bits=0}', "greater than or equal to 1"),
    ],
)
def test_settings_out_of_range_are_refused(table: str, said: str) -> None:
    assert said in _refused("train.quantization=after", f'precision.rule=[{{layers=".*", {table}}}]')


def test_more_calibration_images_than_training_images_are_refused_before_anything_trains(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"Expected at most as many calibration images .* 1,\d\d\d\. Received: .* 9,999"):
        tinyrobust.run("digits-stq", overrides=(*_AFTER, "train.calibration.images=9999"), runs_dir=tmp_path)
    assert not list(tmp_path.rglob("*.keras"))
