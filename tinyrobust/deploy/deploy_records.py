"""parity.json: how far neighbours of the export chain agree on real images."""

from typing import ClassVar, Literal

from pydantic import Field

from tinyrobust.formats import TERNARY
from tinyrobust.records import Part, Record

PORTABLE = frozenset({"tr_conv2d", "tr_depthwise"})  # kernels for every shape, in plain C: a fast one is several times faster


Agreement = Literal["twin", "kernels", "ternary", "accuracy", "top1"]


class LayerParity(Part):
    """How far one layer's int8 output is from the QKeras model's: RMS error over RMS value, dimensionless."""

    layer: str
    relative_error: float


class KernelParity(Part):
    """How far the weights of one layer in the file are from the network's, batch norm folded; all 0 where they are exact.

    Attributes:
        layer: The layer.
        largest_steps: Largest distance of a weight, in steps of its channel's scale; rounding explains half a step.
        mean_steps: Mean distance.
        relative_error: Norm of the difference over the norm of the kernel, dimensionless.
    """

    layer: str
    largest_steps: float
    mean_steps: float
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
        kernels: How far the file's weights are from the network's, of every layer with weights; none in older records.
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
    kernels: list[KernelParity] = Field(default_factory=list)
    ternary_kernels: list[TernaryKernel]
    layers: list[LayerParity]
    worst_layer: str
    operators: list[str]
    arena_bytes: int

    @property
    def holds(self) -> dict[Agreement, bool]:
        """Whether each agreement is within its tolerance; what is not a number is not."""
        return {
            "twin": self.twin_relative_error <= self.twin_tolerance,
            "kernels": self.kernel_error_steps <= self.kernel_error_tolerance,
            "ternary": not self.not_ternary,
            "accuracy": self.accuracy_drop_points <= self.accuracy_drop_tolerance,
            "top1": self.top1_agreement >= self.top1_tolerance,
        }

    @property
    def farthest_kernel(self) -> KernelParity | None:
        """The layer whose weights are farthest from the network's, relative to their norm; None where all are exact."""
        inexact = [kernel for kernel in self.kernels if kernel.relative_error > 0]
        return max(inexact, key=lambda kernel: kernel.relative_error, default=None)

    @property
    def not_ternary(self) -> list[str]:
        """Kernels that should be ternary and have a channel of more values."""
        return [kernel.tensor for kernel in self.ternary_kernels if kernel.most_values_per_channel > TERNARY.levels]


class DeviceObject(Part):
    """Bytes of one object file that the model brings into a firmware: its own, its kernels', a library's."""

    name: str
    code: int
    rodata: int
    data: int
    bss: int


class DeviceLayer(Part):
    """One layer of the generated C.

    Attributes:
        index: Its position.
        name: The tensor that it writes.
        op: The operator in the file.
        kernel: The C function that computes it.
        weights: The format of its weights in flash; empty where it has none.
        requantization: How its sums become int8; empty where it has no weights.
        macs: Multiply-accumulates, as the generator counts them.
        weight_bytes: Bytes of its packed weights.
        table_bytes: Bytes of its other tables.
        scratch_bytes: Bytes of scratch while it runs.
        instructions: Executed on the emulated board, for one input.
    """

    index: int
    name: str
    op: str
    kernel: str
    weights: str
    requantization: str
    macs: int
    weight_bytes: int
    table_bytes: int
    scratch_bytes: int
    instructions: int

    @property
    def portable(self) -> bool:
        """Whether no fast kernel takes its shape: plain C runs it, several times slower."""
        return self.kernel in PORTABLE


class ModelledCycles(Part):
    """Cycles of one inference on a core: every basic block counted, each instruction priced by the core's manual.

    Two bounds with flash that answers at once, as behind a cache that always hits. `without_cache` has those of slower flash.

    Attributes:
        core: The core, such as Cortex-M4.
        source: The manual.
        provenance: Neither measured nor emulated: a model.
        instructions: What was executed, of a build for this core.
        low: The fewest cycles that the manual allows.
        high: The most.
        fetches: Lines of flash that instructions come from, one after the other, by the bits of a line.
        flash_reads: Reads of constants in flash.
        assumptions: What the bounds take for granted, in sentences.
    """

    core: str
    source: str
    provenance: Literal["modelled"] = "modelled"
    instructions: int
    low: int
    high: int
    fetches: dict[int, int]
    flash_reads: int
    assumptions: list[str]

    def without_cache(self, wait_states: int, line_bits: int) -> int:
        """The most cycles where flash gives `line_bits` at a time: each new line and each constant waits `wait_states`."""
        return self.high + wait_states * (self.fetches[line_bits] + self.flash_reads)


class DeviceRecord(Record):
    """What the generated C of a model does and costs on an emulated board.

    Bytes are measured on the linked program, instructions and stack are emulated. Instructions are not cycles: those are
    modelled, for the first input.

    Attributes:
        model: The file's name.
        sha256: Of the file.
        board: QEMU's name of the board.
        core: What the board is.
        compiler: The compiler's name and version.
        optimisation: The compiler's optimisation.
        code: Instructions in flash.
        rodata: Constants in flash: weights, tables, descriptions.
        data: Variables with initial values, in flash and RAM.
        bss: Variables that start as zero: the arena, the input inside it.
        output_bytes: The caller's buffer for the outputs.
        stack: The deepest stack of one inference.
        objects: Where code, rodata, data and bss come from.
        instructions: Of one inference: the most over all inputs.
        layers: Layer by layer, for the first input; the hooks between layers cost a few instructions themselves.
        inputs: What was run, in words.
        n: How many inputs.
        golden: What the outputs were compared with; where `equal` is None, why they were compared with nothing.
        equal: Inputs with all outputs equal to the golden; None where it was not asked.
        right: Inputs whose largest output is their label; None when labels are not known.
        cycles: Modelled cycles of the same C, built for each core that is modelled; none where they were not asked for.
        cycles_missing: Why there are none; empty where there are, or where they were not asked for.
    """

    SCHEMA: ClassVar[str] = "tinyrobust.device/1"
    model: str
    sha256: str
    board: str
    core: str
    compiler: str
    optimisation: str
    code: int
    rodata: int
    data: int
    bss: int
    output_bytes: int
    stack: int
    objects: list[DeviceObject]
    instructions: int
    layers: list[DeviceLayer]
    inputs: str
    n: int
    golden: str
    equal: int | None
    right: int | None
    cycles: list[ModelledCycles] = Field(default_factory=list)
    cycles_missing: str = ""

    @property
    def flash(self) -> int:
        """Bytes of flash: code, tables and weights."""
        return self.code + self.rodata + self.data

    @property
    def static_ram(self) -> int:
        """Bytes of RAM that are taken before anything runs: arena with the input, and the outputs."""
        return self.data + self.bss + self.output_bytes

    @property
    def ram(self) -> int:
        """Bytes of RAM while it runs: static RAM and stack."""
        return self.static_ram + self.stack
