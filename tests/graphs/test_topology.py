"""Who writes a tensor, who reads it, how often a layer is called."""

import keras

from tinyrobust.graphs.folding import foldable
from tinyrobust.graphs.topology import OUTPUT, readers, uses, writer


def _residual() -> keras.Model:
    image = keras.Input((4, 4, 2), name="image")
    conv = keras.layers.Conv2D(2, 1, name="conv")(image)
    norm = keras.layers.BatchNormalization(name="norm")(conv)
    return keras.Model(image, keras.layers.Add(name="add")([norm, conv]))


def test_readers_and_writers():
    model = _residual()
    read_by = readers(model)
    assert {name: sorted(names) for name, names in read_by.items()} == {
        "image": ["conv"], "conv": ["add", "norm"], "norm": ["add"], "add": [OUTPUT],
    }  # fmt: skip
    assert writer(model.outputs[0]) is model.get_layer("add")
    assert uses(model) == {"image": 1, "conv": 1, "norm": 1, "add": 1}


def test_calls_in_other_models_do_not_count():
    model = _residual()
    inner = keras.Model(model.inputs[0], model.get_layer("norm").output)
    again = keras.Input((4, 4, 2), name="again")
    model.get_layer("conv")(again)
    assert readers(inner)["conv"] == ["norm"]
    assert uses(model)["conv"] == 1
    assert foldable(inner) == {"conv": "norm"}
    assert foldable(model) == {}


def test_operations_read_too():
    """`+` is no layer of the model: what it reads is needed as it is."""
    image = keras.Input((4, 4, 2))
    conv = keras.layers.Conv2D(2, 1, name="conv")(image)
    model = keras.Model(image, keras.layers.BatchNormalization(name="norm")(conv) + conv)
    assert len(readers(model)["conv"]) == 2
    assert foldable(model) == {}


def test_a_layer_that_is_called_twice():
    image = keras.Input((4, 4, 2))
    conv = keras.layers.Conv2D(2, 1, name="conv")
    model = keras.Model(image, keras.layers.Flatten(name="flat")(conv(conv(image))))
    assert uses(model)["conv"] == 2
    assert readers(model)["conv"] == ["conv", "flat"]
