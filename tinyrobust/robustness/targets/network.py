"""The white box: a Keras network."""

import keras
import numpy as np
import numpy.typing as npt

from tinyrobust.attacks.estimator import GraphClassifier, Transform, check_logits
from tinyrobust.attacks.repair import Slopes
from tinyrobust.attacks.target import FloatArray, InputRange
from tinyrobust.robustness.ranges import UNIT, in_units
from tinyrobust.robustness.targets.memo import Memo


class KerasTarget(GraphClassifier):
    """A Keras network on logits, deterministic at inference, quantized weights frozen.

    Args:
        model: From float32 images in its own units to logits.
        input_range: What 0 and 1 become in the model's units.
        transform: Applied to the logits: gradient repair. `Temperature(t)` for a net distilled at t.
        slopes: Of a network that is `smoothed`; see `GraphClassifier`.
        batch_size: The largest number of images in one graph execution; absent: as `GraphClassifier` has it.

    Raises:
        ModelFileError: The model does not output one row of logits, or its input shape is not fixed.
    """

    deterministic = True

    def __init__(
        self,
        model: keras.Model,
        *,
        input_range: InputRange = UNIT,
        transform: Transform | None = None,
        slopes: Slopes | None = None,
        batch_size: int | None = None,
    ) -> None:
        check_logits(model)
        self.input_range = input_range
        super().__init__(
            lambda x: model(in_units(x, input_range), training=False),
            tuple(model.input_shape[1:]),
            int(model.output_shape[-1]),
            transform=transform,
            slopes=slopes,
            batch_size=batch_size,
        )
        self._memo = Memo(super().predict)

    def predict(
        self,
        x: npt.ArrayLike,
        batch_size: int = 128,  # noqa: ARG002 - as ART calls it
        training_mode: bool = False,  # noqa: ARG002
        **kwargs: object,  # noqa: ARG002
    ) -> FloatArray:
        """Logits [n, classes]; repeated questions are answered from memory."""
        return self._memo(np.ascontiguousarray(x, dtype=np.float32))

    def forget(self) -> None:
        """Empties the memory."""
        self._memo.forget()
