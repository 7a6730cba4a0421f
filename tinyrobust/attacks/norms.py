"""Balls in the L-inf, L2 and L1 norms: distances, projections, random points, steepest steps. L0: distances only.

All functions work on rows: the first axis counts samples, a norm is taken over the rest.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import tensorflow as tf

Norm = Literal["linf", "l2", "l1", "l0"]
NORMS: tuple[Norm, ...] = get_args(Norm)
FloatArray = npt.NDArray[np.float32]

_CHANGED = 1e-6  # a value that moved by less has been rounded, not changed
_TINY = 1e-12  # keeps a division by the norm of a zero gradient finite


def distance(difference: FloatArray, norm: Norm) -> FloatArray:
    """The norm [n] of every row of an array [n, ...]; L0 counts the values that are not zero."""
    flat = np.abs(difference.reshape(len(difference), int(np.prod(difference.shape[1:]))).astype(np.float64))
    if norm == "linf":
        norms = flat.max(axis=1, initial=0)
    elif norm == "l2":
        norms = np.sqrt(np.square(flat).sum(axis=1))
    else:
        norms = flat.sum(axis=1) if norm == "l1" else np.count_nonzero(flat > _CHANGED, axis=1)
    return np.asarray(norms, dtype=np.float32)


def length(rows: tf.Tensor, norm: Norm) -> tf.Tensor:
    """The norm of every row of a tensor [n, ...], shaped [n, 1, ...] to be multiplied with it."""
    axes = list(range(1, rows.shape.rank))
    if norm == "linf":
        return tf.reduce_max(tf.abs(rows), axes, keepdims=True)
    if norm == "l2":
        return tf.sqrt(tf.reduce_sum(tf.square(rows), axes, keepdims=True))
    return tf.reduce_sum(tf.abs(rows), axes, keepdims=True)


def project(x: tf.Tensor, centre: tf.Tensor, epsilon: tf.Tensor, norm: Norm, bounds: tuple[float, float]) -> tf.Tensor:
    """Points of the ball around `centre` and of the box, near `x`.

    L-inf and L1: the nearest such points. L2: nearest in the ball, then clipped to the box, as in AutoAttack.

    Args:
        x: Points [n, ...].
        centre: Centres [n, ...] inside the box.
        epsilon: The radius, a scalar tensor.
        norm: The norm of the ball.
        bounds: Lowest and highest value of an input.
    """
    low, high = bounds
    if norm == "linf":
        return tf.clip_by_value(tf.clip_by_value(x, centre - epsilon, centre + epsilon), low, high)
    if norm == "l2":
        difference = x - centre
        shrink = tf.minimum(1.0, epsilon / tf.maximum(length(difference, "l2"), _TINY))
        return tf.clip_by_value(centre + difference * shrink, low, high)
    return _onto_l1(x, centre, epsilon, bounds)


def steepest(gradient: tf.Tensor, x: tf.Tensor, norm: Norm, bounds: tuple[float, float], share: float = 0.01) -> tf.Tensor:
    """Steps of norm 1 along which a loss with this gradient rises most.

    L-inf: the sign. L2: the direction. L1: the sign on the `share` of the entries with the largest gradients that can move
    (Tramer & Boneh 2019, section 3.2: a single entry, the steepest in theory, leaves the box at once).

    Args:
        gradient: [n, ...].
        x: Where it was taken [n, ...].
        norm: The norm of the steps.
        bounds: Lowest and highest value of an input.
        share: Share of the entries that move, for L1.
    """
    if norm == "linf":
        return tf.sign(gradient)
    if norm == "l2":
        return gradient / tf.maximum(length(gradient, "l2"), _TINY)
    blocked = ((x <= bounds[0]) & (gradient < 0)) | ((x >= bounds[1]) & (gradient > 0))
    free = tf.where(blocked, tf.zeros_like(gradient), gradient)
    moved = tf.sign(largest(free, tf.fill(tf.shape(free)[:1], share)))
    return moved / tf.maximum(length(moved, "l1"), 1.0)


def largest(gradient: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """The given share [n] of the entries of every row [n, ...], those largest in size; the others 0. At least one is left."""
    flat = tf.sort(tf.abs(tf.reshape(gradient, (tf.shape(gradient)[0], -1))), axis=1)
    entries = int(np.prod(gradient.shape[1:]))
    place = tf.cast((1.0 - share) * entries, tf.int32)
    least = tf.gather(flat, tf.clip_by_value(place, 0, entries - 1), axis=1, batch_dims=1)
    return tf.where(tf.abs(gradient) >= like(least, gradient), gradient, 0.0)


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
    slope_there, total_there = (tf.gather(values, last, batch_dims=1) for values in (slopes, totals))
    threshold = tf.maximum((total_there - epsilon) / tf.maximum(slope_there, 1.0), 0.0)
    moves = tf.clip_by_value(wish - threshold, 0.0, tf.maximum(room, 0.0))
    return centre + tf.reshape(tf.sign(flat) * moves, shape)


def like(values: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Values [n] shaped [n, 1, ...] to go with rows [n, ...]."""
    return tf.reshape(values, (-1, *[1] * (len(rows.shape) - 1)))
