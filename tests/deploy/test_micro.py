"""What is said of TensorFlow Lite Micro without asking it, asked."""

from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tinyrobust.deploy import micro
from tinyrobust.deploy.sandbox import Limits, Refused, Sandbox

_CODES = {name: value for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}


def _one_operator(code: int) -> bytes:
    """A file of one operator, float32[1, 4] to float32[1, 4]: what else is wrong with it is found later."""
    model, graph, operator, entry = schema.ModelT(), schema.SubGraphT(), schema.OperatorT(), schema.OperatorCodeT()
    entry.builtinCode, entry.deprecatedBuiltinCode, entry.version = code, min(code, 127), 1
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, np.array([0], np.int32), np.array([1], np.int32)
    graph.tensors, graph.operators = [_tensor("in"), _tensor("out")], [operator]
    graph.inputs, graph.outputs = operator.inputs, operator.outputs
    model.version, model.description, model.operatorCodes = 3, "", [entry]
    model.buffers, model.subgraphs = [schema.BufferT()], [graph]
    builder = flatbuffers.Builder(256)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _tensor(name: str) -> Any:
    tensor = schema.TensorT()
    tensor.shape, tensor.type, tensor.buffer, tensor.name = np.array([1, 4], np.int32), schema.TensorType.FLOAT32, 0, name
    return tensor


def _known(content: bytes) -> bool:
    try:
        Sandbox("tflm", content, Limits(), arena=2**16)
    except Refused as error:  # it may also crash on an operator that it knows
        return "Failed to get registration" not in str(error)
    return True


def test_it_has_the_operators_that_are_listed():
    pytest.importorskip("tflite_micro", reason="the extra `mcu` is not installed (Linux x86-64 only)")
    assert {name for name, code in _CODES.items() if name != "CUSTOM" and _known(_one_operator(code))} == micro.OPERATORS
