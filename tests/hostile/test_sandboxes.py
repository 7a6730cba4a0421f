"""What a file can do to the process that it runs in, and what is left of it outside."""

import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tinyrobust.deploy import tflm
from tinyrobust.deploy.artefact import read
from tinyrobust.deploy.cgen.generate import generate
from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.deploy.sandbox import Limits, Refused, Sandbox
from tinyrobust.errors import DataError, ModelFileError


@pytest.fixture
def made(small_tflite: Path, tmp_path: Path, changed: Callable[..., Path]) -> Callable[[Callable[[Any], None]], Path]:
    """`made(change)`: the small file after a change to its unpacked model."""
    return functools.partial(changed, small_tflite, tmp_path / "made.tflite")


def _without_bias(model: Any) -> None:
    """LiteRT's depthwise kernel reads a bias that is not there."""
    depthwise = model.subgraphs[0].operators[1]
    depthwise.inputs = depthwise.inputs[:2]


def _endless(model: Any) -> None:
    """A depthwise convolution of half a teramultiplication, in a file of half a megabyte."""
    graph = model.subgraphs[0]
    image, kernel, bias, output = (graph.tensors[i] for i in (*graph.operators[1].inputs, graph.operators[1].outputs[0]))
    image.shape = output.shape = np.array([1, 1024, 1024, 8], np.int32)
    kernel.shape, bias.shape = np.array([1, 255, 255, 8], np.int32), np.array([8], np.int32)
    for tensor, size in ((image, 0), (kernel, 255 * 255 * 8), (bias, 32), (output, 0)):
        if size:
            tensor.buffer = len(model.buffers)  # of its own: small constants share one
            model.buffers.append(schema.BufferT())
            model.buffers[-1].data = np.ones(size, np.uint8)
        scales = 8 if size else 1
        tensor.quantization.scale, tensor.quantization.zeroPoint = np.ones(scales, np.float32), np.zeros(scales, np.int64)
    scores = graph.tensors[graph.outputs[0]]
    scores.shape = np.array([1, 8], np.int32)
    graph.inputs = graph.operators[0].outputs
    pool = graph.operators[4]
    pool.inputs = np.array([graph.operators[1].outputs[0], pool.inputs[1]], np.int32)
    pool.outputs = graph.outputs
    pool.builtinOptions.keepDims = False
    graph.operators = [graph.operators[1], pool]


def _bomb(model: Any) -> None:
    """Paddings of two gigabytes around a small image, to an output that is said to be small."""
    graph = model.subgraphs[0]
    axes = graph.tensors[graph.operators[4].inputs[1]]
    axes.shape = np.array([4, 2], np.int32)
    model.buffers[axes.buffer].data = np.array([0, 0, 0, 23_000, 0, 23_000, 0, 0], "<i4").view(np.uint8)
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.PAD
    code.version = 2
    model.operatorCodes.append(code)
    pad = graph.operators[4]
    pad.opcodeIndex, pad.builtinOptionsType, pad.builtinOptions = len(model.operatorCodes) - 1, 0, None
    source, output = graph.tensors[pad.inputs[0]], graph.tensors[pad.outputs[0]]
    output.quantization = source.quantization


@pytest.mark.parametrize(
    ("change", "said"),
    [(_without_bias, r"crashes the interpreter \(SIG"), (_endless, "more than 1 s of processor time"), (_bomb, "memory")],
    ids=["crash", "hang", "allocation bomb"],
)
def test_it_becomes_an_error_that_says_which_file(change, said, made, small_tflite) -> None:
    path, began = made(change), time.monotonic()
    with pytest.raises(ModelFileError, match=rf"made\.tflite cannot be run by the interpreter: .*{said}") as caught:
        Int8Model(path, Limits(seconds=1))
    assert time.monotonic() - began < 30
    assert "Export the model again" in str(caught.value.hint)
    assert Int8Model(small_tflite).classes == 3  # the next file runs as if nothing had been


def test_a_crash_of_tensorflow_lite_micro_is_an_error_too(made) -> None:
    pytest.importorskip("tflite_micro", reason="the extra `mcu` is not installed (Linux x86-64 only)")
    with pytest.raises(ModelFileError, match="cannot be run by TensorFlow Lite Micro"):
        tflm.outputs(made(_bomb), np.zeros((1, 64), np.int8))


def test_a_process_that_is_killed_is_told(small_tflite) -> None:
    others = _sandboxes()
    model, x = Int8Model(small_tflite), np.zeros((1, 8, 8, 1), np.float32)
    before = model.predict(x)
    (sandbox,) = (sandbox for supervisor in _sandboxes() - others for sandbox in _children(supervisor))
    os.kill(sandbox, signal.SIGKILL)
    with pytest.raises(ModelFileError, match="killed from outside"):
        model.predict(x)
    with pytest.raises(ModelFileError, match="does not answer"):  # it is not quietly replaced: the file may be the cause
        model.predict(x)
    np.testing.assert_array_equal(Int8Model(small_tflite).predict(x), before)


def test_when_the_fork_server_is_killed_another_is_started(small_tflite) -> None:
    model = Int8Model(small_tflite)
    os.kill(_fork_servers()[0], signal.SIGKILL)
    time.sleep(0.2)
    x = np.zeros((1, 8, 8, 1), np.float32)
    np.testing.assert_array_equal(Int8Model(small_tflite).predict(x), model.predict(x))


def test_a_sandbox_ends_with_its_model(small_tflite) -> None:
    before = _sandboxes()
    models = [Int8Model(small_tflite) for _ in range(3)]
    mine = _sandboxes() - before
    assert len(mine) == 2 * 3  # each with its supervisor
    del models
    deadline = time.monotonic() + 20
    while mine.intersection(_sandboxes()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not mine.intersection(_sandboxes())


_ENDLESS = """
import sys
from pathlib import Path
from tinyrobust.deploy.interpreter import Int8Model, Limits
Int8Model(Path(sys.argv[1]), Limits(seconds=600))
"""


def test_a_sandbox_that_computes_for_ever_ends_when_its_caller_is_killed(made) -> None:
    caller = subprocess.Popen([sys.executable, "-c", _ENDLESS, str(made(_endless))])
    deadline, family = time.monotonic() + 60, []
    while len(family) < 3:  # fork server, supervisor, sandbox
        assert time.monotonic() < deadline
        time.sleep(0.1)
        family = _descendants(caller.pid)
    caller.kill()
    caller.wait()
    while any(_running(process) for process in family):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_many_images_are_spread_over_the_cores_and_answered_in_order(small_tflite) -> None:
    x = np.random.default_rng(0).integers(-128, 128, (20_000, 8, 8, 1)).astype(np.int8)
    before = _sandboxes()
    model = Int8Model(small_tflite)
    alone = np.concatenate([model.run(part) for part in np.array_split(x, 200)])
    np.testing.assert_array_equal(model.run(x), alone)
    assert len(_sandboxes() - before) == 2 * len(os.sched_getaffinity(0))


def test_a_refused_input_leaves_the_sandbox_as_it_was(small_tflite) -> None:
    sandbox = Sandbox("litert", small_tflite.read_bytes(), Limits())
    with pytest.raises(Refused):
        list(sandbox.run(np.zeros((2, 7), np.int8), [14]))
    assert len(b"".join(sandbox.run(np.zeros((2, 64), np.int8), [14]))) == 2 * 3


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_inputs_that_are_no_numbers_are_refused(value, small_tflite) -> None:
    x = np.zeros((3, 8, 8, 1), np.float32)
    x[1, 2, 3, 0] = value
    with pytest.raises(DataError, match="Received: NaN or infinite values in 1 of 3"):
        Int8Model(small_tflite).predict(x)


def _children(parent: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def _descendants(parent: int) -> list[int]:
    try:
        return [one for child in _children(parent) for one in (child, *_descendants(child))]
    except OSError:  # it has just ended
        return []


def _running(process: int) -> bool:
    """Whether it is there, and not only waits to be forgotten by its parent."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _fork_servers() -> list[int]:
    scripts = {child: Path(f"/proc/{child}/cmdline").read_bytes() for child in _children(os.getpid())}
    return [child for child, script in scripts.items() if b"sandbox_worker.py" in script and b"litert" in script]


def _sandboxes() -> set[int]:
    """Supervisors and their sandboxes."""
    return {process for server in _fork_servers() for process in _descendants(server)}


def test_a_file_that_takes_no_bytes_is_asked_with_none(made: Callable[[Callable[[Any], None]], Path]) -> None:
    def empty(model: Any) -> None:
        graph = model.subgraphs[0]
        graph.tensors[graph.inputs[0]].shape = np.array([1, 0, 0, 1], np.int32)

    answers = tflm.outputs_of(made(empty).read_bytes(), "empty", np.zeros((2, 0), np.int8))
    np.testing.assert_array_equal(answers[0], answers[1])


def test_an_output_that_nothing_computes_has_no_c(made: Callable[[Callable[[Any], None]], Path], tmp_path: Path) -> None:
    def constant(model: Any) -> None:
        graph = model.subgraphs[0]
        kernel = graph.tensors[graph.operators[-1].inputs[1]]
        kernel.quantization.scale, kernel.quantization.zeroPoint = np.ones(1, np.float32), np.zeros(1, np.int64)
        graph.outputs = np.array([graph.operators[-1].inputs[1]], np.int32)

    with pytest.raises(ModelFileError, match="Expected an output that operators compute"):
        generate(read(made(constant)), "constant", tmp_path)
