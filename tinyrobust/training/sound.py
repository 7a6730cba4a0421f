"""Learning on sound: the front end stands before the network while it is fitted, and noise is made against both."""

from collections.abc import Sequence
from functools import partial

import keras
from keras import ops

from tinyrobust.data.speech.units import MIDPOINT
from tinyrobust.gradients import value_and_gradient
from tinyrobust.training.learner import Learner
from tinyrobust.training.objectives import Batch, CrossEntropy, Objective, Tensor

_TINY = 1e-12


class HearingLearner(Learner):
    """A learner whose inputs are clips, [n, 16000] in [0, 1], in training, and features where it is validated.

    Args:
        network: From features to logits.
        objectives: What it is trained for; they see clips.
        front: The front end.
    """

    def __init__(self, network: keras.Model, objectives: Sequence[Objective], front: keras.layers.Layer) -> None:
        super().__init__(network, objectives)
        self._heard = partial(heard, front)  # a function: Keras must not take the front end, which has no weights, for a part

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        """Clips, or features [n, frames, coefficients, 1], to logits [n, classes]."""
        return self.network(self._heard(inputs), training=training)


class SoundAdversarial(Objective):
    """Cross-entropy on clips with noise made against the network (Madry et al. 2018, in few steps as Wong et al. 2020).

    forward: `d = r u; k times d = P(d + s r g / |g|), g = grad_d loss(x + d); loss(clip(x + d, 0, 1))`, where the radius
    `r = 10^(-SNR / 20) |x - 1/2|` is that of the ball of a signal-to-noise ratio, drawn for each clip, P projects onto it
    and u is a random point of the unit ball. The gradient goes through the front end, straight through the rounding to its
    8-bit grid, and is that of the network as it is deployed; the loss sees it in training mode. Features, in validation, are
    not attacked.

    Args:
        front: The front end, rounded.
        snr_db: From and to, in dB.
        steps: Gradients k a batch.
        step: Size s of a step as a multiple of the radius.
        label_smoothing: Share of the target spread evenly over the classes, in [0, 1); in the loss, not in the attack.
        seed: Fixes ratios and starts.
        weight: Factor in the sum.
    """

    name = "sound_adversarial"

    def __init__(
        self,
        front: keras.layers.Layer,
        snr_db: tuple[float, float],
        steps: int = 1,
        step: float = 1.25,
        label_smoothing: float = 0.0,
        seed: int = 0,
        weight: float = 1.0,
    ) -> None:
        super().__init__(weight)
        self.front = front
        self.snr_db = snr_db
        self.steps = steps
        self.step = step
        self.seed_generator = keras.random.SeedGenerator(seed)
        self._cross_entropy = CrossEntropy(label_smoothing)

    def __call__(self, batch: Batch) -> Tensor:
        """See the class."""
        if len(batch.inputs.shape) != 2:
            return self._cross_entropy(batch)
        logits = batch.network(heard(self.front, self.examples(batch)), training=batch.training)
        return self._cross_entropy(Batch(batch.inputs, batch.labels, logits, batch.network, batch.training))

    def examples(self, batch: Batch) -> Tensor:
        """The clips that the loss hears, [n, 16000] in [0, 1], each at the ratio drawn for it; gradients stop here."""
        x = ops.convert_to_tensor(batch.inputs)
        count = ops.shape(x)[0]
        snr_db = keras.random.uniform((count, 1), *self.snr_db, dtype=x.dtype, seed=self.seed_generator)
        radius = ops.power(10.0, -snr_db / 20) * _length(x - MIDPOINT)

        def loss(clips: Tensor) -> Tensor:
            logits = batch.network(heard(self.front, clips), training=False)
            labels = ops.one_hot(batch.labels, logits.shape[-1], dtype=logits.dtype)
            return -ops.sum(labels * ops.log_softmax(logits))  # a sum: every clip has its own gradient, however many there are

        start = keras.random.normal(ops.shape(x), dtype=x.dtype, seed=self.seed_generator)
        inside = keras.random.uniform((count, 1), dtype=x.dtype, seed=self.seed_generator)
        moved = radius * inside * start / (_length(start) + _TINY)
        for _ in range(self.steps):
            _, gradient = value_and_gradient(loss, x + moved)
            moved = moved + self.step * radius * gradient / (_length(gradient) + _TINY)
            moved = moved * ops.minimum(1.0, radius / (_length(moved) + _TINY))
        return ops.stop_gradient(ops.clip(x + moved, 0.0, 1.0))


def heard(front: keras.layers.Layer, inputs: Tensor) -> Tensor:
    """Features of clips [n, 16000] in [0, 1]; features as they are."""
    return front(2 * inputs - 1) if len(inputs.shape) == 2 else inputs


def _length(rows: Tensor) -> Tensor:
    return ops.sqrt(ops.sum(ops.square(rows), axis=1, keepdims=True))
