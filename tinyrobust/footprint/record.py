"""footprint.json: what a model costs on a microcontroller, each figure with its provenance."""

from typing import ClassVar, Literal

from tinyrobust.records import Part, Record

Provenance = Literal["measured", "emulated", "computed"]


class Quantity(Part):
    """A number that says where it comes from: measured, emulated or computed; `how` in a few words."""

    value: int
    unit: Literal["B", "MAC", "bit"]
    provenance: Provenance
    how: str


class LayerFootprint(Part):
    """One operator of the artefact. Bytes are stored bytes; `weight_bits_needed` is what the values really need."""

    index: int
    name: str
    op: str
    input_shapes: list[list[int]]
    output_shape: list[int]
    macs: int
    weight_count: int
    weight_bytes: int
    weight_kind: Literal["none", "ternary", "binary", "int4", "int8", "int16", "float"]
    weight_bits_needed: int
    weight_bytes_packed: int
    bias_bytes: int
    quantization_bytes: int
    activation_bytes: int
    arena_bytes: int


class TensorLifetime(Part):
    """One tensor in the arena: alive from the step that writes it to the last that reads it, both included."""

    name: str
    bytes: int
    first: int
    last: int
    offset: int


class BoardFit(Part):
    """Whether the artefact fits a board, and what binds when it does not. Bytes."""

    board: str
    title: str
    flash: int
    ram: int
    flash_needed: int
    ram_needed: int
    fits: bool
    binds: Literal["nothing", "flash", "ram", "flash and ram"]


class FootprintRecord(Record):
    """The footprint of one `.tflite` file."""

    SCHEMA: ClassVar[str] = "tinyrobust.footprint/1"
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
    macs: Quantity
    arena: Quantity
    layers: list[LayerFootprint]
    lifetimes: list[TensorLifetime]
    boards: list[BoardFit]
