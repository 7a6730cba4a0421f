"""Networks that hide from attacks: an honest base, and masks over it that change its slopes and, but for ties, not its answers.

None is more robust than its base: what is adversarial to the base is so to every one of them, up to the width of a tread. The
kinds are those of defences that were broken: thermometer codes and steps (Buckman et al. 2018), k-winners (Xiao et al. 2020),
saturation (Papernot et al. 2016), slopes that point astray (Tramer et al. 2020, "On adaptive attacks to adversarial example
defenses").
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

Tensor = Any


@dataclass(frozen=True)
class Mask:
    """A network that is made from the base.

    Attributes:
        words: What it does, in a sentence for a table.
        masked: From the base to the network.
        quantized: Whether its file is int8, calibrated on clean images; else float.
        softmax: Whether its file ends in one.
    """

    words: str
    masked: Callable[[keras.Model], keras.Model]
    quantized: bool = False
    softmax: bool = False

    def file(self, base: keras.Model, images: np.ndarray, path: Path) -> Path:
        """The file of the masked network.

        Args:
            base: From images [n, 8, 8, 1] in [0, 1] to logits.
            images: Some of them, float32: an int8 file is calibrated on them.
            path: Where it is written.
        """
        model = self.masked(base)
        scores = keras.layers.Softmax()(model.output) if self.softmax else model.output
        return converted(keras.Model(model.input, scores), images if self.quantized else None, path)


def converted(model: keras.Model, images: np.ndarray | None, path: Path) -> Path:
    """A network as a `.tflite`: int8, calibrated on these images, or float without any."""
    image = keras.Input(model.input_shape[1:], batch_size=1)
    converter = tf.lite.TFLiteConverter.from_keras_model(keras.Model(image, model(image)))
    if images is not None:
        converter.representative_dataset = lambda: ([one[np.newaxis]] for one in images)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    path.write_bytes(converter.convert())
    return path


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Scikit-learn's digits in a fixed order: pixels uint8 [1797, 8, 8, 1], and their classes."""
    from sklearn.datasets import load_digits

    loaded = load_digits()
    order = np.random.default_rng(0).permutation(len(loaded.target))
    pixels = np.round(loaded.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    return pixels[order], loaded.target[order].astype(np.int64)


def base(x: np.ndarray, y: np.ndarray) -> keras.Model:
    """An undefended float network, from images in [0, 1] to logits, trained in seconds."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(12, 3, padding="same", activation="relu"),
            keras.layers.Conv2D(24, 3, strides=2, padding="same", activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    model.compile(keras.optimizers.Adam(5e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, y, epochs=12, batch_size=64, verbose=0)
    return model


def _fixed(value: Tensor, weights: np.ndarray, bias: np.ndarray | float = 0.0, side: int = 1) -> Tensor:
    """A dense layer with these weights [in, out]; of images a convolution over `side` times `side` places."""
    units = weights.shape[1]
    name = f"fixed{keras.backend.get_uid('fixed')}"  # the base has names of Keras' own
    layer = keras.layers.Dense(units, name=name) if len(value.shape) == 2 else keras.layers.Conv2D(units, side, name=name)
    output = layer(value)
    layer.set_weights([weights.reshape(layer.kernel.shape), np.broadcast_to(np.float32(bias), units)])
    return output


def _step(value: Tensor) -> Tensor:
    """From 0 to 1 while `value` goes from 0 to 1, flat elsewhere."""
    return keras.layers.Rescaling(1 / 6)(keras.layers.ReLU(6.0)(keras.layers.Rescaling(6.0)(value)))


def _pairs(classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights that make of scores all differences of one and another, [classes, pairs], and sums of these for each class."""
    places = [(one, other) for one in range(classes) for other in range(classes) if one != other]
    differences, sums = np.zeros((classes, len(places))), np.zeros((len(places), classes))
    for place, (one, other) in enumerate(places):
        differences[one, place], differences[other, place], sums[place, one] = 1, -1, 1
    return differences, sums


def _staircase(value: Tensor, low: float, high: float, tread: float, steep: float = 50.0) -> Tensor:
    """Every value of the last axis rounded down to a multiple of `tread` above `low`, by steps that rise within 1/`steep`."""
    width, edges = value.shape[-1], np.arange(low + tread, high, tread)
    spread = np.kron(np.eye(width), np.full((1, len(edges)), steep))
    treads = _step(_fixed(value, spread, np.tile(-steep * edges, width)))
    return _fixed(treads, np.kron(np.eye(width), np.full((len(edges), 1), tread)), low)


def _on_logits(change: Callable[[Tensor], Tensor]) -> Callable[[keras.Model], keras.Model]:
    return lambda model: keras.Model(model.inputs[0], change(model.outputs[0]))


def _votes(logits: Tensor, difference: bool = False) -> Tensor:
    """For every class, how many others have a lower logit."""
    differences, sums = _pairs(logits.shape[-1])
    ahead = _fixed(logits, 100 * differences)
    if difference:
        won = keras.layers.Subtract()([keras.layers.ReLU()(ahead), keras.layers.ReLU()(keras.layers.Rescaling(1, -1)(ahead))])
    else:
        won = _step(ahead)
    return _fixed(won, sums)


def _of_tanh(logits: Tensor) -> Tensor:
    differences, sums = _pairs(logits.shape[-1])
    return _fixed(keras.layers.Activation("tanh")(_fixed(logits, 50 * differences)), sums)


def _sawtooth(logits: Tensor) -> Tensor:
    """Treads that fall: rising by two treads, then falling by one."""
    stairs = _staircase(logits, -60, 60, 0.5)
    return keras.layers.Subtract()([keras.layers.Rescaling(2.0)(stairs), logits])


def _shadowed(logits: Tensor) -> Tensor:
    """Votes decide; between their steps the slope is that of logits turned around."""
    return keras.layers.Subtract()([_votes(logits, difference=True), keras.layers.Rescaling(0.01)(logits)])


def _winners(logits: Tensor) -> Tensor:
    """The three highest logits, from -40 on; the others nothing."""
    differences, sums = _pairs(logits.shape[-1])
    above = _fixed(_step(_fixed(logits, -50 * differences)), sums)  # how many are higher
    return keras.layers.Multiply()([_step(_fixed(above, -np.eye(10), 3.0)), _staircase(logits, -40, 40, 0.5)])


def _leader(logits: Tensor) -> Tensor:
    """1 for the highest logit, and next to nothing for those behind: a sigmoid that saturates."""
    column = keras.layers.Reshape((logits.shape[-1], 1))(logits)
    behind = keras.layers.Subtract()([logits, keras.layers.GlobalMaxPooling1D()(column)])
    return keras.layers.Rescaling(2.0)(keras.layers.Activation("sigmoid")(keras.layers.Rescaling(30.0)(behind)))


def _waved(model: keras.Model) -> keras.Model:
    """Logits and a fine wave of the pixels, for every class along other signs: steep, and never higher than half a logit."""
    image = model.inputs[0]
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (64, 10))
    wave, reach = _fixed(image, signs, side=8), 64.0
    for _ in range(11):  # folded in the middle, again and again
        wave = keras.layers.Add()([keras.layers.ReLU()(wave), keras.layers.ReLU()(keras.layers.Rescaling(-1.0)(wave))])
        reach /= 2
        wave = keras.layers.Rescaling(1.0, -reach)(wave)
    waves = keras.layers.Flatten(name="waves")(keras.layers.Rescaling(0.5 / reach)(wave))
    return keras.Model(image, keras.layers.Add()([model.outputs[0], waves]))


def _on_treads(model: keras.Model) -> keras.Model:
    """Pixels on 30 treads, no multiples of the digits' own 16 levels: on such, a radius would end short of a tread."""
    image = keras.Input((8, 8, 1))
    return keras.Model(image, model(_staircase(image, -1 / 60, 1 + 1 / 60, 1 / 30, 5_000.0)))


def _hidden_treads(model: keras.Model) -> keras.Model:
    """The last hidden layer on treads of a quarter."""
    *_, hidden, logits = model.layers
    kernel, bias = logits.get_weights()
    return keras.Model(model.inputs[0], _fixed(_staircase(hidden.output, 0.0, 32.0, 1 / 4, 250.0), kernel, bias))


MASKS = {
    "votes": Mask("differences of steep rectifiers count lower logits", _on_logits(lambda z: _votes(z, difference=True))),
    "votes-softmax": Mask("the same, behind a softmax", _on_logits(lambda z: _votes(z, difference=True)), softmax=True),
    "votes-int8": Mask("steep clips count lower logits", _on_logits(_votes), quantized=True),
    "votes-tanh": Mask("a hyperbolic tangent that saturates counts them", _on_logits(_of_tanh)),
    "leader": Mask("a sigmoid that saturates names the highest logit", _on_logits(_leader)),
    "large-softmax": Mask("logits 1,000 times as large", _on_logits(keras.layers.Rescaling(1000.0)), softmax=True),
    "staircase": Mask("logits on treads of 0.5", _on_logits(lambda z: _staircase(z, -60, 60, 0.5))),
    "staircase-int8": Mask(
        "logits on treads of 1, behind a softmax",
        _on_logits(lambda z: _staircase(z, -60, 60, 1.0)),
        quantized=True,
        softmax=True,
    ),
    "sawtooth": Mask("treads that fall: every slope is turned around", _on_logits(_sawtooth)),
    "sawtooth-int8": Mask("the same", _on_logits(_sawtooth), quantized=True),
    "shadow": Mask("votes decide, slopes are those of logits turned around", _on_logits(_shadowed)),
    "k-winners": Mask("the three highest logits on treads, gated by comparisons", _on_logits(_winners)),
    "wave": Mask("a fine wave of the pixels, steeper than the logits", _waved),
    "pixel-treads": Mask("pixels on 30 treads", _on_treads),
    "hidden-treads": Mask("the last hidden layer on treads of 1/4", _hidden_treads),
}
