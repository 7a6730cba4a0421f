"""`tinyrobust quantize`, as people type it: a model of two branches, trained on digits in a few seconds."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tinyrobust import recipe as recipes
from tinyrobust.cli.app import app
from tinyrobust.errors import ModelFileError

_SHORT = ("--set", "train.epochs=1", "--set", "robustness.samples=10", "--set", "export.parity_samples=200")


def _type(*words: str) -> Any:
    return CliRunner().invoke(app, words)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of digits with concatenation, addition and a softmax; about 90 % right."""
    import keras
    from keras import layers as kl
    from sklearn.datasets import load_digits

    keras.utils.set_random_seed(0)
    digits = load_digits()
    inputs = keras.Input((8, 8, 1))
    x = kl.Conv2D(8, 3, padding="same", activation="relu6", name="first")(kl.Rescaling(1 / 255)(inputs))
    left = kl.ReLU(6.0)(kl.BatchNormalization()(kl.Conv2D(8, 3, padding="same", name="left")(x)))
    right = kl.SeparableConv2D(8, 3, padding="same", activation="relu6", name="right")(x)
    x = kl.Add()([kl.Conv2D(8, 1, name="mix")(kl.Concatenate()([left, right])), x])
    x = kl.Flatten()(kl.MaxPooling2D()(kl.ReLU(6.0)(x)))
    network = keras.Model(inputs, kl.Dense(10, activation="softmax", name="classes")(x))
    network.compile(keras.optimizers.Adam(5e-3), "sparse_categorical_crossentropy")
    network.fit(digits.images[..., None] * (255 / 16), digits.target, epochs=6, verbose=0)
    path = tmp_path_factory.mktemp("theirs") / "two branches.keras"
    network.save(path)
    return path


def test_it_is_trained_on_and_exported(model: Path, tmp_path: Path) -> None:
    command = ("quantize", str(model), "--recipe", "digits-stq", *_SHORT, "--runs-dir", str(tmp_path))
    answer = _type(*command, "--json")
    assert answer.exit_code == 0, answer.output
    told = json.loads(answer.stdout)
    run = Path(told["run"])
    assert run.name.startswith("two-branches-digits-stq-")
    assert (run / "model.tflite").is_file()
    assert told["parity"]["top1_agreement"] > 0.9
    assert recipes.load(run / "recipe.toml").network.kind == "keras-file"
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert history[0]["val_accuracy"] > 0.5  # after one epoch: what the file has learned is still there
    again = _type(*command, "--until", "train")
    assert "Validation accuracy after epoch 1" in again.output
    content = model.read_bytes()
    try:
        model.write_bytes(content[:-100])
        with pytest.raises(ModelFileError, match="the file was changed"):
            app(["run", str(run / "recipe.toml"), "--runs-dir", str(tmp_path)], standalone_mode=False)
    finally:
        model.write_bytes(content)


def test_after_training_its_own_weights_are_rounded(model: Path, tmp_path: Path) -> None:
    eight = ("--set", "precision.rule.1.weights=fixed-point")
    answer = _type(
        "quantize", str(model), "--recipe", "digits-stq", "--after", *eight, "--until", "train", "--runs-dir", str(tmp_path)
    )
    assert answer.exit_code == 0, answer.output
    assert "Validation accuracy after epoch 0" in answer.output
    (run,) = tmp_path.glob("two-branches-digits-stq-*")
    (row,) = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert row["val_accuracy"] > 0.8
    import keras
    import numpy as np

    theirs, ours = (keras.models.load_model(path, compile=False) for path in (model, run / "model.keras"))
    np.testing.assert_allclose(ours.get_layer("left").kernel, theirs.get_layer("left").kernel, atol=1e-6)


def test_what_does_not_fit_is_said_before_anything_is_trained(model: Path, tmp_path: Path) -> None:
    place = ("--runs-dir", str(tmp_path))
    with pytest.raises(ModelFileError, match=r"data.size=8 --set data.color=gray"):
        app(["quantize", str(model), "--recipe", "digits-stq", "--set", "data.size=12", *place], standalone_mode=False)
    with pytest.raises(ModelFileError, match=r"'none\.keras': there is no such file"):
        app(["quantize", "none.keras", "--recipe", "digits-stq", *place], standalone_mode=False)
