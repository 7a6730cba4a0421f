"""Whether examples are where an attack must leave them: in the box of inputs, and in the ball."""

import math

import numpy as np

from tinyrobust.attacks.specs import Norm
from tinyrobust.errors import TinyRobustError
from tinyrobust.robustness.distance import SLACK, Floats, distances, moved, within


def inside(adversarial: Floats, x: Floats, epsilon: float, norm: Norm, attack: str) -> Floats:
    """Adversarial examples inside of [0, 1] and the ball; an attack that left them by more than rounding is an error.

    Raises:
        TinyRobustError: It did, or an example is not a number.
    """
    outside = max(float(-adversarial.min()), float(adversarial.max()) - 1)
    distance = moved(adversarial, x, math.ceil(epsilon)) if norm == "shift" else distances(adversarial, x, (norm,))[norm]
    # Half of what a float32 can tell apart, in every value: much of the ball around a clip of a few 16-bit steps.
    rounding = distances(np.nextafter(x, np.float32(2)), x, (norm,))[norm] / 2 if norm in ("l2", "l1", "snr") else 0
    farthest = float(distance.max())
    if not outside <= SLACK or not within(distance - rounding, epsilon).all():  # also when it is not a number
        raise TinyRobustError(
            f"Attack {attack!r} left its bounds: expected examples in [0, 1] and within {norm} {epsilon:g} of the sample. "
            f"Received: {outside:g} outside of [0, 1], {farthest:g} away."
        )
    low, high = np.float32(0), np.float32(1)
    if norm == "linf" and math.isfinite(epsilon):
        low, high = np.maximum(x - np.float32(epsilon), 0), np.minimum(x + np.float32(epsilon), 1)
    return np.asarray(np.clip(adversarial, low, high), dtype=np.float32)
