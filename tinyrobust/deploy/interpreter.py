"""Runs a `.tflite` file: the fast interpreter, one image at a time, without delegates.

LiteRT without delegates is the fast int8 target; its outputs can differ by a step from TensorFlow Lite Micro's, and the
default XNNPACK path differs most, so it is not used. Batches gain nothing here, and files converted at batch 1 refuse them.
"""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from tinyrobust.deploy import artefact
from tinyrobust.errors import ModelFileError

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]

# What [0, 1] pixels become in the units of a file: as they are, 0..255, -1..1, or pixel - 128.
_KNOWN_RANGES = ((0.0, 1.0), (0.0, 255.0), (-1.0, 1.0), (-128.0, 127.0))


class Int8Model:
    """A classifier in a `.tflite` file with one input and one output; integer or float.

    `predict` speaks real numbers: it applies the file's own input quantization and output dequantization. Outputs are what
    the file outputs: logits, or probabilities in steps of 1/256 when it ends in a softmax.

    Args:
        path: The file.

    Attributes:
        input_shape: Of one image, without the batch dimension.
        classes: Length of the output.
        sha256: Of the file, in hex.
        input_range: The smallest and largest input that the file can represent, in its own units; None for float inputs.
        ends_in_softmax: Whether its outputs are probabilities.

    Raises:
        ModelFileError: The file is missing, corrupt, cannot be run, or does not map one image to one row of scores.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        file = artefact.read(path)
        self.sha256 = file.sha256
        self._file = file
        last = file.last_operator
        self.ends_in_softmax = last is not None and last.name == "SOFTMAX"
        try:
            self._interpreter = _interpreter(file)
        except (ValueError, RuntimeError) as error:
            raise ModelFileError(f"{path} cannot be run by the interpreter: {error}") from error
        source = _only(self._interpreter.get_input_details(), "input", path)
        sink = _only(self._interpreter.get_output_details(), "output", path)
        self._source, self._sink = int(source["index"]), int(sink["index"])
        self._source_type, self._sink_type = np.dtype(source["dtype"]), np.dtype(sink["dtype"])
        self._source_scale, self._source_zero = source["quantization"]
        self._sink_scale, self._sink_zero = sink["quantization"]
        self._check(tuple(map(int, source["shape"])), tuple(map(int, sink["shape"])))
        self.input_shape = tuple(int(size) for size in source["shape"][1:])
        self.classes = int(sink["shape"][-1])
        self.input_range = self._range()

    def predict(self, x: FloatArray) -> FloatArray:
        """The file's outputs as real numbers, [n, classes] float32, for inputs [n, *input_shape] in the file's input units.

        Raises:
            ModelFileError: The inputs have another shape.
        """
        return self.dequantized(self.run(self.quantized(x)))

    def quantized(self, x: FloatArray) -> Array:
        """Inputs as the integers the file reads: round(x / scale) + zero point, halves away from zero, saturated.

        The rounding is that of TensorFlow Lite's QUANTIZE operator. Inputs of a float file are returned as float32.

        Raises:
            ModelFileError: The inputs have another shape.
        """
        self._expect_shape(x)
        values = np.asarray(x, dtype=np.float32)
        if self._source_type.kind == "f":
            return values
        steps = values / np.float32(self._source_scale)
        rounded = np.trunc(steps + np.copysign(np.float32(0.5), steps)) + self._source_zero
        limits = np.iinfo(self._source_type)
        return np.asarray(np.clip(rounded, limits.min, limits.max), dtype=self._source_type)

    def quantized_pixels(self, x: FloatArray, pixel_range: tuple[float, float]) -> Array:
        """What the file sees for images in [0, 1] [n, h, w, c], whose 0 and 1 are `pixel_range` in its input units."""
        low, high = pixel_range
        return self.quantized(np.float32(low) + x * np.float32(high - low))

    def pixel_range(self) -> tuple[float, float]:
        """What pixels 0 and 1 become in the file's input units, recognised from its input quantization.

        Raises:
            ModelFileError: It is none of the usual ones.
        """
        if self.input_range is None:
            return _KNOWN_RANGES[0]
        low, high = self.input_range
        tolerance = 0.1 * (high - low)
        for known in _KNOWN_RANGES:
            # A range calibrated on images without full white ends a little below 1; a wider one wastes some steps.
            if abs(low - known[0]) <= tolerance and abs(high - known[1]) <= tolerance:
                return known
        raise ModelFileError(
            f"{self.path}: expected an input range like one of {_KNOWN_RANGES}. Received: ({low:g}, {high:g})",
            hint="Say what the pixel values 0 and 255 become in the units of the file (input_range).",
        )

    @property
    def output_dtype(self) -> np.dtype[Any]:
        """The type of raw outputs."""
        dtype: np.dtype[Any] = self._sink_type
        return dtype

    def dequantized(self, outputs: Array) -> FloatArray:
        """Raw outputs [n, classes] as real numbers: (integer - zero point) * scale; those of a float file as they are."""
        if self._sink_type.kind == "f":
            return outputs.astype(np.float32)
        real: FloatArray = (outputs.astype(np.float32) - np.float32(self._sink_zero)) * np.float32(self._sink_scale)
        return real

    def run(self, quantized: Array) -> Array:
        """The file's raw outputs [n, classes], in its own output type, for inputs in its own input type.

        Raises:
            ModelFileError: The inputs have another shape or type.
        """
        return self._outputs(self._interpreter, quantized, self._sink, self._sink_type)

    def logits(self, quantized: Array) -> FloatArray:
        """What goes into the file's final softmax, [n, classes] real numbers; the outputs themselves where it has none.

        A white-box attacker reads them: probabilities in steps of 1/256 saturate long before the logits do.

        Raises:
            ModelFileError: The inputs have another shape or type.
        """
        if self._before_softmax is None:
            return self.dequantized(self.run(quantized))
        interpreter, tensor, factor = self._before_softmax
        dtype = np.dtype(interpreter.get_tensor(tensor.index).dtype)
        values = self._outputs(interpreter, quantized, tensor.index, dtype).astype(np.float32)
        real: FloatArray = values
        if tensor.quantized:
            real = (values - np.float32(tensor.zero_points[0])) * tensor.scales[0]
        return real * factor

    @cached_property
    def _before_softmax(self) -> tuple[Interpreter, artefact.Tensor, np.float32] | None:
        """An interpreter that keeps its intermediate tensors, the softmax' input, and its factor."""
        last = self._file.last_operator
        if last is None or not self.ends_in_softmax:
            return None
        beta = np.float32(last.options.get("beta", 1.0))
        return _interpreter(self._file, keep_all=True), self._file.tensors[last.inputs[0]], beta

    def _outputs(self, interpreter: Interpreter, quantized: Array, sink: int, dtype: Any) -> Array:
        self._expect_shape(quantized)
        if quantized.dtype != self._source_type:
            raise ModelFileError(f"{self.path}: expected {self._source_type} inputs. Received: {quantized.dtype}")
        outputs = np.empty((len(quantized), self.classes), dtype=dtype)
        images = quantized[:, np.newaxis]
        for index in range(len(quantized)):
            interpreter.set_tensor(self._source, images[index])
            interpreter.invoke()
            outputs[index] = interpreter.get_tensor(sink).reshape(-1)
        return outputs

    def _expect_shape(self, x: Array) -> None:
        if x.ndim != len(self.input_shape) + 1 or x.shape[1:] != self.input_shape:
            raise ModelFileError(f"{self.path}: expected inputs of shape [n, {_text(self.input_shape)}]. Received: {x.shape}")

    def _check(self, source: tuple[int, ...], sink: tuple[int, ...]) -> None:
        if source[:1] != (1,):
            raise ModelFileError(
                f"{self.path}: expected a file that takes one image at a time. Received: input shape {source}",
                hint="Convert it with a batch of 1.",
            )
        if int(np.prod(sink)) != sink[-1] or sink[-1] < 2:
            raise ModelFileError(f"{self.path}: expected one row of at least two scores. Received: output shape {sink}")
        for name, dtype, scale in (
            ("input", self._source_type, self._source_scale),
            ("output", self._sink_type, self._sink_scale),
        ):
            if dtype != np.float32 and (dtype.kind not in "iu" or scale <= 0):
                raise ModelFileError(
                    f"{self.path}: expected a float32 or quantized {name}. Received: {dtype} with scale {scale}"
                )

    def _range(self) -> tuple[float, float] | None:
        if self._source_type.kind == "f":
            return None
        limits = np.iinfo(self._source_type)
        low, high = (float((limit - self._source_zero) * self._source_scale) for limit in (limits.min, limits.max))
        return low, high


def _interpreter(file: artefact.Artefact, keep_all: bool = False) -> Interpreter:
    # One thread: results do not depend on the machine, and several evaluations can run side by side.
    interpreter = Interpreter(
        model_content=file.content,
        num_threads=1,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=keep_all,
    )
    interpreter.allocate_tensors()
    return interpreter


def _only(details: list[dict[str, Any]], what: str, path: Path) -> dict[str, Any]:
    if len(details) != 1:
        raise ModelFileError(f"{path}: expected a file with one {what}. Received: {len(details)} {what}s")
    return details[0]


def _text(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))
