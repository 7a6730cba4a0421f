"""The one door for .tflite files: real files read right, and every broken one is a ModelFileError."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tinyrobust.deploy.artefact import Artefact, read
from tinyrobust.errors import ModelFileError

PEERS = ("ds-cnn-ternary", "mlperf-tiny-ic", "mlperf-tiny-kws")


def _int32(values: list[int]) -> np.ndarray:
    return np.array(values, np.int32)


def test_a_small_file_is_read(small_tflite):
    model = read(small_tflite)
    names = ["CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "ADD", "MEAN", "FULLY_CONNECTED"]
    assert [operator.name for operator in model.operators] == names
    assert [operator.index for operator in model.operators] == list(range(6))
    assert model.size == small_tflite.stat().st_size
    (image,) = (model.tensors[i] for i in model.inputs)
    assert (image.shape, image.dtype, image.data, image.per_channel) == ((1, 8, 8, 1), "int8", None, False)
    assert image.scales[0] == pytest.approx(1 / 255, rel=0.02)
    assert model.tensors[model.outputs[0]].shape == (1, 3)
    stem = model.operators[0]
    assert stem.options["padding"] == "SAME"
    assert stem.options["fused_activation_function"] == "RELU6"
    assert (stem.options["stride_w"], stem.options["dilation_w_factor"]) == (1, 1)
    weights = model.tensors[stem.inputs[1]]
    assert weights.per_channel
    assert weights.quantized_dimension == 0
    assert weights.scales.shape == weights.zero_points.shape == (4,)
    assert weights.data is not None
    assert weights.data.shape == weights.shape == (4, 3, 3, 1)
    assert (weights.count, weights.bits, weights.nbytes, weights.stored_bytes) == (36, 8, 36, 36)
    assert weights.quantization_bytes == 4 * (4 + 8)


def test_constants_cannot_be_changed(small_tflite):
    weights = next(t for t in read(small_tflite).tensors if t.data is not None)
    with pytest.raises(ValueError, match="read-only"):
        weights.data[...] = 0


def test_the_values_are_those_of_the_interpreter(small_tflite):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(small_tflite))
    interpreter.allocate_tensors()
    details = {detail["index"]: detail for detail in interpreter.get_tensor_details()}
    constants = [tensor for tensor in read(small_tflite).tensors if tensor.data is not None]
    assert len(constants) > 5
    for tensor in constants:
        np.testing.assert_array_equal(tensor.data, interpreter.get_tensor(tensor.index))
        np.testing.assert_array_equal(tensor.scales, details[tensor.index]["quantization_parameters"]["scales"])
        np.testing.assert_array_equal(tensor.zero_points, details[tensor.index]["quantization_parameters"]["zero_points"])


@pytest.mark.parametrize("name", PEERS)
def test_peer_models_are_read(shared, name, within):
    path = shared / "peers" / f"{name}.tflite"
    with within(2):
        model = read(path)
    assert model.size == path.stat().st_size
    assert {operator.name for operator in model.operators} >= {"CONV_2D", "AVERAGE_POOL_2D", "RESHAPE", "FULLY_CONNECTED"}


def test_four_bit_values_are_unpacked(small_tflite, changed, tmp_path):
    values = np.array([[-8, 7, 0], [1, -1, 3], [5, -6, 2]], np.int8)  # nine values: the last byte is half empty
    nibbles = np.append(values.reshape(-1), 0).astype(np.uint8) & 15

    def change(model: Any) -> None:
        tensor = model.subgraphs[0].tensors[model.subgraphs[0].operators[-1].inputs[1]]
        tensor.type, tensor.shape, tensor.shapeSignature, tensor.quantization = (
            schema.TensorType.INT4,
            _int32([3, 3]),
            None,
            None,
        )
        model.buffers[tensor.buffer].data = nibbles[0::2] | nibbles[1::2] << 4

    model = read(changed(small_tflite, tmp_path / "int4.tflite", change))
    weights = model.tensors[model.operators[-1].inputs[1]]
    assert (weights.dtype, weights.bits, weights.nbytes, weights.stored_bytes) == ("int4", 4, 5, 5)
    np.testing.assert_array_equal(weights.data, values)


def _tensor(model: Any, operator: int, position: int) -> Any:
    graph = model.subgraphs[0]
    return graph.tensors[graph.operators[operator].inputs[position]]


def _set(target: Callable[[Any], Any], **values: Any) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        for name, value in values.items():
            setattr(target(model), name, value)

    return change


CONTRADICTIONS = {
    "no subgraph": (lambda m: m.subgraphs.clear(), "1 to 64 subgraphs"),
    "many subgraphs": (lambda m: m.subgraphs.extend(m.subgraphs * 64), "1 to 64 subgraphs|overlap"),
    "old schema": (_set(lambda m: m, version=2), "schema version 3"),
    "input out of range": (_set(lambda m: m.subgraphs[0], inputs=_int32([999])), "inputs: Expected tensors"),
    "output out of range": (_set(lambda m: m.subgraphs[0].operators[0], outputs=_int32([-1])), "outputs: Expected tensors"),
    "operand out of range": (_set(lambda m: m.subgraphs[0].operators[1], inputs=_int32([0, 999])), "operator 1"),
    "operator code out of range": (_set(lambda m: m.subgraphs[0].operators[1], opcodeIndex=77), "operator code below"),
    "unknown operator": (_set(lambda m: m.operatorCodes[0], builtinCode=100_000), "operator code 100000"),
    "buffer out of range": (_set(lambda m: _tensor(m, 0, 1), buffer=999), "buffer 999"),
    "negative size": (_set(lambda m: _tensor(m, 0, 1), shape=_int32([-4, 3, 3, 1])), r"shape \(-4, 3, 3, 1\)"),
    "huge size": (_set(lambda m: _tensor(m, 1, 0), shape=_int32([2**30, 2**30])), "Expected sizes"),
    "many dimensions": (_set(lambda m: _tensor(m, 1, 0), shape=np.ones(9, np.int32)), "at most 8 dimensions"),
    "shape larger than its buffer": (_set(lambda m: _tensor(m, 0, 1), shape=_int32([5, 3, 3, 1])), "Expected 45 bytes"),
    "type wider than its buffer": (_set(lambda m: _tensor(m, 0, 1), type=schema.TensorType.INT32), "Expected 144 bytes"),
    "strings": (_set(lambda m: _tensor(m, 0, 1), type=schema.TensorType.STRING), "type of fixed size"),
    "unknown type": (_set(lambda m: _tensor(m, 0, 1), type=99), "type number 99"),
    "scales for another axis": (_set(lambda m: _tensor(m, 0, 1).quantization, quantizedDimension=1), "a scale per channel"),
    "scale that is no number": (
        _set(lambda m: _tensor(m, 0, 0).quantization, scale=np.array([np.nan], np.float32)),
        "finite scales",
    ),
    "zero point out of range": (
        _set(lambda m: _tensor(m, 0, 0).quantization, zeroPoint=np.array([200])),
        "zero points from -128",
    ),
    "reads what is not written": (lambda m: m.subgraphs[0].operators.pop(0), "written by then"),
    "writes twice": (
        lambda m: setattr(m.subgraphs[0].operators[1], "outputs", m.subgraphs[0].operators[0].outputs),
        "nothing else writes",
    ),
    "output that nothing writes": (lambda m: m.subgraphs[0].operators.pop(), "outputs that an operator writes"),
    "no inputs": (_set(lambda m: m.subgraphs[0], inputs=np.array([], np.int32)), "Expected inputs and outputs"),
    "no operators": (lambda m: m.subgraphs[0].operators.clear(), "operators"),
    "options of another operator": (
        _set(
            lambda m: m.subgraphs[0].operators[0], builtinOptionsType=schema.BuiltinOptions.SoftmaxOptions, builtinOptions=None
        ),
        "options of type",
    ),
    "unknown padding": (_set(lambda m: m.subgraphs[0].operators[0].builtinOptions, padding=9), "padding to be one of"),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_file_that_contradicts_itself_is_refused(small_tflite, changed, tmp_path, name):
    change, message = CONTRADICTIONS[name]
    path = changed(small_tflite, tmp_path / "contradiction.tflite", change)
    with pytest.raises(ModelFileError, match=message) as caught:
        read(path)
    assert str(path) in caught.value.message
    assert "Expected" in caught.value.message
    assert "Received" in caught.value.message


@pytest.mark.parametrize(
    "content", [b"", b"TFL3", b"\0" * 100, b"PK\3\4" + b"x" * 500, b"\x1c\0\0\0TFL3", bytes(range(256)) * 40]
)
def test_something_else_is_refused(tmp_path, content):
    path = tmp_path / "other.tflite"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"other\.tflite.*Expected.*Received"):
        read(path)


STRANGERS = {
    "git lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n", "Git LFS pointer", "git lfs pull"),
    "web page": (b"\n<!DOCTYPE html>\n<html><head></head></html>", "web page", "raw"),
    "program": (b"\x7fELF\1\1\1" + bytes(60), "a program", "built from"),
    "uf2": (b"UF2\nWQ]\x9e" + bytes(60), "firmware image", "built from"),
    "intel hex": (b":020000040800F2\r\n:10000000000002206D1000080910000811100008CC\r\n", "Intel HEX", "built from"),
    "vector table": (np.array([0x20020000, 0x08000141, 0x08000155, 0x08000159], "<u4").tobytes() * 9, "firmware", "built from"),
    "zip": (b"PK\3\4" + b"x" * 500, "zip archive", "Unpack"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(60), "HDF5", "Convert"),
    "c array": (b"#include <stdint.h>\nconst unsigned char g_model[] = {0x1c, 0x00};", "C source", "bytes into a file"),
    "json": (b'{"type": "micro", "model": "okay_nabu.tflite"}', "JSON", "the .tflite that it names"),
    "text": (b"404: Not Found", "text", "the model itself"),
    "empty": (b"", "an empty file", "again"),
    "no identifier": (b"\x1c\0\0\0" + bytes(4) + b"\x14\0\0\0" * 10, "identifier", "export the model again"),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_what_it_is_instead_is_named_with_what_to_do(tmp_path, name):
    content, what, hint = STRANGERS[name]
    path = tmp_path / "stranger.tflite"
    path.write_bytes(content)
    with pytest.raises(
        ModelFileError, match=rf"stranger\.tflite is not a \.tflite file: Expected .*Received: .*{what}"
    ) as caught:
        read(path)
    assert hint in str(caught.value.hint)
    assert "download is complete" not in str(caught.value)


def test_a_firmware_image_says_where_a_model_begins(small_tflite, tmp_path):
    path = tmp_path / "firmware.bin"
    path.write_bytes(b"\x7fELF" + bytes(1020) + small_tflite.read_bytes())
    with pytest.raises(ModelFileError) as caught:
        read(path)
    assert "at byte 1024" in str(caught.value.hint)


def test_a_tail_changes_nothing(small_tflite, tmp_path):
    """Metadata of TensorFlow Lite's task library are a zip archive behind the model."""
    path = tmp_path / "tail.tflite"
    path.write_bytes(small_tflite.read_bytes() + b"PK\3\4labels.txt" + bytes(100))
    assert [one.name for one in read(path).operators] == [one.name for one in read(small_tflite).operators]


def test_a_bias_with_the_axis_of_its_weights_is_read(small_tflite, tmp_path, changed):
    path = changed(small_tflite, tmp_path / "stray.tflite", _set(lambda m: _tensor(m, 0, 2).quantization, quantizedDimension=3))
    bias = read(path).tensors[read(path).operators[0].inputs[2]]
    assert (bias.shape, bias.scales.size, bias.quantized_dimension) == ((4,), 4, 0)


def test_what_no_runtime_takes_is_no_broken_download(small_tflite, tmp_path, changed):
    path = changed(small_tflite, tmp_path / "strings.tflite", _set(lambda m: _tensor(m, 0, 1), type=schema.TensorType.STRING))
    with pytest.raises(ModelFileError) as caught:
        read(path)
    assert "TensorFlow Lite Micro does not run" in str(caught.value.hint)


def _called(model: Any, number: int, *, loop: bool = False) -> None:
    """An operator that calls a subgraph, before all others: CALL_ONCE, or WHILE whose condition is its body."""
    code = schema.OperatorCodeT()
    code.builtinCode = schema.BuiltinOperator.WHILE if loop else schema.BuiltinOperator.CALL_ONCE
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    operator = schema.OperatorT()
    operator.opcodeIndex = len(model.operatorCodes)
    operator.inputs = operator.outputs = _int32([])
    if loop:
        operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.WhileOptions, schema.WhileOptionsT()
        operator.builtinOptions.condSubgraphIndex = operator.builtinOptions.bodySubgraphIndex = number
    else:
        operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.CallOnceOptions, schema.CallOnceOptionsT()
        operator.builtinOptions.initSubgraphIndex = number
    model.operatorCodes.append(code)
    model.subgraphs[0].operators.insert(0, operator)


@pytest.mark.parametrize(
    ("number", "loop", "message"),
    [(0, False, "calls itself"), (7, False, "subgraphs from 0 to 0"), (-1, False, "subgraphs from"), (0, True, "an output")],
)
def test_calls_without_end_or_target_are_refused(small_tflite, tmp_path, changed, number, loop, message):
    path = changed(small_tflite, tmp_path / "calls.tflite", lambda m: _called(m, number, loop=loop))
    with pytest.raises(ModelFileError, match=message):
        read(path)


def test_calls_that_double_at_every_level_are_bounded(small_tflite, tmp_path, changed, within):
    def change(model: Any) -> None:
        once = model.subgraphs[0]
        for level in range(20):
            _called(model, level + 1)
            _called(model, level + 1)
            model.subgraphs[0].operators, calls = once.operators[2:], once.operators[:2]
            graph = schema.SubGraphT()
            graph.tensors, graph.inputs, graph.outputs, graph.operators = [], _int32([]), _int32([]), []
            model.subgraphs.append(graph)
            (once if level == 0 else model.subgraphs[level]).operators = calls + (once.operators if level == 0 else [])

    path = changed(small_tflite, tmp_path / "doubling.tflite", change)
    with within(4), pytest.raises(ModelFileError, match="operators in one inference"):
        read(path)


def test_what_is_no_file_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "absent.tflite", Path("/dev/null"), Path("nul\0byte.tflite"), tmp_path / ("x" * 5000)):
        with pytest.raises(ModelFileError):
            read(path)


@pytest.fixture
def outcome(tmp_path, within) -> Callable[[bytes], Artefact | None]:
    """`outcome(content)` is what is read, or None where it is refused; anything else, and more than seconds, fails the test."""

    def find(content: bytes) -> Artefact | None:
        path = tmp_path / "damaged.tflite"
        path.write_bytes(content)
        with within(4), suppress(ModelFileError):
            return read(path)
        return None

    return find


def test_every_truncation_is_refused(small_tflite, outcome):
    content = small_tflite.read_bytes()
    needed = max(length for length in range(0, len(content), 16) if outcome(content[:length]) is None)
    assert needed > 0.9 * len(content)  # what may be missing at the end is padding, or parts that are not read


def _damaged(content: bytes, seed: int, cases: int) -> list[bytes]:
    """Single bytes changed, then whole words replaced by values that hurt."""
    random = np.random.default_rng(seed)
    results = []
    for case in range(cases):
        damaged = bytearray(content)
        if case % 2:
            damaged[random.integers(len(content))] ^= int(random.integers(1, 256))
        else:
            position = 4 * int(random.integers(2, len(content) // 4))
            damaged[position : position + 4] = int(
                random.choice([0, 1, 8, 2**31 - 1, 2**31, 2**32 - 1, len(content)])
            ).to_bytes(4, "little")
        results.append(bytes(damaged))
    return results


def test_damaged_bytes_never_do_more_than_refuse(small_tflite, outcome):
    refused = sum(outcome(content) is None for content in _damaged(small_tflite.read_bytes(), 1, 800))
    assert 100 < refused < 700


@pytest.mark.parametrize("name", PEERS)
def test_damaged_peers_never_do_more_than_refuse(shared, outcome, name):
    for content in _damaged((shared / "peers" / f"{name}.tflite").read_bytes(), 2, 150):
        outcome(content)


def test_parts_that_overlap_again_and_again_cost_little(tmp_path, within):
    builder = flatbuffers.Builder(1024)
    inputs = builder.CreateNumpyVector(np.zeros(50_000, np.int32))
    outputs = builder.CreateNumpyVector(np.ones(1, np.int32))
    schema.OperatorStart(builder)
    schema.OperatorAddInputs(builder, inputs)
    schema.OperatorAddOutputs(builder, outputs)
    operator = schema.OperatorEnd(builder)
    schema.SubGraphStartOperatorsVector(builder, 4000)
    for _ in range(4000):
        builder.PrependUOffsetTRelative(operator)  # 4,000 operators of 50,000 inputs each, in 216 KB
    operators = builder.EndVector()
    schema.TensorStart(builder)
    tensor = schema.TensorEnd(builder)
    schema.SubGraphStartTensorsVector(builder, 8000)
    for _ in range(8000):
        builder.PrependUOffsetTRelative(tensor)
    tensors = builder.EndVector()
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, tensors)
    schema.SubGraphAddOperators(builder, operators)
    graph = schema.SubGraphEnd(builder)
    schema.BufferStart(builder)
    buffer = schema.BufferEnd(builder)
    schema.OperatorCodeStart(builder)
    code = schema.OperatorCodeEnd(builder)
    vectors = []
    for start, part in (
        (schema.ModelStartSubgraphsVector, graph),
        (schema.ModelStartBuffersVector, buffer),
        (schema.ModelStartOperatorCodesVector, code),
    ):
        start(builder, 1)
        builder.PrependUOffsetTRelative(part)
        vectors.append(builder.EndVector())
    schema.ModelStart(builder)
    schema.ModelAddVersion(builder, 3)
    schema.ModelAddSubgraphs(builder, vectors[0])
    schema.ModelAddBuffers(builder, vectors[1])
    schema.ModelAddOperatorCodes(builder, vectors[2])
    builder.Finish(schema.ModelEnd(builder), b"TFL3")
    path = tmp_path / "bomb.tflite"
    path.write_bytes(builder.Output())
    with within(4), pytest.raises(ModelFileError, match="overlap again and again"):
        read(path)


def test_reading_needs_no_tensorflow(checkout):
    code = (
        "import sys, tinyrobust.footprint.measure as _; print([m for m in ('tensorflow', 'keras', 'art') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
