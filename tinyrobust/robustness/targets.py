"""Targets: what is attacked. Each is an ART estimator on inputs in [0, 1] that counts its queries.

`keras` is the white box, a compiled Keras network on logits. `int8` is a `.tflite` file itself, ours or anybody's.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from art.estimators.classification import BlackBoxClassifierNeuralNetwork

from tinyrobust.attacks.estimator import CompiledClassifier
from tinyrobust.deploy.interpreter import Int8Model

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]

_MEMORY = 64 * 2**20  # bytes of inputs that a memo keeps


class Memo:
    """Remembers what a deterministic function of rows said, and asks it only about rows it has not seen.

    ART's Square asks three times for the scores of the same images in every iteration; this changes no result.

    Args:
        function: From rows [n, ...] to scores [n, classes]; a row's scores depend on that row only.
    """

    def __init__(self, function: Callable[[Array], FloatArray]) -> None:
        self._function = function
        self._known: dict[bytes, FloatArray] = {}

    def __call__(self, rows: Array) -> FloatArray:
        """The scores [n, classes] of `rows` [n, ...]."""
        if not len(rows):
            return self._function(rows)
        keys = [row.tobytes() for row in rows]
        if len(self._known) * rows[:1].nbytes > _MEMORY:
            self._known.clear()
        new = {key: index for index, key in enumerate(keys) if key not in self._known}
        if new:
            self._known.update(zip(new, self._function(rows[list(new.values())]), strict=True))
        return np.stack([self._known[key] for key in keys])


class KerasTarget(CompiledClassifier):
    """The white box: a Keras network on logits, deterministic at inference, quantized weights frozen.

    Args:
        model: From float32 images in [0, 1] to logits.
    """

    def __init__(self, model: keras.Model) -> None:
        super().__init__(model)
        self._memo = Memo(super().predict)

    def predict(self, x: Any, batch_size: int = 128, training_mode: bool = False, **kwargs: Any) -> FloatArray:  # noqa: ARG002
        """Logits [n, classes]; repeated questions are answered from memory."""
        rows = np.ascontiguousarray(x, dtype=np.float32)
        return self._memo(rows)


class Int8Target(BlackBoxClassifierNeuralNetwork):
    """A `.tflite` file as a black box. Images in [0, 1] are mapped to the file's input units, then quantized as it says.

    Its scores are the file's outputs: in a file that ends in a softmax they are probabilities in steps of 1/256, which
    saturate and leave score-based attacks without a slope.

    Args:
        model: The file.
        input_range: What 0 and 1 become in the file's input units; recognised from its input quantization when absent.

    Attributes:
        queries: Images that have gone through the file so far; repeated ones are answered from memory and not counted.

    Raises:
        ModelFileError: `input_range` is absent and the file's input quantization is none of the usual ones.
    """

    def __init__(self, model: Int8Model, input_range: tuple[float, float] | None = None) -> None:
        self.model_file = model
        self.input_range = input_range or model.pixel_range()
        self.queries = 0
        self._memo = Memo(self._ask)
        super().__init__(
            self._scores, model.input_shape, model.classes, channels_first=False, clip_values=(0.0, 1.0), preprocessing=None
        )

    def _scores(self, x: FloatArray) -> FloatArray:
        # Remembered by what the file sees: images that quantize to the same integers are one question.
        return self._memo(self.model_file.quantized_pixels(x, self.input_range))

    def _ask(self, quantized: Array) -> FloatArray:
        self.queries += len(quantized)
        return self.model_file.dequantized(self.model_file.run(quantized))


def int8(path: Path, input_range: tuple[float, float] | None = None) -> Int8Target:
    """The target for a `.tflite` file, ours or anybody's.

    Raises:
        ModelFileError: The file cannot be read or run, or its input range is not recognised and not given.
    """
    return Int8Target(Int8Model(path), input_range)
