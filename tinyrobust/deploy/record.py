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
    """Agreement along QKeras -> twin -> int8, on `n` real images that are not from the test set.

    Attributes:
        n: How many images.
        images: Where they come from.
        twin_relative_error: Largest difference of the twin's logits over the largest logit of QKeras without rounding.
        twin_tolerance: The largest that is tolerated.
        accuracy_qkeras: Share of right answers of the QKeras model, in [0, 1].
        accuracy_int8: Share of right answers of the file, in [0, 1].
        accuracy_drop_points: What is lost from QKeras to the file, in percentage points; negative when it is better.
        accuracy_drop_tolerance: The most that is tolerated, in percentage points.
        top1_agreement: Share of images on which both name the same class, in [0, 1].
        top1_tolerance: The least that is tolerated.
        kernel_error_steps: Largest distance of a weight in the file from the twin's, in steps of its channel's scale.
        kernel_error_tolerance: The largest that rounding explains.
        worst_kernel: The layer with that weight.
        ternary_kernels: Every kernel that the recipe asks to be ternary.
        layers: The relative error of every layer that has a tensor of its own in the file, in the network's order.
        worst_layer: The layer with the largest relative error.
        operators: The kinds of operators in the file, sorted.
        arena_bytes: Bytes of activations that the file needs in RAM at once (the arena's head).
    """

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
    kernel_error_steps: float
    kernel_error_tolerance: float
    worst_kernel: str
    ternary_kernels: list[TernaryKernel]
    layers: list[LayerParity]
    worst_layer: str
    operators: list[str]
    arena_bytes: int
