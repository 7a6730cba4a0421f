"""The white box: a Keras network, or one that is rebuilt from a `.tflite`."""

from pathlib import Path
from typing import Any

import keras
import numpy as np

from tinyrobust.attacks.estimator import FloatArray, GraphClassifier, Transform, check_logits
from tinyrobust.attacks.repair import UnitMargin, smoothed
from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.deploy.rebuild import rebuild
from tinyrobust.robustness.targets.memo import Memo
from tinyrobust.robustness.targets.ranges import UNIT, InputRange, in_units


class KerasTarget(GraphClassifier):
    """A Keras network on logits, deterministic at inference, quantized weights frozen.

    Args:
        model: From float32 images in its own units to logits.
        input_range: What 0 and 1 become in the model's units.
        transform: Applied to the logits: gradient repair. `Temperature(t)` for a net distilled at t.
        batch_size: The largest number of images in one graph execution; absent: as `GraphClassifier` has it.

    Raises:
        ModelFileError: The model does not output one row of logits, or its input shape is not fixed.
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        input_range: InputRange = UNIT,
        transform: Transform | None = None,
        batch_size: int | None = None,
    ) -> None:
        check_logits(model)
        self.input_range = input_range
        super().__init__(
            lambda x: model(in_units(x, input_range), training=False),
            tuple(model.input_shape[1:]),
            int(model.output_shape[-1]),
            transform=transform,
            batch_size=batch_size,
        )
        self._memo = Memo(super().predict)

    def predict(self, x: Any, batch_size: int = 128, training_mode: bool = False, **kwargs: Any) -> FloatArray:  # noqa: ARG002
        """Logits [n, classes]; repeated questions are answered from memory."""
        return self._memo(np.ascontiguousarray(x, dtype=np.float32))

    def forget(self) -> None:
        """Empties the memory."""
        self._memo.forget()


def repaired(model: keras.Model, *, input_range: InputRange = UNIT) -> KerasTarget:
    """The same classes with gradients that do not vanish: smoothed activations, logits of margin 1.

    Args:
        model: As for `KerasTarget`.
        input_range: What 0 and 1 become in the model's units.
    """
    return KerasTarget(smoothed(model), input_range=input_range, transform=UnitMargin())


def rebuilt(path: Path, input_range: InputRange | None = None) -> KerasTarget:
    """The white box of a file of which nothing else is known: a twin in Keras, made from the file itself.

    Args:
        path: The `.tflite`.
        input_range: What 0 and 1 become in the file's units; recognised from its input quantization when absent.

    Raises:
        ModelFileError: The file has an operator without a twin, or its input range is not recognised and not given.
    """
    return KerasTarget(rebuild(path), input_range=input_range or Int8Model(path).pixel_range())
