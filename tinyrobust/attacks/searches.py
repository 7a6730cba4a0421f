"""What Carlini and Wagner's attacks halve in on, a number a sample: constant (L2), largest change (L-inf), count (L0)."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from tinyrobust.attacks.norms import CHANGED
from tinyrobust.attacks.specs import Norm
from tinyrobust.attacks.target import BoolArray, FloatArray

Numbers = npt.NDArray[np.float64]

# By how much a bound that is not known yet is moved away.
_GROWTH = 8.0
_TINY = 1e-20


class Search:
    """The L2 attack's: the constant c that weighs the margin, and what the other two norms share.

    At first c is where, on a linear network, the pulls of distance and margin balance on the boundary; it is halved in on a
    logarithmic scale.

    Args:
        x: Images [n, ...].
        bounds: Lowest and highest value of an input.
        gap: What the margin has to rise by [n], in units of the largest slope.
        gradient: Of the margin at x [n, ...], in the same units.

    Attributes:
        weight: Of the margin in the loss [n].
        change: The largest change of a value that is expected [n].
    """

    def __init__(self, x: FloatArray, bounds: tuple[float, float], gap: FloatArray, gradient: FloatArray) -> None:
        self._x, self._bounds = x, bounds
        slope = np.abs(gradient.reshape(len(x), -1)).astype(np.float64)
        self._fails, self._works = np.zeros(len(x)), np.full(len(x), np.inf)
        self._now, self.change = self._first(np.maximum(gap, _TINY).astype(np.float64), slope)

    @property
    def weight(self) -> Numbers:
        """See the class."""
        return np.minimum(self._now, 1e10)

    def box(self) -> tuple[FloatArray, FloatArray]:
        """The lowest and highest values allowed [n, ...]."""
        low, high = (np.full_like(self._x, bound) for bound in self._bounds)
        return low, high

    def start(self, nearest: FloatArray) -> FloatArray:  # noqa: ARG002 - other searches start from it
        """Where the descent starts; the box is applied to it."""
        return self._x

    def learn(self, success: BoolArray, nearest: FloatArray, far: FloatArray, gradient: Callable[[], FloatArray]) -> None:  # noqa: ARG002
        """Moves on.

        Args:
            success: Whether the descent found an example [n].
            nearest: The nearest examples of all descents [n, ...].
            far: Their norms [n], infinite without one.
            gradient: The gradient of the margin at `nearest`.
        """
        self._works = np.where(success, np.minimum(self._works, self._now), self._works)
        self._fails = np.where(success, self._fails, np.maximum(self._fails, self._now))
        self.change = np.where(np.isfinite(self._works), self.change, np.minimum(2 * self.change, self._span))
        below = np.where(self._fails > 0, np.sqrt(self._fails * self._works), self._works / _GROWTH)
        self._now = np.where(np.isfinite(self._works), below, self._now * _GROWTH)

    def _first(self, gap: Numbers, slope: Numbers) -> tuple[Numbers, Numbers]:
        """The first number and the change expected [n]; a network without slope is met with small numbers that grow."""
        square = np.square(slope).sum(axis=1)
        known = square > _TINY
        change = np.where(known, gap * slope.max(axis=1) / np.maximum(square, _TINY), 0.1 * self._span)
        return np.where(known, 2 * gap / np.maximum(square, _TINY), 1.0), np.minimum(change, self._span)

    @property
    def _span(self) -> float:
        return self._bounds[1] - self._bounds[0]


class ChangeSearch(Search):
    """The L-inf attack's: tau, the largest change allowed. Descents start from the nearest example, drawn into the new ball."""

    @property
    def weight(self) -> Numbers:
        """One: the margin is all there is."""
        return np.ones(len(self._x))

    def box(self) -> tuple[FloatArray, FloatArray]:
        """At most tau from x."""
        tau = self._now.astype(np.float32).reshape(-1, *[1] * (self._x.ndim - 1))
        low, high = self._bounds
        return np.clip(self._x - tau, low, high), np.clip(self._x + tau, low, high)

    def start(self, nearest: FloatArray) -> FloatArray:
        """The nearest example."""
        return nearest

    def learn(self, success: BoolArray, nearest: FloatArray, far: FloatArray, gradient: Callable[[], FloatArray]) -> None:  # noqa: ARG002
        """Between the largest tau that failed and the nearest example."""
        self._fails = np.where(success, self._fails, np.maximum(self._fails, self._now))
        wider = np.minimum(self._now * _GROWTH, self._span)
        self._now = np.where(np.isfinite(far), (np.minimum(self._fails, far) + far) / 2, wider)
        self.change = self._now

    def _first(self, gap: Numbers, slope: Numbers) -> tuple[Numbers, Numbers]:
        # Twice what a linear network needs, and not less than a five-hundredth of the span.
        needed = 2 * gap / np.maximum(slope.sum(axis=1), _TINY)
        tau = np.clip(needed, 0.002 * self._span, self._span)
        return tau, tau


class CountSearch(Search):
    """The L0 attack's: how many values may change; at first all, then the ones that did most in the last success."""

    def __init__(self, x: FloatArray, bounds: tuple[float, float], gap: FloatArray, gradient: FloatArray) -> None:
        super().__init__(x, bounds, gap, gradient)
        self._importance = np.ones((len(x), x[0].size))

    @property
    def weight(self) -> Numbers:
        """One: the margin is all there is."""
        return np.ones(len(self._x))

    def box(self) -> tuple[FloatArray, FloatArray]:
        """All values but the most important ones stay."""
        order = np.argsort(-self._importance, axis=1, kind="stable")
        place = np.argsort(order, axis=1)
        free = (place < self._now[:, np.newaxis]).reshape(self._x.shape)
        return np.where(free, np.float32(self._bounds[0]), self._x), np.where(free, np.float32(self._bounds[1]), self._x)

    def learn(self, success: BoolArray, nearest: FloatArray, far: FloatArray, gradient: Callable[[], FloatArray]) -> None:
        """Between the largest count that failed since the last success and that of the nearest example."""
        difference = nearest - self._x
        effect = np.abs(gradient() * difference).reshape(len(self._x), -1)
        # A changed value on a flat spot still goes before one that is not changed.
        rank = np.where(np.abs(difference).reshape(effect.shape) > CHANGED, effect, -1)
        self._importance = np.where(success[:, np.newaxis], rank, self._importance)
        self._fails = np.where(success, 0.0 * self._now, np.maximum(self._fails, self._now))
        middle = np.floor((self._fails + far) / 2)
        self._now = np.where(np.isfinite(far), np.maximum(middle, 1), self._now)

    def _first(self, gap: Numbers, slope: Numbers) -> tuple[Numbers, Numbers]:  # noqa: ARG002
        return np.full(len(slope), float(slope.shape[1])), np.full(len(slope), self._span)


SEARCHES: dict[Norm, type[Search]] = {"l2": Search, "linf": ChangeSearch, "l0": CountSearch}
