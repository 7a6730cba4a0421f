"""The flashed file as a black box, and the golden that confirms what was found on it."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from art.estimators.classification import BlackBoxClassifierNeuralNetwork

from tinyrobust.attacks.target import FloatArray, InputRange, IntArray
from tinyrobust.deploy import tflm
from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.errors import MissingToolError, ModelFileError
from tinyrobust.robustness.ranges import check_channels, in_units
from tinyrobust.robustness.targets.front_end import SoundFrontEnd
from tinyrobust.robustness.targets.memo import Memo

# What a file reads, as its input type says.
Quantized = npt.NDArray[np.generic]  # int8, uint8 or float32: what the file reads


@dataclass(frozen=True)
class Recheck:
    """What TensorFlow Lite Micro says of verdicts that the fast interpreter gave.

    Attributes:
        predicted: The golden's classes [n]; where it cannot be asked, those that were to be checked.
        checked: How many it was asked about; 0 where it is not installed or cannot run the file.
        differing: How many it names another class for.
    """

    predicted: IntArray
    checked: int
    differing: int


class Int8Target(BlackBoxClassifierNeuralNetwork):
    """A `.tflite` file as a black box. Images in [0, 1] are mapped to the file's input units, then quantized as it says.

    Attacks see inputs of three axes [h, w, c], whatever the file takes: missing ones are 1, more of them are the last one.

    Its scores are the file's outputs: in a file that ends in a softmax they are probabilities in steps of 1/256, which
    saturate and leave score-based attacks without a slope. `logits` are what a white-box attacker reads instead.

    Args:
        model: The file.
        input_range: What 0 and 1 become in the file's input units; recognised from its input quantization when absent.
        front_end: The real one, where the input is sound: its features are what the file reads.

    Attributes:
        queries: Images that have gone through the file so far; repeated ones are answered from memory and not counted.
        backward_passes: 0: a file has no gradients.

    Raises:
        ModelFileError: `input_range` is of another number of channels, or absent and the file's input quantization is none of
            the usual ones; or the front end is that of another file.
    """

    backward_passes = 0
    deterministic = True

    def __init__(self, model: Int8Model, input_range: InputRange | None = None, front_end: SoundFrontEnd | None = None) -> None:
        self.model_file = model
        self.input_range = input_range or model.pixel_range()
        self._front_end = front_end
        if front_end:
            front_end.check(tuple(model.input_shape))
        shape = front_end.input_shape if front_end else attack_shape(model.input_shape)
        check_channels(self.input_range, attack_shape(model.input_shape))
        self.queries = 0
        self._memo = Memo(self._ask)
        super().__init__(self._scores, shape, model.classes, channels_first=False, clip_values=(0.0, 1.0), preprocessing=None)

    @property
    def forward_passes(self) -> int:
        """The same as `queries`."""
        return self.queries

    def forget(self) -> None:
        """Empties the memory."""
        self._memo.forget()

    def quantized(self, x: FloatArray) -> Quantized:
        """Images, or clips, [n, ...] in [0, 1] as the integers that the file reads.

        Raises:
            ModelFileError: They have another shape.
        """
        x = np.asarray(self._front_end.features(x) if self._front_end else x, dtype=np.float32)
        own, seen = self.model_file.input_shape, attack_shape(self.model_file.input_shape)
        if x.shape[1:] not in (seen, own):
            shape = ", ".join(map(str, seen))
            raise ModelFileError(f"{self.model_file.path}: expected inputs of shape [n, {shape}]. Received: {x.shape}")
        values = np.asarray(in_units(x, self.input_range), dtype=np.float32)
        return self.model_file.quantized(values.reshape(-1, *self.model_file.input_shape))

    def logits(self, x: FloatArray) -> FloatArray:
        """What goes into the file's final softmax or sigmoid, [n, classes]; its scores where it has none."""
        self.queries += len(x)
        return self.model_file.logits(self.quantized(x))

    def recheck(self, x: FloatArray, predicted: IntArray) -> Recheck:
        """Asks the golden for the classes of images [n, ...] in [0, 1], for which the file said `predicted` [n]."""
        unchecked = Recheck(predicted, 0, 0)
        if not len(x):
            return unchecked
        inputs = np.ascontiguousarray(self.quantized(x))
        try:
            outputs = tflm.outputs(self.model_file.path, inputs.reshape(len(x), -1).view(np.int8))
        except (MissingToolError, ModelFileError):
            return unchecked
        scores = self.model_file.scores(inputs, outputs.view(self.model_file.output_dtype))
        golden = np.argmax(scores, axis=1).astype(np.int64)
        return Recheck(golden, len(x), int(np.sum(golden != predicted)))

    def _scores(self, x: FloatArray) -> FloatArray:
        # Remembered by what the file sees: images that quantize to the same integers are one question.
        return self._memo(self.quantized(x))

    def _ask(self, quantized: Quantized) -> FloatArray:
        self.queries += len(quantized)
        return self.model_file.scores(quantized, self.model_file.run(quantized))


def attack_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape [h, w, c] in which attacks see inputs of a shape, in the same order of values."""
    return (*shape, 1, 1)[:3] if len(shape) < 4 else (*shape[:2], math.prod(shape[2:]))


def unconfirmed() -> list[str]:
    """A note for the record where the golden cannot be asked; none where it can."""
    if reason := tflm.missing():
        return [f"Verdicts of the file are the fast interpreter's: TensorFlow Lite Micro was not asked ({reason})."]
    return []


def int8(path: Path, input_range: InputRange | None = None) -> Int8Target:
    """The target for a `.tflite` file, ours or anybody's.

    Raises:
        ModelFileError: The file cannot be read or run, or its input range is not recognised and not given.
    """
    return Int8Target(Int8Model(path), input_range)
