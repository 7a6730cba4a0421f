"""Balls in the L-inf, L2 and L1 norms: distances, projections, random points, steepest steps. L0: lengths only.

"snr" is L2 with a radius of its own for every sample, a share of the length of the sample itself: see `radii`.

All functions work on rows: the first axis counts samples, a norm is taken over the rest.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tinyrobust.attacks.specs import Norm
from tinyrobust.attacks.target import FloatArray
from tinyrobust.errors import RecipeError

CHANGED = 1e-6  # L0: a value that moved by less has been rounded, not changed
_ROUNDS = 50  # about five are needed, as a rule; fewer than needed end inside of the ball
_TINY = 1e-12  # keeps a division by the length of no way at all finite


def distance(difference: npt.NDArray[np.floating], norm: Norm) -> FloatArray:
    """The norm [n] of every row of an array [n, ...]: L-inf, L2, L1, or L0, which counts the values that changed.

    Raises:
        RecipeError: Distances in this norm are not those of a difference alone.
    """
    flat = np.abs(difference.reshape(len(difference), int(np.prod(difference.shape[1:]))).astype(np.float64))
    if norm == "linf":
        norms = flat.max(axis=1, initial=0)
    elif norm == "l2":
        norms = np.sqrt(np.square(flat).sum(axis=1))
    elif norm == "l1":
        norms = flat.sum(axis=1)
    elif norm == "l0":
        norms = np.count_nonzero(flat > CHANGED, axis=1)
    else:
        raise RecipeError(f"Expected a norm of differences: linf, l2, l1 or l0. Received: {norm!r}")
    return np.asarray(norms, dtype=np.float32)


def geometry(norm: Norm) -> Norm:
    """The norm whose balls those of `norm` are, whatever their radii."""
    return "l2" if norm == "snr" else norm


def radii(x: FloatArray, epsilon: float, norm: Norm, middle: float) -> FloatArray:
    """The radius [n] of the ball around every sample [n, ...]: epsilon, in "snr" times the sample's L2 distance from `middle`.

    The middle of the range is silence in sound: a ratio of 0.1 between what is added and what is there is 20 dB.
    """
    if norm != "snr":
        return np.full(len(x), epsilon, np.float32)
    return np.asarray(epsilon * distance(x.astype(np.float64) - middle, "l2").astype(np.float64), dtype=np.float32)


def length(rows: tf.Tensor, norm: Norm) -> tf.Tensor:
    """The norm of every row of a tensor [n, ...], shaped [n, 1, ...] to be multiplied with it."""
    axes = list(range(1, rows.shape.rank))
    if norm == "linf":
        return tf.reduce_max(tf.abs(rows), axes, keepdims=True)
    if norm == "l2":
        # Relative to the largest entry: the squares of the tiny gradients of a saturated loss would all be zero.
        most = tf.reduce_max(tf.abs(rows), axes, keepdims=True)
        return most * tf.sqrt(tf.reduce_sum(tf.square(tf.math.divide_no_nan(rows, most)), axes, keepdims=True))
    if norm == "l0":
        return tf.reduce_sum(tf.cast(tf.abs(rows) > CHANGED, tf.float32), axes, keepdims=True)
    return tf.reduce_sum(tf.abs(rows), axes, keepdims=True)


def project(x: tf.Tensor, centre: tf.Tensor, epsilon: tf.Tensor, norm: Norm, bounds: tuple[float, float]) -> tf.Tensor:
    """The points of the ball around `centre` and of the box that are nearest to `x`.

    AutoAttack projects onto the L2 ball, then clips to the box: what the box takes away is lost from the budget. With black and
    white images that is much of it; here other entries get it.

    Args:
        x: Points [n, ...].
        centre: Centres [n, ...] inside the box.
        epsilon: The radius: a scalar tensor, or one [n] for every point.
        norm: The norm of the ball, L-inf, L2 or L1.
        bounds: Lowest and highest value of an input.
    """
    low, high = bounds
    if epsilon.shape.rank:
        epsilon = like(epsilon, x) if norm == "linf" else epsilon[:, tf.newaxis]
    if norm == "linf":
        return tf.clip_by_value(tf.clip_by_value(x, centre - epsilon, centre + epsilon), low, high)
    if norm == "l2":
        return _onto_l2(x, centre, epsilon, bounds)
    return _onto_l1(x, centre, epsilon, bounds)


def steepest(gradient: tf.Tensor, norm: Norm) -> tf.Tensor:
    """Steps of norm 1 along which a loss with this gradient [n, ...] rises most: the sign in L-inf, the direction in L2.

    In L1 that depends on the box: see `hyperplanes.farthest_in_l1`.
    """
    return tf.sign(gradient) if norm == "linf" else tf.math.divide_no_nan(gradient, length(gradient, "l2"))


def random_points(shape: tuple[int, ...], norm: Norm, generators: Sequence[np.random.Generator]) -> FloatArray:
    """One point of the unit ball, uniformly distributed, from each generator: [n, *shape].

    L2 and L1: a direction from Gaussian or Laplacian draws and a radius u^(1/d) (Barthe et al. 2005, for p-norm balls).
    """
    points = np.empty((len(generators), *shape), dtype=np.float32)
    size = int(np.prod(shape))
    for row, generator in zip(points, generators, strict=True):
        if norm == "linf":
            row[...] = generator.uniform(-1, 1, shape)
            continue
        draw = generator.normal(size=shape) if norm == "l2" else generator.laplace(size=shape)
        row[...] = draw / np.linalg.norm(draw.ravel(), 2 if norm == "l2" else 1) * generator.uniform() ** (1 / size)
    return points


def random_directions(shape: tuple[int, ...], norm: Norm, generators: Sequence[np.random.Generator]) -> FloatArray:
    """One point of norm 1 from each generator, [n, *shape]: uniform draws for L-inf, Gaussian ones for L2 and L1, scaled.

    The starts of APGD (L-inf, L2) and FAB in AutoAttack.
    """
    draws = np.stack(
        [generator.uniform(-1, 1, shape) if norm == "linf" else generator.normal(size=shape) for generator in generators]
    ).astype(np.float32)
    return draws / distance(draws, norm).reshape(-1, *[1] * len(shape))


def _onto_l2(x: tf.Tensor, centre: tf.Tensor, epsilon: tf.Tensor, bounds: tuple[float, float]) -> tf.Tensor:
    """The nearest point of the L2 ball and the box together.

    Each entry moves by min(t u, b), where u is the wish, b the room up to the box, and t <= 1 the largest factor at which the
    moves are no longer than epsilon (the multiplier of the ball is 1 / t - 1). Entries found at the box leave the others more
    of the budget, and t rises, never beyond its value, until no more of them get there.
    """
    difference = x - centre
    shape = tf.shape(difference)
    wish = tf.reshape(tf.abs(difference), (shape[0], -1))
    room = tf.maximum(tf.reshape(tf.where(difference > 0, bounds[1] - centre, centre - bounds[0]), (shape[0], -1)), 0.0)

    def further(count: tf.Tensor, factor: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        free = factor * wish < room
        left = tf.square(epsilon) - tf.reduce_sum(tf.square(tf.where(free, 0.0, room)), axis=1, keepdims=True)
        needed = tf.reduce_sum(tf.square(tf.where(free, wish, 0.0)), axis=1, keepdims=True)
        larger = tf.minimum(1.0, tf.sqrt(tf.maximum(tf.math.divide_no_nan(left, needed), 0.0)))
        return count + 1, tf.maximum(factor, larger), tf.reduce_any(larger > factor * (1 + 1e-6))

    start = (tf.constant(0), tf.zeros((shape[0], 1)), tf.constant(True))
    factor = tf.while_loop(lambda count, _, going: (count < _ROUNDS) & going, further, start)[1]
    moves = tf.minimum(factor * wish, room)
    moves *= tf.minimum(1.0, epsilon / tf.maximum(length(moves, "l2"), _TINY))  # rounding
    return centre + tf.reshape(tf.sign(difference), shape) * tf.reshape(moves, shape)


def _onto_l1(x: tf.Tensor, centre: tf.Tensor, epsilon: tf.Tensor, bounds: tuple[float, float]) -> tf.Tensor:
    """The nearest point of the L1 ball and the box together (Croce & Hein 2021, "Mind the box", proposition 2.1).

    Each entry moves by clip(u - t, 0, b), where u is the wish, b the room up to the box, and t >= 0 the smallest threshold at
    which the moves sum to at most epsilon. The sum falls in t, linearly between the values of u and u - b: sorted, they give t.
    """
    difference = x - centre
    shape = tf.shape(difference)
    flat = tf.reshape(difference, (shape[0], -1))
    room = tf.reshape(tf.where(difference > 0, bounds[1] - centre, centre - bounds[0]), (shape[0], -1))
    wish = tf.abs(flat)
    # Above a breakpoint in `wish` an entry stops moving; below one in `wish - room` it touches the box.
    points = tf.concat([wish, wish - room], axis=1)
    order = tf.argsort(points, axis=1, direction="DESCENDING")
    points = tf.gather(points, order, batch_dims=1)
    slope = tf.where(order < tf.shape(wish)[1], 1.0, -1.0)
    slopes, totals = tf.cumsum(slope, axis=1), tf.cumsum(slope * points, axis=1)
    within = tf.cast(totals - slopes * points <= epsilon, tf.int32)
    last = tf.maximum(tf.reduce_sum(within, axis=1, keepdims=True) - 1, 0)
    here, slope_here, total_here = (tf.gather(values, last, batch_dims=1) for values in (points, slopes, totals))
    # Without slope the sum does not change down to the next breakpoint.
    threshold = tf.where(slope_here > 0, (total_here - epsilon) / tf.maximum(slope_here, 1.0), here)
    moves = tf.clip_by_value(wish - tf.maximum(threshold, 0.0), 0.0, tf.maximum(room, 0.0))
    moves *= tf.minimum(1.0, epsilon / tf.maximum(tf.reduce_sum(moves, axis=1, keepdims=True), _TINY))  # rounding
    return centre + tf.reshape(tf.sign(flat) * moves, shape)


def like(values: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Values [n] shaped [n, 1, ...] to go with rows [n, ...]."""
    return tf.reshape(values, (-1, *[1] * (len(rows.shape) - 1)))
