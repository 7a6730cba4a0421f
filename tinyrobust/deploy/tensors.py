"""One tensor of a `.tflite` file: read through the FlatBuffers accessors, checked against its own buffer."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

Values = NDArray[Any]  # of the type that a tensor has in the file, which only the file tells

_MAX_RANK = 8
_MAX_COUNT = 2**31 - 1  # TensorFlow Lite counts elements in 32 bits
_MAX_BYTES = 2**26  # 64 MiB: above any microcontroller's RAM

_NUMPY_TYPES = {
    "float32": "<f4", "float16": "<f2", "float64": "<f8", "int64": "<i8", "int32": "<i4", "int16": "<i2", "int8": "<i1",
    "resource": "<i4",  # the handle of a variable: its number
    "uint64": "<u8", "uint32": "<u4", "uint16": "<u2", "uint8": "<u1", "bool": "?",
}  # fmt: skip
_PACKED_BITS = {"int4": 4, "int2": 2}
_TYPE_NAMES = {value: name.lower() for name, value in vars(schema.TensorType).items() if isinstance(value, int)}


class MalformedError(ValueError):
    """A part of the file contradicts another; the message says what was expected and what was received."""


class UnsupportedError(MalformedError):
    """A part of the file is sound, and of a kind that no microcontroller runtime takes."""


class Budget:
    """Bounds the work on a hostile file: offsets may point at the same bytes over and over.

    Args:
        limit: Bytes that may be visited in all.
    """

    def __init__(self, limit: int) -> None:
        self._left = limit

    def spend(self, size: int) -> None:
        """Counts `size` bytes as visited.

        Raises:
            MalformedError: More was visited than a valid file of this size can hold.
        """
        self._left -= size
        if self._left < 0:
            raise MalformedError(
                "Expected parts that lie side by side in the file. Received: parts that overlap again and again."
            )


@dataclass(frozen=True, eq=False, slots=True)
class Tensor:
    """A tensor of the graph.

    Attributes:
        name: Its name in the file.
        index: Its position in the file's list of tensors.
        shape: Its dimensions; empty for a scalar.
        dtype: int8, int4, float32, ...: the name of the schema's type in lower case.
        scales: Quantization scales, float32: none, one, or one per channel of `quantized_dimension`.
        zero_points: As many zero points, int64.
        quantized_dimension: The axis that `scales` run along where there are several.
        data: The constant values, read-only, of shape `shape`; packed types unpacked to int8. None for activations.
        buffer: Index of the file's buffer that holds the values; tensors may share one.
        stored_bytes: Bytes of the constant values in the file; 0 for activations.
        quantization_bytes: Bytes of scales (4 each), zero points (8 each) and recorded ranges (4 each) in the file.
        variable: Whether it keeps its values between two inferences.
    """

    name: str
    index: int
    shape: tuple[int, ...]
    dtype: str
    scales: NDArray[np.float32] = field(repr=False)
    zero_points: NDArray[np.int64] = field(repr=False)
    quantized_dimension: int
    data: Values | None = field(repr=False)
    buffer: int
    stored_bytes: int
    quantization_bytes: int
    variable: bool

    @property
    def count(self) -> int:
        """How many values it has."""
        return math.prod(self.shape)

    @property
    def bits(self) -> int:
        """Bits of one value."""
        return _PACKED_BITS.get(self.dtype) or 8 * np.dtype(_NUMPY_TYPES[self.dtype]).itemsize

    @property
    def nbytes(self) -> int:
        """Bytes that its values take, in the file or in memory."""
        return (self.count * self.bits + 7) // 8

    @property
    def quantized(self) -> bool:
        """Whether it has a scale."""
        return self.scales.size > 0

    @property
    def per_channel(self) -> bool:
        """Whether it has one scale per channel of `quantized_dimension`, not one for all."""
        return self.scales.size > 1


def quantized(values: NDArray[np.float32], scale: float, zero_point: int, dtype: np.dtype[Any]) -> Values:
    """round(value / scale) + zero point, halves away from zero, saturated: as TensorFlow Lite's QUANTIZE operator does it."""
    with np.errstate(over="ignore", invalid="ignore"):  # what is too large saturates below
        steps = values / np.float32(scale)
    whole = np.trunc(steps + np.copysign(np.float32(0.5), steps)) + np.float32(zero_point)
    limits = np.iinfo(dtype.name)
    return np.asarray(np.clip(whole, limits.min, limits.max), dtype=dtype)


def read_tensor(table: schema.Tensor, index: int, buffers: list[schema.Buffer], budget: Budget) -> Tensor:
    """Reads and checks one tensor.

    Args:
        table: The schema's `Tensor` accessor.
        index: Its position in the file.
        buffers: The schema's `Buffer` accessors.
        budget: What may still be visited.

    Raises:
        UnsupportedError: It is of a kind that no microcontroller runtime takes.
        MalformedError: It contradicts itself.
    """
    name_bytes = table.Name() or b""
    budget.spend(32 + len(name_bytes))
    name = name_bytes.decode("utf-8", errors="replace")
    where = f"tensor {index} ({name[:80]!r})"
    dtype = _TYPE_NAMES.get(table.Type(), f"number {table.Type()}")
    if dtype not in _NUMPY_TYPES and dtype not in _PACKED_BITS:
        raise UnsupportedError(f"{where}: Expected a type of fixed size such as int8 or float32. Received: type {dtype}")
    if table.Sparsity() is not None:
        raise UnsupportedError(f"{where}: Expected dense values. Received: a sparse encoding")
    shape = _shape(table, where, budget)
    buffer = table.Buffer()
    if not 0 <= buffer < len(buffers):
        raise MalformedError(f"{where}: Expected a buffer below {len(buffers)}. Received: buffer {buffer}")
    data, stored_bytes = _values(buffers[buffer], dtype, shape, where, budget)
    written = math.prod(shape) * (1 if dtype in _PACKED_BITS else np.dtype(_NUMPY_TYPES[dtype]).itemsize)
    if data is None and written > _MAX_BYTES:
        raise MalformedError(f"{where}: Expected at most {_MAX_BYTES} bytes. Received: {dtype} of shape {shape}")
    scales, zero_points, dimension, size = _quantization(table.Quantization(), dtype, shape, where, budget)
    return Tensor(
        name, index, shape, dtype, scales, zero_points, dimension, data, buffer, stored_bytes, size, table.IsVariable()
    )


def _shape(table: schema.Tensor, where: str, budget: Budget) -> tuple[int, ...]:
    if table.ShapeIsNone():
        return ()
    rank = table.ShapeLength()
    if rank > _MAX_RANK:
        raise MalformedError(f"{where}: Expected at most {_MAX_RANK} dimensions. Received: {rank}")
    budget.spend(4 * rank)
    shape = tuple(int(size) for size in table.ShapeAsNumpy()) if rank else ()
    if any(size < 0 for size in shape) or math.prod(shape) > _MAX_COUNT:
        raise MalformedError(f"{where}: Expected sizes from 0, of at most {_MAX_COUNT} values. Received: shape {shape}")
    return shape


def _values(buffer: schema.Buffer, dtype: str, shape: tuple[int, ...], where: str, budget: Budget) -> tuple[Values | None, int]:
    """The constant values and the bytes they take in the file; None and 0 where the buffer is empty."""
    if buffer.Offset() > 1 or buffer.Size() > 1:
        raise UnsupportedError(f"{where}: Expected values inside the FlatBuffer. Received: values appended after it")
    if buffer.DataIsNone() or buffer.DataLength() == 0:
        return None, 0
    raw: NDArray[np.uint8] = buffer.DataAsNumpy()
    budget.spend(raw.size)
    count = math.prod(shape)
    bits = _PACKED_BITS.get(dtype)
    expected = (count * bits + 7) // 8 if bits else count * np.dtype(_NUMPY_TYPES[dtype]).itemsize
    if raw.size != expected:
        raise MalformedError(f"{where}: Expected {expected} bytes for {dtype} of shape {shape}. Received: {raw.size} bytes")
    values = _unpacked(raw, bits, count) if bits else raw.view(_NUMPY_TYPES[dtype])
    values = values.reshape(shape)
    values.flags.writeable = False
    return values, raw.size


def _unpacked(raw: NDArray[np.uint8], bits: int, count: int) -> NDArray[np.int8]:
    """Signed values of 4 or 2 bits, the first in the lowest bits of a byte, as int8."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    fields = (raw[:, np.newaxis] >> shifts) << np.uint8(8 - bits)
    return fields.astype(np.uint8).reshape(-1)[:count].view(np.int8) >> (8 - bits)


def _quantization(
    table: schema.QuantizationParameters | None, dtype: str, shape: tuple[int, ...], where: str, budget: Budget
) -> tuple[NDArray[np.float32], NDArray[np.int64], int, int]:
    """Scales, zero points (as many), the axis they run along, and the bytes that all of it takes in the file."""
    none = np.zeros(0, np.float32), np.zeros(0, np.int64), 0
    if table is None:
        return *none, 0
    size = 4 * (table.MinLength() + table.MaxLength() + table.ScaleLength()) + 8 * table.ZeroPointLength()
    budget.spend(16 + size)
    if table.DetailsType() != schema.QuantizationDetails.NONE:
        raise MalformedError(f"{where}: Expected scales and zero points. Received: another scheme of quantization")
    if table.ScaleLength() == 0:
        return *none, size
    scales: NDArray[np.float32] = table.ScaleAsNumpy()
    zeros = table.ZeroPointAsNumpy() if table.ZeroPointLength() else np.zeros(1, np.int64)
    # Old converters wrote the weights' axis into the bias, too; what has one axis has no other that could be meant.
    dimension = 0 if shape == (scales.size,) else table.QuantizedDimension()
    if scales.size > 1 and not (0 <= dimension < len(shape) and shape[dimension] == scales.size):
        raise MalformedError(
            f"{where}: Expected a scale per channel. Received: {scales.size} scales for axis {dimension} of shape {shape}"
        )
    if zeros.size not in (1, scales.size):
        raise MalformedError(f"{where}: Expected as many zero points as scales. Received: {zeros.size} and {scales.size}")
    if not np.isfinite(scales).all() or (scales < 0).any():
        raise MalformedError(f"{where}: Expected finite scales from 0. Received: {scales.min()} to {scales.max()}")
    low, high = _range(dtype)
    if (zeros < low).any() or (zeros > high).any():
        raise MalformedError(f"{where}: Expected zero points from {low} to {high}. Received: {zeros.min()} to {zeros.max()}")
    return scales, np.broadcast_to(zeros, scales.shape), dimension, size


def _range(dtype: str) -> tuple[int, int]:
    """The smallest and largest zero point of a type: its values, or those of int32 where it is no integer type."""
    if dtype in _PACKED_BITS:
        return -(2 ** (_PACKED_BITS[dtype] - 1)), 2 ** (_PACKED_BITS[dtype] - 1) - 1
    kind = np.dtype(_NUMPY_TYPES[dtype])
    limits = np.iinfo(kind if kind.kind in "iu" else np.int32)
    return int(limits.min), int(limits.max)
