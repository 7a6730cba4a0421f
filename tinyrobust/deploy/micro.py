"""What TensorFlow Lite Micro makes of a file, told from the file: whether it runs it, what it keeps beside the activations.

Operators and byte counts are those of the pinned `tflite-micro` wheel, reference kernels: a test asks it for each.
"""

import math
from collections.abc import Iterator

from tinyrobust.deploy.artefact import Artefact, Graph, Operator, Tensor

# What the wheel's resolver has.
_NAMES = """
    ABS ADD ADD_N ARG_MAX ARG_MIN ASSIGN_VARIABLE AVERAGE_POOL_2D BATCH_MATMUL BATCH_TO_SPACE_ND BROADCAST_ARGS BROADCAST_TO
    CALL_ONCE CAST CEIL CONCATENATION CONV_2D COS CUMSUM DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE DIV DYNAMIC_UPDATE_SLICE
    ELU EMBEDDING_LOOKUP EQUAL EXP EXPAND_DIMS FILL FLOOR FLOOR_DIV FLOOR_MOD FULLY_CONNECTED GATHER GATHER_ND GREATER
    GREATER_EQUAL HARD_SWISH IF L2_NORMALIZATION L2_POOL_2D LEAKY_RELU LESS LESS_EQUAL LOG LOGICAL_AND LOGICAL_NOT LOGICAL_OR
    LOGISTIC LOG_SOFTMAX MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG NOT_EQUAL PACK PAD PADV2 PRELU QUANTIZE
    READ_VARIABLE REDUCE_ALL REDUCE_MAX REDUCE_MIN RELU RELU6 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR REVERSE_V2 ROUND
    RSQRT SELECT_V2 SHAPE SIN SLICE SOFTMAX SPACE_TO_BATCH_ND SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE
    SQUEEZE STRIDED_SLICE SUB SUM SVDF TANH TRANSPOSE TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM UNPACK VAR_HANDLE WHILE
    ZEROS_LIKE
"""
OPERATORS = frozenset(_NAMES.split())
_CUSTOM = ("TFLite_Detection_PostProcess", "Signal")  # names, or how they begin
# Operators that a compiler puts in the place of a network: the chip, and what is needed instead.
_COMPILED = {
    "ethos-u": "an Arm Ethos-U NPU by Vela",
    "edgetpu-custom-op": "Google's Edge TPU",
    "NeutronGraph": "NXP's Neutron NPU",
}
_WEIGHTED = {"CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "FULLY_CONNECTED": 1, "TRANSPOSE_CONV": 1, "BATCH_MATMUL": 1, "SVDF": 1}
_WEIGHTED |= {"UNIDIRECTIONAL_SEQUENCE_LSTM": 2}
_INPUT = {"TRANSPOSE_CONV": 2}
_PER_CHANNEL = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV")

# Bytes of the 64-bit build, each at least what its recording allocator reports. A 32-bit build keeps a fifth less.
_FIXED, _TENSOR, _NODE, _END, _CHANNEL, _VARIABLE = 704, 24, 96, 96, 8, 32
_KERNEL = {"FULLY_CONNECTED": 112, "SVDF": 112, "UNIDIRECTIONAL_SEQUENCE_LSTM": 896, **dict.fromkeys(_PER_CHANNEL, 128)}
_OTHER_KERNEL = 64
_WIDE_SOFTMAX = 2064  # two tables of 513 16-bit values
_PLANNED = 40  # for each tensor, and once more for each buffer, while the arena is planned
CODE, CODE_OF_A_KIND = 20_480, 3456
STACK = 4096


def refused(artefact: Artefact) -> str:
    """Why TensorFlow Lite Micro does not run a file, in words; empty where nothing is known against it."""
    for graph in artefact.graphs:
        for operator in graph.operators:
            reason = _custom(operator, artefact) or _unknown(operator) or _types(graph, operator)
            if reason:
                return reason
    return ""


def compiled_for(artefact: Artefact) -> str:
    """The accelerator that a file is compiled for, in words; empty where it is for none."""
    codes = (one.name.removeprefix("CUSTOM:") for graph in artefact.graphs for one in graph.operators)
    return next((_COMPILED[code] for code in codes if code in _COMPILED), "")


def _custom(operator: Operator, artefact: Artefact) -> str:
    if not operator.name.startswith("CUSTOM:"):
        return ""
    chip = compiled_for(artefact)
    if chip:
        return f"it is compiled for {chip}, and runs on that chip only: what it was before that compiler is needed here"
    code = operator.name.removeprefix("CUSTOM:")
    if code.startswith(_CUSTOM):
        return ""
    return f"it has no custom operator {code[:80]!r}: a firmware has to register one of its own"


def _unknown(operator: Operator) -> str:
    known = operator.name in OPERATORS or operator.name.startswith("CUSTOM:")
    return "" if known else f"it has no operator {operator.name}"


def _types(graph: Graph, operator: Operator) -> str:
    """Types that its kernels do not take: hybrid ones, half precision, and quantization as it was before 2019."""
    first = _at(_read(graph, operator), 0)
    if operator.name == "DEQUANTIZE" and first is not None and first.dtype == "float16":
        return "its weights are in half precision (float16), which it does not expand"
    pair = _computed(graph, operator)
    if pair is None:
        return ""
    source, weights = pair
    if source.dtype == "float32" and weights.dtype in ("int8", "uint8", "int4", "float16"):
        return (
            f"it is hybrid: {operator.name} has {weights.dtype} weights and float32 activations (dynamic-range quantization); "
            "full integer quantization makes a file that it runs"
        )
    if "uint8" in (source.dtype, weights.dtype):
        return f"{operator.name} computes in uint8, as files did before 2019: its kernels take int8"
    return ""


def _at(tensors: list[Tensor | None], place: int) -> Tensor | None:
    return tensors[place] if 0 <= place < len(tensors) else None


def kind(artefact: Artefact) -> str:
    """What the file computes in, and what that means, in a sentence."""
    pairs = {
        (pair[0].dtype, pair[1].dtype)
        for graph in artefact.graphs
        for operator in graph.operators
        if (pair := _computed(graph, operator))
    }
    sources = {source for source, _ in pairs}
    chip = compiled_for(artefact)
    if chip:
        return f"compiled for {chip}: what it computes in cannot be seen"
    if any(source == "float32" and weights != "float32" for source, weights in pairs):
        return "hybrid: weights are integers, everything else is computed in float32"
    if sources == {"float32"}:
        return "float32: four times the bytes of int8, and slow without a floating-point unit"
    if "int16" in sources:
        return "16x8: int8 weights and int16 activations, which take twice the RAM of int8"
    if len(sources) > 1:
        return f"mixed: computed in {' and '.join(sorted(sources))}"
    return f"{next(iter(sources))}: weights and activations" if sources else "no layer with weights"


def _read(graph: Graph, operator: Operator) -> list[Tensor | None]:
    return [graph.tensors[i] if i >= 0 else None for i in operator.inputs]


def _computed(graph: Graph, operator: Operator) -> tuple[Tensor, Tensor] | None:
    """The activations and the weights that an operator multiplies; None where it is no layer with weights."""
    tensors = _read(graph, operator)
    weights, source = _at(tensors, _WEIGHTED.get(operator.name, -1)), _at(tensors, _INPUT.get(operator.name, 0))
    return None if weights is None or source is None else (source, weights)


def persistent(artefact: Artefact) -> int:
    """Bytes that TensorFlow Lite Micro keeps in the arena beside the activations: a bound on what a 64-bit build records.

    704; 24 a tensor; 96 an operator and 64 to 896 for its kernel's own data; 96 an input or output; 8 an output channel that
    has a scale of its own; the values of variables, and 32 for each.
    """
    total = _FIXED + _END * (len(artefact.inputs) + len(artefact.outputs))
    for graph in artefact.graphs:
        total += _TENSOR * len(graph.tensors)
        total += sum(_VARIABLE + tensor.nbytes for tensor in graph.tensors if tensor.variable)
        total += sum(sum(_kept(graph, operator)) for operator in graph.operators)
    return -(-total // 16) * 16


def _kept(graph: Graph, operator: Operator) -> Iterator[int]:
    tensors, pair = _read(graph, operator), _computed(graph, operator)
    yield _NODE + _KERNEL.get(operator.name, _OTHER_KERNEL)
    if pair and pair[0].dtype != "float32":
        channels = graph.tensors[operator.outputs[0]].shape[-1:] if operator.outputs else ()
        if operator.name in _PER_CHANNEL or pair[1].per_channel:
            yield _CHANNEL * math.prod(channels) + 32
    first = _at(tensors, 0)
    if operator.name == "SOFTMAX" and first is not None and first.dtype == "int16":
        yield _WIDE_SOFTMAX
    elif operator.name == "READ_VARIABLE" and operator.outputs:
        yield _VARIABLE + graph.tensors[operator.outputs[0]].nbytes
    elif operator.name == "BATCH_MATMUL":  # operands turned around
        places = [
            place for place, key, turned in ((0, "adj_x", True), (1, "adj_y", False)) if operator.options.get(key) is turned
        ]
        yield from (operand.nbytes + 64 for place in places if (operand := _at(tensors, place)) is not None)


def planning(artefact: Artefact, buffers: int | None = None) -> int:
    """Bytes beside the persistent data that TensorFlow Lite Micro needs while it plans `buffers` buffers: a bound.

    Without their number, that of the activations and three scratch buffers for each operator stands for it.
    """
    tensors = [tensor for graph in artefact.graphs for tensor in graph.tensors]
    if buffers is None:
        buffers = sum(tensor.data is None for tensor in tensors) + 3 * sum(len(graph.operators) for graph in artefact.graphs)
    return 64 + _PLANNED * (len(tensors) + 2 * buffers)


def beside(artefact: Artefact, head: int, buffers: int | None = None) -> int:
    """Bytes that an arena needs beside its head: the persistent data, and what planning takes beyond the head."""
    return persistent(artefact) + max(0, planning(artefact, buffers) - head)


def code(artefact: Artefact) -> int:
    """Bytes of TensorFlow Lite Micro's code and constants for a file: an estimate from above.

    20,480 and 3,456 for each kind of operator: at least what three networks took (`benchmarks/peers.toml`; Cortex-M4F,
    gcc 12.2 -Os, reference kernels).
    """
    return CODE + CODE_OF_A_KIND * len({one.name for graph in artefact.graphs for one in graph.operators})
