"""A surrogate that is learned from a file's own answers: whatever the file's slopes are, the surrogate has its own.

After Papernot et al. 2017 (arXiv 1602.02697): a network of no special form is trained on what the file says to the attacked
samples and to points around them, and then to points that the surrogate itself takes for adversarial, round by round. So it
knows the file's boundary best where examples are looked for.
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from tinyrobust.attacks import losses
from tinyrobust.attacks.graph import any_size
from tinyrobust.gradients import value_and_gradient
from tinyrobust.robustness.distance import Array, Floats, Ints
from tinyrobust.robustness.targets import Int8Target

_ROUNDS = 6
_QUESTIONS = 1024  # of a round, at least; at least one for each sample
_VALUES = 2**23  # in the questions of a round, at most: large inputs get fewer
_STEPS, _BATCH = 100, 128  # of training in a round
_RATE = 3e-3
_WIDER = (1.0, 2.0, 4.0)  # times the radius
_WALK = 5  # steps of a surrogate's own examples
_SIDE = 16  # the longest side behind the first convolution
_SURE = 4.0  # the median difference of the two highest logits that is learned


@dataclass(frozen=True)
class Learned:
    """A surrogate.

    Attributes:
        model: From inputs in [0, 1] to logits, its weights frozen.
        agreement: Share of its last own examples, not learned from yet, that it and the file named the same class for.
        questions: How many inputs the file was asked about.
    """

    model: keras.Model
    agreement: float
    questions: int

    @property
    def note(self) -> str:
        """What a reader of the figures must know of it."""
        return (
            f"A surrogate was learned from {self.questions} answers of the file; of points that it took for adversarial, and "
            f"had not learned from, it named the file's class for {self.agreement:.0%}."
        )

    def arrays(self) -> dict[str, Array]:
        """Everything of it, to be kept; see `restored`."""
        weights = {f"weight{place}": weight for place, weight in enumerate(self.model.get_weights())}
        return {**weights, "agreement": np.asarray(self.agreement), "questions": np.asarray(self.questions)}


def restored(arrays: dict[str, Array], shape: tuple[int, ...], classes: int) -> Learned:
    """The surrogate that `Learned.arrays` were of."""
    model = _network(shape, classes, 0)
    model.set_weights([arrays[f"weight{place}"] for place in range(len(model.weights))])
    model.trainable = False
    return Learned(model, float(arrays["agreement"]), int(arrays["questions"]))


def learn(flashed: Int8Target, x: Floats, others: Floats, radii: Sequence[float], seed: int) -> Learned:
    """Learns a surrogate.

    Args:
        flashed: The file.
        x: Samples [n, h, w, c] in [0, 1] that it is asked about, and about points around them.
        others: Further inputs of the same kind [m, h, w, c] that it is asked about.
        radii: L-inf radii of these points: a file that answers in steps says little within a small one, so some are larger.
        seed: Of weights, points and order.
    """
    random = np.random.default_rng((seed, zlib.crc32(x.tobytes())))
    learner = _Learner(_network(tuple(flashed.input_shape), int(flashed.nb_classes), seed), random)
    questions = min(_QUESTIONS, max(_BATCH, _VALUES // math.prod(x.shape[1:])))
    samples = np.repeat(x, math.ceil(questions / len(x)), axis=0)
    named = np.repeat(flashed.logits(x).argmax(axis=1), len(samples) // len(x))
    radii = [wider * radius for radius in radii for wider in _WIDER]
    others = others[: 2 * questions]
    mixed = _mixed(np.concatenate([x, others]), 2 * questions, random)
    asked = np.concatenate([x, others, mixed, _around(samples, radii, random), _around(mixed, radii, random)])
    logits, agreement = flashed.logits(asked), 0.0
    for done in range(_ROUNDS):
        learner.train(asked, _taught(logits), done)
        new = learner.astray(samples, named, radii)
        answers = flashed.logits(new)
        agreement = float(np.mean(learner.logits(tf.constant(new)).numpy().argmax(axis=1) == answers.argmax(axis=1)))
        asked, logits = np.concatenate([asked, new]), np.concatenate([logits, answers])
    learner.train(asked, _taught(logits), _ROUNDS)
    learner.model.trainable = False
    return Learned(learner.model, agreement, len(asked))


class _Learner:
    """A network and how it is trained.

    Args:
        model: From inputs to logits.
        random: Draws batches and points.
    """

    def __init__(self, model: keras.Model, random: np.random.Generator) -> None:
        self.model, self._random = model, random
        self._optimizer = keras.optimizers.Adam(_RATE)
        self._optimizer.build(model.trainable_variables)
        self._step, self._uphill = any_size(self._trained), any_size(self._slope)
        self.logits = any_size(lambda x: model(x, training=False))

    def train(self, x: Floats, taught: Floats, done: int) -> None:
        """The steps of one round, of which so many are done already, on inputs [n, ...] and what is taught of them."""
        for step in range(_STEPS):
            rows = self._random.integers(0, len(x), _BATCH)
            share = (done * _STEPS + step) / ((_ROUNDS + 1) * _STEPS)
            self._optimizer.learning_rate.assign(_RATE * (1 + math.cos(math.pi * share)) / 2)
            self._step(tf.constant(x[rows]), tf.constant(taught[rows]))

    def astray(self, x: Floats, named: Ints, radii: Sequence[float]) -> Floats:
        """Points around samples [n, ...] where the model leaves the class [n] that the file names for them, or comes near."""
        radius = _drawn(radii, x, self._random)
        there = x + radius * self._random.uniform(-1, 1, x.shape).astype(np.float32)
        for _ in range(_WALK):
            uphill = self._uphill(tf.constant(np.clip(there, 0, 1)), tf.constant(named)).numpy()
            there = np.clip(there + 0.5 * radius * np.sign(uphill), x - radius, x + radius)
        return np.asarray(np.clip(there, 0, 1), np.float32)

    def _trained(self, x: tf.Tensor, taught: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            logits = self.model(x, training=True)
            named = tf.nn.softmax_cross_entropy_with_logits(tf.nn.softmax(taught), logits)
            apart = tf.square(logits - tf.reduce_mean(logits, axis=1, keepdims=True) - taught)
            spread = tf.reduce_mean(tf.square(taught)) + 1e-6
            loss = tf.reduce_mean(named) + tf.reduce_mean(apart) / spread
        self._optimizer.apply_gradients(
            zip(tape.gradient(loss, self.model.trainable_variables), self.model.trainable_variables, strict=True)
        )
        return loss

    def _slope(self, x: tf.Tensor, named: tf.Tensor) -> tf.Tensor:
        def apart(inputs: tf.Tensor) -> tf.Tensor:
            return tf.reduce_sum(losses.margin(self.model(inputs, training=False), named, named))

        return value_and_gradient(apart, x)[1]


def _taught(logits: Floats) -> Floats:
    """The file's logits [n, classes] in a scale that can be learned, whatever theirs is: centred, the median margin as set."""
    centred = logits - logits.mean(axis=1, keepdims=True)
    top = np.sort(centred, axis=1)
    margin = max(float(np.median(top[:, -1] - top[:, -2])), 0.1 * float(centred.std()), 1e-6)
    taught: Floats = (centred * np.float32(_SURE / margin)).astype(np.float32)
    return taught


def _mixed(x: Floats, count: int, random: np.random.Generator) -> Floats:
    """Points [count, ...] on the lines between samples: where one class becomes another."""
    one, other = x[random.integers(0, len(x), count)], x[random.integers(0, len(x), count)]
    share = random.random((count, *[1] * (x.ndim - 1)), np.float32)
    return one + share * (other - one)


def _around(x: Floats, radii: Sequence[float], random: np.random.Generator) -> Floats:
    """Points at the corners of balls around samples [n, ...]."""
    corner = random.choice(np.array([-1, 1], np.float32), x.shape)
    return np.asarray(np.clip(x + _drawn(radii, x, random) * corner, 0, 1), np.float32)


def _drawn(radii: Sequence[float], x: Floats, random: np.random.Generator) -> Floats:
    drawn: Floats = random.choice(np.asarray(radii, np.float32), (len(x), *[1] * (x.ndim - 1)))
    return drawn


def _network(shape: tuple[int, ...], classes: int, seed: int) -> keras.Model:
    """Three convolutions, or where there is no image to speak of two dense layers, with slopes that are zero nowhere."""
    seeds = iter(range(seed, seed + 8))

    def dense(units: int, activation: str | None = "silu") -> keras.Layer:
        return keras.layers.Dense(units, activation, kernel_initializer=keras.initializers.GlorotUniform(next(seeds)))

    def convolution(filters: int, strides: int) -> keras.Layer:
        start = keras.initializers.GlorotUniform(next(seeds))
        return keras.layers.Conv2D(filters, 3, strides, "same", activation="silu", kernel_initializer=start)

    layers = [keras.layers.Flatten(), dense(128), dense(64), dense(classes, None)]
    if min(shape[:2]) >= 4:
        reduced = math.ceil(max(shape[:2]) / _SIDE)
        layers = [convolution(16, reduced), convolution(32, 2), convolution(32, 1), keras.layers.Flatten()]
        layers += [dense(64), dense(classes, None)]
    return keras.Sequential([keras.Input(shape), keras.layers.Rescaling(2.0, -1.0), *layers])
