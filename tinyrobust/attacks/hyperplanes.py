"""Linear functions in a box: the shortest way to a hyperplane (FAB), and the farthest way along a gradient (FGM in L1)."""

import numpy as np
import tensorflow as tf

from tinyrobust.attacks.norms import like
from tinyrobust.attacks.specs import Norm

# Newton's method needs one round for every face of the box that the way runs into, at worst, and about ten as a rule.
_ROUNDS = 100


def way_to(x: tf.Tensor, normal: tf.Tensor, gap: tf.Tensor, norm: Norm, bounds: tuple[float, float]) -> tf.Tensor:
    """The shortest d with <normal, d> = gap and x + d in the box; into the farthest corner where no such d exists.

    Croce & Hein 2020 ("FAB"), eq. 4. Each entry moves towards where it closes the gap, and stops at the box. In L-inf all
    moving entries move by t, in L2 by t |normal|; t is where the gap is closed. The closed part is a concave, piecewise linear
    function of t, so Newton's method from 0 never oversteps and ends at the exact t after finitely many rounds. In L1 the
    entries move one after the other, those of the steepest normal first.

    Args:
        x: Points [n, ...] in the box.
        normal: Normals [n, ...] of the hyperplanes, finite.
        gap: What <normal, d> must be [n], of either sign, finite.
        norm: The norm in which d is short.
        bounds: Lowest and highest value of an entry.
    """
    shape = tf.shape(x)
    towards = tf.sign(normal) * like(tf.where(gap < 0, -1.0, 1.0), normal)
    steep, room = tf.reshape(tf.abs(normal), (shape[0], -1)), _room(x, towards, bounds)
    # The hyperplane stays the same, and neither squares nor thresholds depend on the scale of the logits.
    most = tf.reduce_max(tf.where(room > 0, steep, 0.0), axis=1, keepdims=True)
    steep, wanted = (tf.math.divide_no_nan(value, most) for value in (steep, tf.abs(gap)[:, tf.newaxis]))
    moves = _one_by_one(steep, room, wanted) if norm == "l1" else _together(steep, room, wanted, norm)
    return towards * tf.reshape(moves, shape)


def farthest_in_l1(
    x: tf.Tensor, gradient: tf.Tensor, budget: tf.Tensor, bounds: tuple[float, float], share: tf.Tensor | None = None
) -> tf.Tensor:
    """The d of L1 norm `budget`, with x + d in the box, for which <gradient, d> is largest; shorter where the box ends.

    The steepest entry goes to the edge of the box, then the next, while the budget lasts. On a network, which is not linear,
    one entry at a time gets nowhere: with `share`, so many of the steepest entries move by the same (Tramer & Boneh 2019,
    section 3.2; Croce & Hein 2021), and what the box keeps from them goes to the next ones. Spent on an entry that is at the
    edge, it would be lost.

    Args:
        x: Points [n, ...] in the box.
        gradient: [n, ...], finite.
        budget: What the entries of d sum to [n].
        bounds: Lowest and highest value of an entry.
        share: The share of the entries [n] that the budget is spread over, at least one; rounded down (AutoAttack rounds up,
            and so never gets below two). None: none moves by more or less than the box and the budget say.
    """
    towards = tf.sign(gradient)
    room = _room(x, towards, bounds)
    if share is not None:
        size = float(np.prod(x.shape[1:]))
        # A little more than the share says: a product that falls short of a whole number by rounding counts as that number.
        room = tf.minimum(room, (budget / tf.clip_by_value(tf.floor(share * size + 1e-3), 1.0, size))[:, tf.newaxis])
    order = tf.argsort(tf.reshape(tf.abs(gradient), tf.shape(room)), axis=1, direction="DESCENDING")
    free = tf.gather(room, order, batch_dims=1)
    moves = tf.clip_by_value(budget[:, tf.newaxis] - tf.cumsum(free, axis=1, exclusive=True), 0.0, free)
    return towards * tf.reshape(tf.gather(moves, tf.argsort(order, axis=1), batch_dims=1), tf.shape(x))


def _room(x: tf.Tensor, towards: tf.Tensor, bounds: tuple[float, float]) -> tf.Tensor:
    """How far every entry can go in the direction of that sign [n, entries]; 0 where there is no direction."""
    low, high = bounds
    room = tf.where(towards > 0, high - x, tf.where(towards < 0, x - low, 0.0))
    return tf.maximum(tf.reshape(room, (tf.shape(x)[0], -1)), 0.0)


def _together(steep: tf.Tensor, room: tf.Tensor, wanted: tf.Tensor, norm: Norm) -> tf.Tensor:
    pace = steep if norm == "l2" else tf.ones_like(steep)

    def closed(time: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        free = tf.cast(time * pace < room, steep.dtype)
        amount = tf.reduce_sum(steep * tf.minimum(time * pace, room), axis=1, keepdims=True)
        return amount, tf.reduce_sum(steep * pace * free, axis=1, keepdims=True)

    def further(count: tf.Tensor, time: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        amount, rate = closed(time)
        missing = (wanted - amount > 1e-6 * wanted) & (rate > 0)  # no rate: every entry is at the box
        longer = time + tf.math.divide_no_nan(wanted - amount, rate)
        return count + 1, tf.where(missing, longer, time), tf.reduce_any(missing)

    start = (tf.constant(0), tf.zeros_like(wanted), tf.constant(True))
    time = tf.while_loop(lambda count, _, going: (count < _ROUNDS) & going, further, start)[1]
    return tf.minimum(time * pace, room)


def _one_by_one(steep: tf.Tensor, room: tf.Tensor, wanted: tf.Tensor) -> tf.Tensor:
    order = tf.argsort(steep, axis=1, direction="DESCENDING")
    steep, room = (tf.gather(values, order, batch_dims=1) for values in (steep, room))
    before = tf.cumsum(steep * room, axis=1, exclusive=True)
    moves = tf.clip_by_value(tf.math.divide_no_nan(wanted - before, steep), 0.0, room)
    return tf.gather(moves, tf.argsort(order, axis=1), batch_dims=1)
