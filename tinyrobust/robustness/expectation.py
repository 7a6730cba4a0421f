"""How many passes make an answer of a network that is random at inference."""

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tinyrobust.attacks.specs import Pgd
from tinyrobust.robustness.distance import Bools, Floats, Ints
from tinyrobust.robustness.targets import StochasticTarget, doubled

# Deterministic kernels repeat their answers bit for bit or, with threads, up to the last digits; intended noise is far larger.
_ROUNDING = 1e-4


def differs(first: npt.ArrayLike, again: npt.ArrayLike) -> Bools:
    """Whether [n] two answers [n, classes] to the same questions differ by more than rounding."""
    first, again = np.asarray(first), np.asarray(again)
    largest = np.abs(first).max(axis=1, initial=1.0)
    return np.asarray(np.abs(first - again).max(axis=1, initial=0) > _ROUNDING * largest)


def is_random(network: keras.Model, x: Floats) -> bool:
    """Whether the network answers some of the images [n, ...] otherwise when it is asked again."""
    images = tf.constant(x)
    return bool(differs(network(images, training=False), network(images, training=False)).any())


def passes_needed(network: keras.Model, x: Floats, y: Ints, epsilon: float, seed: int) -> tuple[int, str]:
    """How many passes an answer of a random network is the mean of, and what to tell the reader about it.

    The number doubles until robust accuracy under PGD-10 moves by less than a point (expectation over transformation, Athalye
    et al. 2018, section 4.2); an answer is the mean of two passes at least.

    Args:
        network: Random at inference.
        x: Some images [n, ...] in [0, 1].
        y: Their classes [n].
        epsilon: L-inf radius.
        seed: Of attack and passes.
    """

    def accuracy(passes: int) -> float:
        target = StochasticTarget(network, passes=passes, seed=seed)
        # A sample that an unlucky draw gets wrong is not broken: no sample leaves before the end.
        attack = Pgd.of(steps=10).build(target, epsilon, seed=seed, drop=False)
        return float(np.mean(np.argmax(target.predict(attack.generate(x, y)), axis=1) == y))

    enough = doubled(accuracy)
    curve = ", ".join(f"{value:.1%} with {passes}" for passes, value in enough.accuracies.items())
    settled = "" if enough.settled else " It had not settled: more passes may break more."
    passes = max(2, enough.passes)
    return passes, (
        f"Random at inference: an answer is the mean of {passes} passes. "
        f"PGD-10 at epsilon {epsilon:.4g} leaves {curve}.{settled}"
    )
