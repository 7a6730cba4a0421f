"""The fast kernels as processors run them: shapes at the edges of each, on emulated cores with and without DSP."""

import shutil

import numpy as np
import pytest

from tinyrobust.deploy.artefact import read
from tinyrobust.deploy.cgen.generate import generate
from tinyrobust.deploy.emulator import emulate

TERNARY, BINARY, FOUR, INT8 = (-127, 0, 127), (-127, 127), (-127, -42, 42, 127), tuple(range(-127, 128))
_FEW = {f"tr_fast_depthwise{name}" for name in ("_3x3_strided", "_ternary", "_ternary_3x3", "_ternary_pairs")}
_MANY = {f"tr_fast_depthwise{name}" for name in ("", "_3x3", "_3x3_strided")}
KERNELS = {
    TERNARY: {"tr_fast_conv_ternary", *_FEW},
    BINARY: {"tr_fast_conv_binary", *_FEW},
    FOUR: {"tr_fast_conv_packed", *_MANY},
    INT8: {"tr_fast_conv", *_MANY},
}
CORES = (("mps2-an385", "-Os"), ("mps2-an386", "-Os"), ("mps2-an386", "-O2"), ("mps3-an547", "-Os"))


@pytest.fixture(scope="module", params=(TERNARY, BINARY, FOUR, INT8), ids=("ternary", "binary", "four", "int8"))
def model(request, graph, tmp_path_factory):
    """Strided and padded windows, rows of depthwise taps of one and of two words, groups of pixels that are not full."""
    random = np.random.default_rng(0)
    net = graph()
    source = net.tensor((1, 9, 7, 5), 0.05, -7)

    def layer(x, op, shape, out, step, zero, **options):
        axis = 3 if op == "DEPTHWISE_CONV_2D" else 0
        count = shape[axis]
        scales = np.full(count, 0.01) if request.param in (TERNARY, BINARY) else random.uniform(0.004, 0.01, count)
        weights = net.tensor(shape, scales, 0, random.choice(request.param, shape), axis=axis)
        bias = net.tensor((count,), net.grids[x][0] * scales, 0, random.integers(-999, 999, count), dtype="int32")
        return net.op(op, [x, weights, bias], net.tensor(out, step, zero), **options)

    def window(stride, dilation=1):
        return {"strideH": stride, "strideW": stride, "dilationHFactor": dilation, "dilationWFactor": 1}

    x = layer(source, "CONV_2D", (34, 3, 3, 5), (1, 9, 7, 34), 0.2, -128, fusedActivationFunction=1, **window(1))
    x = layer(x, "DEPTHWISE_CONV_2D", (1, 3, 3, 34), (1, 9, 7, 34), 0.4, -128, depthMultiplier=1, **window(1))
    x = layer(x, "CONV_2D", (34, 1, 1, 34), (1, 9, 7, 34), 2.0, 3, **window(1))
    x = layer(x, "DEPTHWISE_CONV_2D", (1, 3, 3, 34), (1, 5, 4, 34), 4.0, 0, depthMultiplier=1, **window(2))
    x = layer(
        x,
        "DEPTHWISE_CONV_2D",
        (1, 3, 3, 34),
        (1, 5, 4, 34),
        6.0,
        -50,
        fusedActivationFunction=1,
        depthMultiplier=1,
        **window(1),
    )
    x = layer(x, "DEPTHWISE_CONV_2D", (1, 2, 5, 34), (1, 5, 4, 34), 8.0, -5, depthMultiplier=1, **window(1, 2))
    x = layer(x, "CONV_2D", (70, 3, 2, 34), (1, 2, 2, 70), 60.0, 0, padding=0, **window(2) | {"strideH": 3})
    flat = net.tensor((1, 280), *net.grids[x])
    x = net.op("RESHAPE", [x, net.tensor((2,), data=(1, 280), dtype="int32")], flat, newShape=[1, 280])
    x = layer(x, "FULLY_CONNECTED", (11, 280), (1, 11), 400.0, 9)
    return net.save(tmp_path_factory.mktemp("fast") / "fast.tflite", source, x), KERNELS[request.param]


@pytest.fixture(scope="module", params=(FOUR, INT8), ids=("four", "int8"))
def dense(request, graph, tmp_path_factory):
    """Outputs by fours, of which the last are not full; taps that are no multiple of four; fewer outputs than four."""
    kernels = {"tr_lean_conv"} if request.param is FOUR else {"tr_fast_dense", "tr_lean_conv"}
    random, net = np.random.default_rng(0), graph()
    x = source = net.tensor((1, 20), 0.05, -7)
    for taps, outputs, step in ((20, 32, 0.2), (32, 11, 0.5), (11, 7, 0.8), (7, 3, 0.9)):
        weights = net.tensor((outputs, taps), 0.01, 0, random.choice(request.param, (outputs, taps)))
        bias = net.tensor((outputs,), net.grids[x][0] * 0.01, 0, random.integers(-999, 999, outputs), dtype="int32")
        x = net.op("FULLY_CONNECTED", [x, weights, bias], net.tensor((1, outputs), step, -3))
    return net.save(tmp_path_factory.mktemp("dense") / "dense.tflite", source, x), kernels


@pytest.fixture(scope="module", params=(1, 2), ids=("down", "across"))
def line(request, graph, tmp_path_factory):
    """Windows along a line, of taps that fill words and do not; outputs even and odd in number, and one; any zero point."""
    random, net = np.random.default_rng(0), graph()

    def turned(length, rest=()):
        return (1, *((length, 1) if request.param == 1 else (1, length)), *rest)

    x = source = net.tensor(turned(29, (64,)), 0.05, -7)
    length, channels = 29, 64
    for taps, stride, multiplier, zero in ((3, 1, 1, -128), (5, 1, 1, 4), (4, 1, 1, -128), (6, 2, 1, 9), (8, 1, 2, -3)):
        channels *= multiplier
        scales = random.uniform(0.004, 0.01, channels)
        weights = net.tensor(
            turned(taps, (channels,)), scales, 0, random.integers(-127, 128, turned(taps, (channels,))), axis=3
        )
        bias = net.tensor((channels,), net.grids[x][0] * scales, 0, random.integers(-999, 999, channels), dtype="int32")
        length = (length - taps) // stride + 1
        out = net.tensor(turned(length, (channels,)), net.grids[x][0] * 2, zero)
        step = {"strideH": stride, "strideW": stride, "dilationHFactor": 1, "dilationWFactor": 1}
        x = net.op("DEPTHWISE_CONV_2D", [x, weights, bias], out, depthMultiplier=multiplier, padding=1, **step)
    return net.save(tmp_path_factory.mktemp("line") / "line.tflite", source, x)


@pytest.mark.parametrize(("board", "optimisation"), CORES)
def test_lines_are_equal_on_the_core(line, golden_outputs, inputs_for, board, optimisation, tmp_path):
    if shutil.which("arm-none-eabi-gcc") is None or shutil.which("qemu-system-arm") is None:
        pytest.skip("the Arm compiler or QEMU is not installed")
    made, inputs = generate(read(line), "line", tmp_path), inputs_for(line, 12, 0)
    assert {note.kernel for note in made.layers} == {"tr_fast_depthwise_line", "tr_fast_depthwise"}
    emulated = emulate(tmp_path, made.name, inputs, board=board, optimisation=optimisation)
    outputs = golden_outputs(line, inputs)
    assert len(np.unique(outputs)) > 20
    assert np.array_equal(emulated.outputs, outputs)


@pytest.fixture(scope="module")
def expected(model, golden_outputs, inputs_for):
    inputs = inputs_for(model[0], 12, 0)
    return inputs, golden_outputs(model[0], inputs)


@pytest.mark.parametrize(("board", "optimisation"), CORES)
def test_dense_layers_are_equal_on_the_core(dense, golden_outputs, inputs_for, board, optimisation, tmp_path):
    if shutil.which("arm-none-eabi-gcc") is None or shutil.which("qemu-system-arm") is None:
        pytest.skip("the Arm compiler or QEMU is not installed")
    path, kernels = dense
    made, inputs = generate(read(path), "dense", tmp_path), inputs_for(path, 12, 0)
    assert {note.kernel for note in made.layers} == kernels
    emulated = emulate(tmp_path, made.name, inputs, board=board, optimisation=optimisation)
    assert np.array_equal(emulated.outputs, golden_outputs(path, inputs))


@pytest.mark.parametrize(("board", "optimisation"), CORES)
def test_equal_on_the_core(model, expected, board, optimisation, tmp_path):
    if shutil.which("arm-none-eabi-gcc") is None or shutil.which("qemu-system-arm") is None:
        pytest.skip("the Arm compiler or QEMU is not installed")
    path, kernels = model
    inputs, outputs = expected
    made = generate(read(path), "fast", tmp_path)
    assert {note.kernel for note in made.layers} == kernels
    emulated = emulate(tmp_path, made.name, inputs, board=board, optimisation=optimisation)
    assert len(np.unique(outputs)) > 20
    assert np.array_equal(emulated.outputs, outputs)


def test_equal_on_the_host(model, assert_exact, inputs_for):
    assert_exact([model[0]], [inputs_for(model[0], 30, 1)])
