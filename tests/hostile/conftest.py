"""Hostile files, made from honest ones: damaged bytes, and well-formed FlatBuffers that lie."""

import copy
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

Random = np.random.Generator

# Sizes, indices and codes that hurt: edges of types, nothing, just too many, and very many.
_NUMBERS = (-(2**31), -129, -2, -1, 0, 1, 2, 3, 5, 7, 63, 127, 255, 4096, 65_536, 2**20, 2**26, 2**30, 2**31 - 1)
_SCALES = (0.0, -1.0, 1e-38, 1e-45, 1e38, np.inf, -np.inf, np.nan, 1.0)
_OPERATORS = sorted(value for value in vars(schema.BuiltinOperator).values() if isinstance(value, int))
_TYPES = sorted(value for value in vars(schema.TensorType).values() if isinstance(value, int))
_OPTIONS = sorted(name for name in vars(schema) if name.endswith("OptionsT"))


@dataclass(frozen=True)
class Case:
    """A file, and how it was made."""

    name: str
    content: bytes


def damaged(content: bytes, random: Random) -> tuple[str, bytes]:
    """The file with a part cut off, bits flipped, noise, a word replaced or put off alignment; rarely nothing but noise."""
    kinds = ["cut", "flip", "noise", "word", "off alignment", "nothing but noise"]
    kind = random.choice(kinds, p=[0.25, 0.3, 0.2, 0.13, 0.1, 0.02])
    found = bytearray(content)
    if kind == "cut":
        del found[int(random.integers(len(content))) :]
    elif kind == "flip":
        for bit in random.integers(8 * len(content), size=int(random.integers(1, 9))):
            found[bit // 8] ^= 1 << int(bit % 8)
    elif kind == "noise":
        start, size = int(random.integers(len(content))), int(random.integers(1, 257))
        found[start : start + size] = random.bytes(len(found[start : start + size]))
    elif kind == "word":
        for _ in range(int(random.integers(1, 4))):
            place = 4 * int(random.integers(len(content) // 4))
            found[place : place + 4] = (_one(_NUMBERS, random) % 2**32).to_bytes(4, "little")
    elif kind == "off alignment":  # offsets to tables and vectors among them
        for _ in range(int(random.integers(1, 4))):
            place = 4 * int(random.integers(len(content) // 4))
            word = int.from_bytes(found[place : place + 4], "little") + int(random.integers(1, 4))
            found[place : place + 4] = (word % 2**32).to_bytes(4, "little")
    else:
        found = bytearray(b"\x1c\0\0\0TFL3" + random.bytes(int(random.integers(4, 4096))))
    return str(kind), bytes(found)


def lying(content: bytes, random: Random) -> tuple[str, bytes]:
    """The file unpacked, one to three lies told, and packed again by the library that packs honest ones."""
    while True:
        model, told = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0)), []
        for _ in range(_one([1, 1, 1, 2, 3], random)):
            lie = _one(_LIES, random)
            lie(model, random)
            told.append(lie.__name__.strip("_"))
            if not model.subgraphs or not model.subgraphs[0].operators:  # nothing is left to lie about
                break
        try:
            return "+".join(told), _packed(model)
        except (TypeError, struct.error):  # a number that its field cannot hold: another lie is told
            continue


def _packed(model: Any) -> bytes:
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _one(parts: Sequence[Any], random: Random) -> Any:
    return parts[int(random.integers(len(parts)))]


def _tensor(model: Any, random: Random) -> Any:
    return _one(model.subgraphs[0].tensors, random)


def _operator(model: Any, random: Random) -> Any:
    return _one(model.subgraphs[0].operators, random)


def _shape(model: Any, random: Random) -> None:
    tensor = _tensor(model, random)
    shape = [int(size) for size in tensor.shape] if tensor.shape is not None else []
    change = random.integers(5)
    if change == 0 and shape:
        shape[int(random.integers(len(shape)))] = _one(_NUMBERS, random)
    elif change == 1 and shape:
        shape[int(random.integers(len(shape)))] += _one([-1, 1], random)
    elif change == 2:
        random.shuffle(shape)
    elif change == 3:
        shape = shape[:-1]
    else:
        shape = [*shape, _one([1, 2, 64], random)]
    tensor.shape, tensor.shapeSignature = np.array(shape, np.int32), None


def _type(model: Any, random: Random) -> None:
    _tensor(model, random).type = _one(_TYPES, random)


def _buffer(model: Any, random: Random) -> None:
    _tensor(model, random).buffer = _one([0, 1, len(model.buffers) - 1, len(model.buffers), 2**31, 2**32 - 1], random)


def _values(model: Any, random: Random) -> None:
    """Of a constant: fewer, more, others, or somewhere else."""
    filled = [one for one in model.buffers if one.data is not None and len(one.data)]
    if not filled:
        return
    buffer = _one(filled, random)
    data, change = np.asarray(buffer.data, np.uint8), random.integers(4)
    if change == 0:
        buffer.data = data[: int(random.integers(len(data)))]
    elif change == 1:
        buffer.data = np.concatenate([data, data])
    elif change == 2:
        # Axes, shapes and paddings too are constants.
        words = random.choice(np.array(_NUMBERS), len(data) // 4).astype("<i4").view(np.uint8)
        buffer.data = np.concatenate([words, data[len(words) :]])
    else:
        buffer.offset, buffer.size = _one([2, 4096, 2**40, 2**64 - 8], random), _one([1, 100, 2**62], random)


def _quantization(model: Any, random: Random) -> None:
    found = [one for one in model.subgraphs[0].tensors if one.quantization is not None and one.quantization.scale is not None]
    if not found:
        found = [_tensor(model, random)]
        found[0].quantization = schema.QuantizationParametersT()
        found[0].quantization.scale, found[0].quantization.zeroPoint = np.ones(1, np.float32), np.zeros(1, np.int64)
    quantization, change = _one(found, random).quantization, random.integers(6)
    scales, zeros = np.array(quantization.scale, np.float32), np.array(quantization.zeroPoint, np.int64)
    if change == 0 and len(scales):
        scales[random.integers(len(scales))] = _one(_SCALES, random)
    elif change == 1:
        scales[:] = _one(_SCALES, random)
    elif change == 2 and len(zeros):
        zeros[:] = _one([-(2**63), -129, -1, 1, 128, 2**31, 2**63 - 1], random)
    elif change == 3:
        scales = np.resize(scales, _one([0, 1, 2, 3, len(scales) + 1], random))
    elif change == 4:
        zeros = np.resize(zeros, _one([0, 2, len(zeros) + 1], random))
    else:
        quantization.quantizedDimension = _one(_NUMBERS, random)
    quantization.scale, quantization.zeroPoint = scales, zeros


def _unquantized(model: Any, random: Random) -> None:
    _tensor(model, random).quantization = None


def _variable(model: Any, random: Random) -> None:
    _tensor(model, random).isVariable = True


def _indices(model: Any, random: Random) -> None:
    """What an operator or the graph reads or writes: another tensor, none, one more, one less."""
    owner, field = _one([model.subgraphs[0], *2 * model.subgraphs[0].operators], random), _one(["inputs", "outputs"], random)
    values, change = [int(index) for index in getattr(owner, field)], random.integers(4)
    count = len(model.subgraphs[0].tensors)
    other = _one([*random.integers(count, size=6), -1, -2, count, 2**31 - 1], random)
    if change <= 1 and values:
        values[int(random.integers(len(values)))] = other
    elif change == 2:
        values.append(other)
    else:
        values = values[:-1]
    setattr(owner, field, np.array(values, np.int32))


def _code(model: Any, random: Random) -> None:
    """Another operator under the same options."""
    code = _one(model.operatorCodes, random)
    code.builtinCode = _one([*_OPERATORS, -1, 10_000], random)
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)


def _code_index(model: Any, random: Random) -> None:
    _operator(model, random).opcodeIndex = _one([0, len(model.operatorCodes) - 1, len(model.operatorCodes), 2**32 - 1], random)


def _options(model: Any, random: Random) -> None:
    """One option changed, or all of another operator."""
    operator = _operator(model, random)
    if operator.builtinOptions is None or random.random() < 0.2:
        name = _one(_OPTIONS, random)
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, name[:-1], 0)
        operator.builtinOptions = getattr(schema, name)() if operator.builtinOptionsType else None
        return
    numbers = [key for key, value in vars(operator.builtinOptions).items() if isinstance(value, int | float)]
    if numbers:
        key = _one(numbers, random)
        boolean = isinstance(getattr(operator.builtinOptions, key), bool)
        setattr(operator.builtinOptions, key, _one((0, 1) if boolean else _NUMBERS, random))


def _order(model: Any, random: Random) -> None:
    random.shuffle(model.subgraphs[0].operators)


def _one_operator_more(model: Any, random: Random) -> None:
    operators = model.subgraphs[0].operators
    operators.insert(int(random.integers(len(operators) + 1)), copy.deepcopy(_operator(model, random)))


def _one_operator_less(model: Any, random: Random) -> None:
    operators = model.subgraphs[0].operators
    del operators[int(random.integers(len(operators)))]


def _graphs(model: Any, random: Random) -> None:
    model.subgraphs = [] if random.random() < 0.5 else [model.subgraphs[0], copy.deepcopy(model.subgraphs[0])]


def _overflowing(model: Any, random: Random) -> None:
    """Sizes each of which is usual, and whose product is not."""
    sizes = _one([(2**16, 2**16, 2**16, 2**16), (2**31 - 1, 2**31 - 1), (2**21, 2**21, 2**22), (65_537, 65_537)], random)
    _tensor(model, random).shape = np.array(sizes, np.int32)


def _nothing_inside(model: Any, random: Random) -> None:
    """A bias without values, or a filter without channels."""
    weighted = [one for one in model.subgraphs[0].operators if len(one.inputs) > 1]
    if not weighted:
        return
    operator = _one(weighted, random)
    tensor = model.subgraphs[0].tensors[_one([index for index in operator.inputs[1:] if index >= 0] or [0], random)]
    tensor.shape = np.array([0] if random.random() < 0.5 else [*tensor.shape[:-1], 0], np.int32)
    if random.random() < 0.5:
        model.buffers[tensor.buffer].data = np.zeros(0, np.uint8)


def _endless(model: Any, random: Random) -> None:
    """A loop whose condition is its body, or the graph that it is in."""
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode = schema.BuiltinOperator.WHILE, schema.BuiltinOperator.WHILE
    model.operatorCodes.append(code)
    model.subgraphs.append(copy.deepcopy(model.subgraphs[0]))
    operator = _operator(model, random)
    operator.opcodeIndex = len(model.operatorCodes) - 1
    operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.WhileOptions, schema.WhileOptionsT()
    operator.builtinOptions.condSubgraphIndex = _one([0, 1], random)
    operator.builtinOptions.bodySubgraphIndex = _one([0, 1], random)


def _version(model: Any, random: Random) -> None:
    model.version = _one([0, 1, 2, 4, 2**32 - 1], random)


def _name(model: Any, random: Random) -> None:
    texts = (
        "",
        "x" * 100_000,
        "../../etc/passwd",
        "*/ int main(){} /*",
        "<script>alert(1)</script>",
        "\n\0\x1b[2J",
        "%s%n",
        "{0}",
    )
    _tensor(model, random).name = _one(texts, random)


# Those with most to lie about come up more often.
_LIES: tuple[Callable[[Any, Random], None], ...] = (
    *3 * (_shape, _options, _indices, _quantization, _code),
    *2 * (_type, _buffer, _values),
    *(_overflowing, _nothing_inside, _endless),
    *(_unquantized, _variable, _code_index, _order, _one_operator_more, _one_operator_less, _graphs, _version, _name),
)


@pytest.fixture(scope="session")
def hostile() -> Callable[[list[Path], int, int], Iterator[Case]]:
    """`hostile(sources, count, seed)`: so many files, half damaged and half lying, made from each of the sources in turn."""

    def make(sources: list[Path], count: int, seed: int) -> Iterator[Case]:
        contents = [source.read_bytes() for source in sources]
        for number in range(count):
            random = np.random.default_rng([seed, number])
            place = number // 2 % len(sources)
            kind, content = (damaged, lying)[number % 2](contents[place], random)
            yield Case(f"{seed}-{number} {sources[place].stem}: {kind}", content)

    return make
