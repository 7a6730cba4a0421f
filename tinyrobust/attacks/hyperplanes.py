"""The shortest way from a point of a box to a hyperplane, without leaving the box (Croce & Hein 2020, "FAB", eq. 4)."""

import tensorflow as tf

from tinyrobust.attacks.norms import Norm, like

_TINY = 1e-12
_ROUNDS = 100  # Newton's method needs one round for every face of the box that the way runs into; ten are many


def way_to(x: tf.Tensor, normal: tf.Tensor, gap: tf.Tensor, norm: Norm, bounds: tuple[float, float]) -> tf.Tensor:
    """The shortest d with <normal, d> = gap and x + d in the box; into the farthest corner where no such d exists.

    Each entry moves towards where it closes the gap, and stops at the box. In L-inf all moving entries move by t, in L2 by
    t |normal|; t is where the gap is closed. The closed part is a concave, piecewise linear function of t, so Newton's method
    from 0 never oversteps and ends at the exact t after finitely many rounds. In L1 the entries move one after the other, those
    of the steepest normal first.

    Args:
        x: Points [n, ...] in the box.
        normal: Normals [n, ...] of the hyperplanes.
        gap: What <normal, d> must be [n], of either sign.
        norm: The norm in which d is short.
        bounds: Lowest and highest value of an entry.
    """
    low, high = bounds
    shape = tf.shape(x)
    steep = tf.reshape(tf.abs(normal), (shape[0], -1))
    towards = tf.sign(normal) * like(tf.where(gap < 0, -1.0, 1.0), normal)
    room = tf.reshape(tf.where(towards > 0, high - x, x - low), (shape[0], -1))
    room = tf.where(steep > 0, tf.maximum(room, 0.0), 0.0)
    wanted = tf.abs(gap)[:, tf.newaxis]
    moves = _one_by_one(steep, room, wanted) if norm == "l1" else _together(steep, room, wanted, norm)
    return towards * tf.reshape(moves, shape)


def _together(steep: tf.Tensor, room: tf.Tensor, wanted: tf.Tensor, norm: Norm) -> tf.Tensor:
    pace = steep if norm == "l2" else tf.ones_like(steep)

    def closed(time: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        free = tf.cast(time * pace < room, steep.dtype)
        amount = tf.reduce_sum(steep * tf.minimum(time * pace, room), axis=1, keepdims=True)
        return amount, tf.reduce_sum(steep * pace * free, axis=1, keepdims=True)

    def further(count: tf.Tensor, time: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        amount, rate = closed(time)
        missing = (wanted - amount > 1e-6 * wanted) & (rate > 0)  # no rate: every entry is at the box
        longer = time + (wanted - amount) / tf.maximum(rate, _TINY)
        return count + 1, tf.where(missing, longer, time), tf.reduce_any(missing)

    start = (tf.constant(0), tf.zeros_like(wanted), tf.constant(True))
    time = tf.while_loop(lambda count, _, going: (count < _ROUNDS) & going, further, start)[1]
    return tf.minimum(time * pace, room)


def _one_by_one(steep: tf.Tensor, room: tf.Tensor, wanted: tf.Tensor) -> tf.Tensor:
    order = tf.argsort(steep, axis=1, direction="DESCENDING")
    steep, room = (tf.gather(values, order, batch_dims=1) for values in (steep, room))
    before = tf.cumsum(steep * room, axis=1, exclusive=True)
    moves = tf.clip_by_value((wanted - before) / tf.maximum(steep, _TINY), 0.0, room)
    return tf.gather(moves, tf.argsort(order, axis=1), batch_dims=1)
