"""parity.json: how far neighbours of the export chain agree on real images."""

from typing import ClassVar

from tinyrobust.records import Part, Record


class LayerParity(Part):
    """How far one layer's int8 output is from the QKeras model's: RMS error over RMS value, dimensionless."""

    layer: str
    relative_error: float


class TernaryKernel(Part):
    """The distinct int8 values of one kernel that the recipe asks to be ternary; three at most per channel."""

    tensor: str
    channels: int
    most_values_per_channel: int


class ParityRecord(Record):
    """Agreement along QKeras -> twin -> int8, on `n` real images that are not from the test set."""

    SCHEMA: ClassVar[str] = "tinyrobust.parity/1"
    n: int
    images: str
    twin_relative_error: float
    twin_tolerance: float
    accuracy_qkeras: float
    accuracy_int8: float
    accuracy_drop_points: float
    accuracy_drop_tolerance: float
    top1_agreement: float
    top1_tolerance: float
    ternary_kernels: list[TernaryKernel]
    layers: list[LayerParity]
    worst_layer: str
    operators: list[str]
    arena_bytes: int
