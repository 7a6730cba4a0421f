"""Runs a `.tflite` file: the fast interpreter, one image at a time, without delegates.

LiteRT without delegates is the fast int8 target; its outputs can differ by a step from TensorFlow Lite Micro's, and the
default XNNPACK path differs most, so it is not used. Batches gain nothing here, and files converted at batch 1 refuse them.
The interpreter runs in processes of its own (`sandbox.py`): no file takes the caller with it, and many images use all cores.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tinyrobust.deploy import artefact, input_units, reading
from tinyrobust.deploy.repair import mended
from tinyrobust.deploy.sandbox import Limits, Refused, Sandboxes, refusal
from tinyrobust.deploy.tensors import quantized
from tinyrobust.errors import DataError, ModelFileError

Array = npt.NDArray[np.generic]
FloatArray = npt.NDArray[np.float32]


class Int8Model:
    """A classifier in a `.tflite` file with one input and one output; integer or float.

    `predict` takes and gives real numbers: it applies the file's own input quantization and output dequantization. Outputs are
    what the file outputs: logits, or probabilities in steps of 1/256 when it ends in a softmax.

    Args:
        path: The file.
        limits: What running it may cost.
        read_as: What its outputs mean; absent: scores of classes, and one sigmoid is two of them.

    Attributes:
        reading: What its outputs mean.
        input_shape: Of one image, without the batch dimension.
        classes: How many its outputs name; 2 of a file with one score, a sigmoid: its scores are one minus that, and that.
        sha256: Of the file, in hex.
        channels: Of its images; 1 where the input is none.
        grid: The inputs that it can tell apart, also of a float input that is quantized first; None where nothing says so.
        input_range: The smallest and largest input that the file can represent, in its own units; None for float inputs.
        ends_in_softmax: Whether its outputs are probabilities.
        sigmoids: How many outputs are sigmoids of their own, labels that may hold at once; 0 where they are not.

    Raises:
        ModelFileError: The file is missing, corrupt, cannot be run, or does not map one image to one row of scores.
    """

    def __init__(
        self,
        path: Path,
        limits: Limits = Limits(),  # noqa: B008 - it is frozen
        read_as: reading.Reading | None = None,
    ) -> None:
        self.path = path
        file = artefact.read(path)
        self.sha256 = file.sha256
        self._file = file
        if file.stateful:
            raise ModelFileError(
                f"{path}: expected a file that answers each input by itself. Received: one that keeps state between inferences",
                hint="`footprint` sizes it; what it answers depends on all inputs before, so no single input can be judged.",
            )
        last = file.last_operator
        self.ends_in_softmax = last is not None and last.name == "SOFTMAX"
        source, sink = _only(file, file.inputs, "input"), _only(file, file.outputs, "output")
        self._source, self._sink = source.index, sink.index
        self.reading = read_as or reading.usual(file)
        self._check(source, sink)
        self._source_type: np.dtype[np.generic] = np.dtype(source.dtype)
        self._sink_type: np.dtype[np.generic] = np.dtype(sink.dtype)
        self._source_scale, self._source_zero = _grid(source)
        self._sink_scale, self._sink_zero = _grid(sink)
        self.input_shape = source.shape[1:]
        self._outputs = sink.count
        self.classes = self.reading.classes(sink.count)
        self.sigmoids = reading.sigmoids(file)
        self.grid = input_units.grid_of(file)
        self.channels = (
            next((n for n in (self.input_shape[-1], self.input_shape[0]) if n == 3), 1) if len(source.shape) == 4 else 1
        )
        self.input_range = self._range()
        try:
            self._sandboxes = Sandboxes("litert", mended(file), limits)
        except Refused as error:
            raise refusal(path, "the interpreter", error) from error
        self._check_details()
        # What cannot be run at all is said now, and not after an hour.
        self.run(np.zeros((1, *self.input_shape), self._source_type))

    def predict(self, x: FloatArray) -> FloatArray:
        """The file's scores as real numbers, [n, classes] float32, for inputs [n, *input_shape] in the file's input units.

        Raises:
            ModelFileError: The inputs have another shape.
        """
        inputs = self.quantized(x)
        return self.scores(inputs, self.run(inputs))

    def quantized(self, x: FloatArray) -> Array:
        """Inputs as the integers the file reads: round(x / scale) + zero point, halves away from zero, saturated.

        The rounding is that of TensorFlow Lite's QUANTIZE operator. Inputs of a float file are returned as float32.

        Raises:
            ModelFileError: The inputs have another shape.
            DataError: They are not all numbers, and finite.
        """
        self._expect_shape(x)
        values = np.asarray(x, dtype=np.float32)
        if not np.isfinite(values).all():
            bad = int((~np.isfinite(values)).reshape(len(values), -1).any(axis=1).sum())
            raise DataError(
                f"Expected finite inputs for {self.path}. Received: NaN or infinite values in {bad} of {len(values)} of them."
            )
        if self._source_type.kind == "f":
            return values
        return quantized(values, self._source_scale, self._source_zero, self._source_type)

    def quantized_pixels(self, x: FloatArray, pixel_range: input_units.Range) -> Array:
        """What the file sees for images in [0, 1] [n, h, w, c], whose 0 and 1 are `pixel_range` in its input units."""
        low, high = (np.asarray(bound, np.float32) for bound in pixel_range)
        return self.quantized(low + x * (high - low))

    def pixel_ranges(self) -> list[input_units.Range]:
        """What pixels 0 and 255 may become in the file's input units: the usual ranges that fit what it says, likeliest first.

        Raises:
            ModelFileError: There is none.
        """
        if found := input_units.candidates(self.grid, self.channels):
            return found
        assert self.grid is not None, "every range fits a file that says nothing"
        low, high = f"{self.grid.low:.4g}", f"{self.grid.high:.4g}"
        known = "; ".join(map(input_units.name_of, input_units.KNOWN))
        raise ModelFileError(
            f"{self.path}: expected an input range like one of these: {known}. Received: {low} to {high} ({self.grid.where})",
            hint="Say what 0 and 255 of the data become in the units of the file: --input-range LOW HIGH, such as "
            f"--input-range {low} {high}, or --normalised MEAN STD.",
        )

    def pixel_range(self) -> input_units.Range:
        """What pixels 0 and 255 become in the file's input units, where that is known without data: the likeliest.

        Raises:
            ModelFileError: It is none of the usual ones.
        """
        return self.pixel_ranges()[0]

    @property
    def input_dtype(self) -> np.dtype[np.generic]:
        """The type of raw inputs."""
        return self._source_type

    @property
    def output_dtype(self) -> np.dtype[np.generic]:
        """The type of raw outputs."""
        return self._sink_type

    def scores(self, inputs: Array, outputs: Array) -> FloatArray:
        """Scores [n, classes] of raw inputs [n, *input_shape] and the raw outputs [n, outputs] that the file has for them.

        Raises:
            ModelFileError: The outputs are not all numbers: no class can be named.
        """
        return self.reading.scores(*self.real(inputs, outputs))

    def real(self, inputs: Array, outputs: Array) -> tuple[FloatArray, FloatArray]:
        """The same inputs and outputs as real numbers, each [n, values].

        Raises:
            ModelFileError: The outputs are not all numbers.
        """
        made = _real(outputs, self._sink_scale, self._sink_zero)
        if np.isnan(made).any():
            raise ModelFileError(f"{self.path}: expected numbers as outputs. Received: NaN")
        return _real(inputs, self._source_scale, self._source_zero), made

    def run(self, quantized: Array) -> Array:
        """The file's raw outputs [n, outputs], in its own output type, for inputs in its own input type.

        Raises:
            ModelFileError: The inputs have another shape or type.
        """
        return self.tensors(quantized, [self._sink])[0].reshape(len(quantized), self._outputs)

    def tensors(self, quantized: Array, indices: Sequence[int]) -> list[Array]:
        """What the file puts into some of its tensors, raw, for inputs in its own input type: each [n, ...].

        Raises:
            ModelFileError: The inputs have another shape or type.
        """
        self._expect_shape(quantized)
        if quantized.dtype != self._source_type:
            raise ModelFileError(f"{self.path}: expected {self._source_type} inputs. Received: {quantized.dtype}")
        wanted = [self._file.tensors[index] for index in indices]
        row = np.dtype([(str(place), np.dtype(tensor.dtype), tensor.shape) for place, tensor in enumerate(wanted)])
        values = np.empty(len(quantized), dtype=row)
        done = 0
        try:
            inner = any(index != self._sink for index in indices)
            for part in self._sandboxes.run(quantized, indices, size=row.itemsize, inner=inner):
                rows = np.frombuffer(part, dtype=row)
                values[done : done + len(rows)] = rows
                done += len(rows)
        except (Refused, ValueError) as error:  # where a tensor has another size than the file says
            raise refusal(self.path, "the interpreter", Refused(str(error))) from error
        if done < len(values):
            raise refusal(self.path, "the interpreter", Refused(f"it answers {done} of {len(values)} inputs"))
        return [values[str(place)] for place in range(len(wanted))]

    def logits(self, quantized: Array) -> FloatArray:
        """What goes into the file's final softmax or sigmoid, [n, classes]; its scores where it has none.

        A white-box attacker reads them: probabilities in steps of 1/256 saturate long before the logits do.

        Raises:
            ModelFileError: The inputs have another shape or type.
        """
        last = self._file.last_operator
        if last is None or last.name not in self.reading.before:
            return self.scores(quantized, self.run(quantized))
        tensor = self._file.tensors[last.inputs[0]]
        (values,) = self.tensors(quantized, [tensor.index])
        return self.reading.logits(_real(values, *_grid(tensor)), last.options)

    def _expect_shape(self, x: Array) -> None:
        if x.ndim != len(self.input_shape) + 1 or x.shape[1:] != self.input_shape:
            raise ModelFileError(f"{self.path}: expected inputs of shape [n, {_text(self.input_shape)}]. Received: {x.shape}")

    def _check(self, source: artefact.Tensor, sink: artefact.Tensor) -> None:
        if source.shape[:1] != (1,):
            raise ModelFileError(
                f"{self.path}: expected a file that takes one image at a time. Received: input shape {source.shape}",
                hint="Convert it with a batch of 1.",
            )
        if len(source.shape) < 2 or not source.count:
            raise ModelFileError(f"{self.path}: expected inputs of at least one value. Received: input shape {source.shape}")
        self.reading.check(self._file, sink)
        for name, tensor in (("input", source), ("output", sink)):
            integer = tensor.dtype in ("int8", "uint8", "int16") and len(tensor.scales) == 1 and tensor.scales[0] > 0
            if tensor.dtype != "float32" and not integer:
                scale = tensor.scales.tolist()[:3] or None
                raise ModelFileError(
                    f"{self.path}: expected a float32 or quantized {name}. Received: {tensor.dtype} with scale {scale}"
                )

    def _check_details(self) -> None:
        """What the interpreter makes of the file is what it says: a device goes by that."""
        for what, place, details in (
            ("inputs", self._source, self._sandboxes.inputs),
            ("outputs", self._sink, self._sandboxes.outputs),
        ):
            tensor = self._file.tensors[place]
            expected = [(place, list(tensor.shape), tensor.dtype)]
            if [(detail["index"], detail["shape"], detail["dtype"]) for detail in details] != expected:
                raise ModelFileError(
                    f"{self.path}: expected {what} of (tensor, shape, type) {expected}, as the file says. Received: {details}"
                )

    def _range(self) -> tuple[float, float] | None:
        if self._source_type.kind == "f":
            return None
        limits = np.iinfo(self._source_type.name)
        low, high = (float((limit - self._source_zero) * self._source_scale) for limit in (limits.min, limits.max))
        return low, high


def _only(file: artefact.Artefact, indices: Sequence[int], what: str) -> artefact.Tensor:
    if len(indices) != 1:
        raise ModelFileError(f"{file.path}: expected a file with one {what}. Received: {len(indices)} {what}s")
    return file.tensors[indices[0]]


def _grid(tensor: artefact.Tensor) -> tuple[float, int]:
    """Scale and zero point; 0 and 0 of a float tensor."""
    return (float(tensor.scales[0]), int(tensor.zero_points[0])) if tensor.quantized else (0.0, 0)


def _real(values: Array, scale: float, zero: int) -> FloatArray:
    """Raw values [n, ...] as real numbers [n, values]: (integer - zero point) * scale; of a float tensor as they are."""
    real: FloatArray = values.reshape(len(values), math.prod(values.shape[1:])).astype(np.float32)
    return real if values.dtype.kind == "f" else (real - np.float32(zero)) * np.float32(scale)


def _text(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))
