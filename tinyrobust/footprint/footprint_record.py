"""footprint.json: what a model costs on a microcontroller, each figure with its provenance."""

from typing import ClassVar, Literal

from pydantic import Field

from tinyrobust.deploy.deploy_records import DeviceRecord
from tinyrobust.formats import FormatName
from tinyrobust.records import Part, Record

Provenance = Literal["measured", "emulated", "computed", "modelled", "estimated"]


class Quantity(Part):
    """A number that says where it comes from; `how` in a few words.

    Measured on files and linked programs, emulated on an emulated board, computed from the file, modelled by a processor's
    manual, or estimated under an assumption that `how` states. The unit us is microseconds.
    """

    value: int
    unit: Literal["B", "MAC", "bit", "instructions", "us"]
    provenance: Provenance
    how: str


class LayerFootprint(Part):
    """One operator of the artefact.

    Attributes:
        index: Its position; operators run in this order.
        name: The name of the tensor that it writes, up to the first semicolon.
        op: The operator's name in the schema, such as CONV_2D.
        input_shapes: Shapes of the activations that it reads.
        output_shape: Shape of the first activation that it writes.
        macs: Multiply-accumulates of a convolution, depthwise convolution or dense layer, padding included; 0 for any other.
        weight_count: How many weights it reads.
        weight_bytes: Bytes of these weights as stored in the file.
        weight_kind: What the values really are, whatever type they are stored in.
        weight_bits_needed: Bits that each value really needs: ternary 2, binary 1.
        weight_bytes_packed: Bytes at that many bits, rounded up tensor by tensor.
        bias_bytes: Bytes of its bias as stored.
        quantization_bytes: Bytes of the scales, zero points and ranges of its weights, bias and outputs as stored.
        activation_bytes: Bytes of the activations that it reads and writes.
        arena_bytes: Bytes of all buffers that are alive while it runs, each rounded up to 16 bytes.
    """

    index: int
    name: str
    op: str
    input_shapes: list[list[int]]
    output_shape: list[int]
    macs: int
    weight_count: int
    weight_bytes: int
    weight_kind: FormatName | Literal["none"]
    weight_bits_needed: int
    weight_bytes_packed: int
    bias_bytes: int
    quantization_bytes: int
    activation_bytes: int
    arena_bytes: int


class TensorLifetime(Part):
    """One buffer in the arena: alive from the step that writes it to the last that reads it, both included.

    Attributes:
        name: The tensor's name up to the first semicolon, or the operator whose scratch buffer it is.
        bytes: Its size, rounded up to 16 bytes.
        first: The operator (by index) that writes it; -1 where the caller does, before the first operator.
        last: The last operator that reads it; the last of all for the graph's outputs.
        offset: Where it starts in the arena.
    """

    name: str
    bytes: int
    first: int
    last: int
    offset: int


class BoardFit(Part):
    """Whether the artefact fits a board, and what binds when it does not: "runtime" where that does not run it. Bytes."""

    board: str
    title: str
    flash: int
    ram: int
    flash_needed: int
    ram_needed: int
    fits: bool
    binds: Literal["nothing", "flash", "ram", "flash and ram", "runtime"]


class BoardTime(Part):
    """How long one inference takes on a board.

    Attributes:
        board: The board's name.
        title: What it is called.
        time: Modelled: the least, with flash as fast as the core. Estimated where its core is not modelled.
        at_most: Modelled: the most, with the wait states of its flash and without a cache. None where these are not known.
    """

    board: str
    title: str
    time: Quantity
    at_most: Quantity | None = None

    @property
    def milliseconds(self) -> str:
        """The time in words."""
        least = f"{self.time.value / 1000:,.1f}"
        if self.at_most is not None:
            return f"{least} to {self.at_most.value / 1000:,.1f}"
        return f"{least} or more" if self.time.provenance == "modelled" else least


class DeviceFootprint(Part):
    """The footprint of the C that is generated from the file.

    Attributes:
        flash: Code, tables and weights in the linked program.
        ram: Arena, outputs and the deepest stack.
        instructions: Of one inference.
        bits_per_weight: Bits in flash for each weight of the file, its share of the packing included; 0 without weights.
        boards: Whether the boards have room for it, by the bytes of the emulated board's program.
        times: How long an inference takes, on those of the boards whose core is modelled, or runs the emulated board's
            instructions.
        emulation: What was measured, layer by layer.
    """

    flash: Quantity
    ram: Quantity
    instructions: Quantity
    bits_per_weight: float
    boards: list[BoardFit]
    times: list[BoardTime]
    emulation: DeviceRecord


class FootprintRecord(Record):
    """The footprint of one `.tflite` file.

    `file` is `weights_stored` + `bias` + `quantization` + `structure`. Weights that several operators share count once in
    these totals, and in every one of `layers` that reads them. `fit_counts` says what `boards` count and what not.

    `arena` to `boards` are those of TensorFlow Lite Micro: `arena` is its head, `tflm_own` what it keeps beside that,
    `tflm_ram` all of its RAM, which `boards` count. `tflm_arena` is there where it was measured. `tflm_refused` says why it
    does not run the file (empty: it does, or nothing is known against it). `device` is there where the C was generated and
    emulated, else `device_missing` says why not (empty: it was not tried).

    `layers` are the operators of the first subgraph. `kind` says what the file computes in; `remarks`, what else there is to
    know: state, other subgraphs, custom operators, a plan of memory in the file.
    """

    SCHEMA: ClassVar[str] = "tinyrobust.footprint/2"
    model: str
    sha256: str
    operators: list[str]
    input_shape: list[int]
    output_shape: list[int]
    file: Quantity
    weights_stored: Quantity
    weights_packed: Quantity
    bias: Quantity
    quantization: Quantity
    structure: Quantity
    macs: Quantity
    arena: Quantity
    tflm_flash: Quantity
    tflm_arena: Quantity | None
    layers: list[LayerFootprint]
    lifetimes: list[TensorLifetime]
    boards: list[BoardFit]
    fit_counts: str
    device: DeviceFootprint | None
    device_missing: str
    inputs: list[str] = Field(default_factory=list)
    outputs: list[str] = Field(default_factory=list)
    kind: str = ""
    remarks: list[str] = Field(default_factory=list)
    tflm_own: Quantity | None = None
    tflm_ram: Quantity | None = None
    tflm_refused: str = ""
