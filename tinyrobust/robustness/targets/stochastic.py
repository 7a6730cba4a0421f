"""Networks that are random at inference: attacked and judged in expectation over k passes (EOT)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import keras
import numpy as np
import tensorflow as tf

from tinyrobust.attacks.estimator import GraphClassifier, Transform, check_logits
from tinyrobust.attacks.repair import Slopes
from tinyrobust.attacks.target import InputRange
from tinyrobust.errors import ModelFileError
from tinyrobust.graphs.members import Answers, Members
from tinyrobust.robustness.ranges import UNIT, in_units

# Samples of 32x32 in a batch, draws counted: what stochastic quantizers hold of them, K values for one, stays below 2 GB.
ROWS = 512


class StochasticTarget(GraphClassifier):
    """Expectation over transformation (Athalye et al. 2018, section 4.2): the mean of the logits over fresh random passes.

    An attacker knows the distribution, not the draw: every question is answered by `passes` new draws, and the gradient is that
    of their mean. The class it names is that of the mean too.

    Passes follow each other, or are all of one batch (`at_once`): for a network whose draws are of every sample by itself,
    which is faster. Draws that a batch shares, such as those of weights, would be one pass then.

    Args:
        model: From images in its own units to logits; its random draws come from Keras' seed generators.
        passes: Draws per answer, k; `doubled` finds how many are enough.
        seed: Fixes the draws.
        training: What the network is called with, for layers that are random only when they train.
        input_range: What 0 and 1 become in the model's units.
        transform: Applied to the mean: gradient repair.
        mean: Of what the answer is the mean. For "probabilities" the logits are the logarithm of the mean softmax.
        at_once: See above; samples and passes together are at most `ROWS` in a batch, of samples up to 32x32.
        slopes: Of a network that is `smoothed`; see `GraphClassifier`.

    Raises:
        ModelFileError: The model does not output logits, or nothing in it is random.
    """

    deterministic = False

    def __init__(
        self,
        model: keras.Model,
        *,
        passes: int,
        seed: int = 0,
        training: bool = False,
        input_range: InputRange = UNIT,
        transform: Transform | None = None,
        mean: Literal["logits", "probabilities"] = "logits",
        at_once: bool = False,
        slopes: Slopes | None = None,
    ) -> None:
        check_logits(model)
        self.input_range = input_range
        self._seed = seed
        self._generators = seed_generators(model)
        if not self._generators:
            raise ModelFileError(
                "Expected a network with random layers. Received: none of its layers draws from a Keras seed generator.",
                hint="A deterministic network is attacked as it is (KerasTarget).",
            )
        shape, classes = tuple(model.input_shape[1:]), int(model.output_shape[-1])
        members = Members(model, passes)

        def in_turn(inputs: tf.Tensor) -> tf.Tensor:
            # One pass after the other: the draws must come in a fixed order.
            return tf.map_fn(
                lambda _: tf.cast(model(inputs, training=training), tf.float32),
                tf.range(passes),
                parallel_iterations=1,
                fn_output_signature=tf.TensorSpec((None, classes), tf.float32),
            )

        def network(x: tf.Tensor) -> tf.Tensor:
            inputs = in_units(x, input_range)
            answers = Answers(members(inputs, training=training).logits if at_once else in_turn(inputs), None)
            return answers.together if mean == "probabilities" else tf.reduce_mean(answers.logits, axis=0)

        size = max(1, rows(shape) // passes) if at_once else None
        super().__init__(network, shape, classes, transform=transform, slopes=slopes, passes=passes, batch_size=size)
        self.forget()

    def forget(self) -> None:
        """Rewinds the draws to the seed."""
        rewind(self._generators, self._seed)


def rows(shape: tuple[int, ...]) -> int:
    """How many samples of a shape are in a batch at most, draws counted: `ROWS`, and of samples below 32x32 as many more."""
    return max(ROWS, ROWS * 1024 // math.prod(shape))


@dataclass(frozen=True)
class Passes:
    """How many passes are enough.

    Attributes:
        passes: The number chosen.
        accuracies: Robust accuracy by number of passes, in [0, 1].
        settled: Whether the last two doublings moved it by less than the tolerance.
    """

    passes: int
    accuracies: dict[int, float]
    settled: bool


def doubled(robust_accuracy: Callable[[int], float], *, first: int = 1, limit: int = 64, tolerance: float = 0.01) -> Passes:
    """Doubles the number of passes until two doublings together move robust accuracy by less than `tolerance`.

    Two: of a curve that still falls, one doubling may change nothing by chance.

    Args:
        robust_accuracy: What an attack with so many passes leaves standing, in [0, 1].
        first: Where to start.
        limit: Not beyond.
        tolerance: In [0, 1]; 0.01 is one point.

    Returns:
        The smallest of the last three numbers when the two others are as good. Otherwise the largest one tried.
    """
    accuracies = {first: robust_accuracy(first)}
    passes, quiet = first, 0
    while 2 * passes <= limit:
        passes *= 2
        accuracies[passes] = robust_accuracy(passes)
        settled = passes // 2 ** (quiet + 1)
        quiet = quiet + 1 if abs(accuracies[passes] - accuracies[settled]) < tolerance else 0
        if quiet == 2:
            return Passes(settled, accuracies, settled=True)
    return Passes(passes, accuracies, settled=False)


def seed_generators(model: keras.Model) -> list[keras.random.SeedGenerator]:
    """The seed generators of all layers, in order, each once."""
    generators = [generator for layer in model._flatten_layers() for generator in layer._seed_generators]
    return list({id(generator): generator for generator in generators}.values())


def rewind(generators: Sequence[keras.random.SeedGenerator], seed: int) -> None:
    """Sets seed generators to states that `seed` decides."""
    for place, generator in enumerate(generators):
        drawn = np.random.SeedSequence((seed, place)).generate_state(2)
        generator.state.assign(np.asarray(drawn % 2**31).astype(generator.state.dtype))
