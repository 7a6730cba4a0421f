"""What is written, what it is called, and what is refused."""

import re
import shutil
import subprocess

import numpy as np
import pytest

from tinyrobust.deploy.artefact import read
from tinyrobust.deploy.cgen.emit import identifier
from tinyrobust.deploy.cgen.generate import generate
from tinyrobust.errors import ModelFileError


@pytest.mark.parametrize(
    ("name", "expected"),
    [("My Net-2", "my_net_2"), ("../x;y", "x_y"), ("", "model"), ("ö", "model"), ("tr_pool", "m_tr_pool"), ("3d", "3d")],
)
def test_names_are_what_c_allows(name, expected):
    assert identifier(name) == expected


def test_only_what_the_model_needs_is_written(small_tflite, tmp_path):
    generated = generate(read(small_tflite), "Small net", tmp_path, classes=["a", 'b"\\', "ö"])
    names = {path.name for path in generated.files}
    assert names == {path.name for path in tmp_path.iterdir()}
    assert {"small_net.c", "small_net.h", "tr_runtime.h"} <= names
    assert "tr_softmax.c" not in names
    assert [layer.op for layer in generated.layers][-2:] == ["MEAN", "FULLY_CONNECTED"]
    header = (tmp_path / "small_net.h").read_text()
    assert f"#define TR_SMALL_NET_ARENA_BYTES {generated.arena_bytes}" in header
    assert "#define TR_SMALL_NET_CLASSES 3" in header
    check = ["gcc", "-std=c99", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror", "-c", "small_net.c"]
    subprocess.run(check, cwd=tmp_path, check=True)
    subprocess.run(["g++", "-fsyntax-only", "-x", "c++", "-Wall", "-Werror", "small_net.h"], cwd=tmp_path, check=True)


def test_big_endian_processors_are_refused(small_tflite, tmp_path):
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("the Arm compiler is not installed")
    generated = generate(read(small_tflite), "small", tmp_path)
    kernels = [path for path in generated.files if path.name.startswith("tr_fast")]
    for flag, compiles in (("-mlittle-endian", True), ("-mbig-endian", False)):
        command = ["arm-none-eabi-gcc", "-mcpu=cortex-m4", "-mthumb", "-std=c99", "-fsyntax-only", flag, *kernels]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode == 0) is compiles
        assert ("little-endian processor" in done.stderr) is not compiles


def test_the_same_file_gives_the_same_c(small_tflite, tmp_path):
    texts = [
        {path.name: path.read_bytes() for path in generate(read(small_tflite), "m", tmp_path / side).files} for side in "ab"
    ]
    assert texts[0] == texts[1]


def test_no_heap_and_no_floating_point(shared, tmp_path):
    symbols = set()
    for name in ("ds-cnn-ternary", "mlperf-tiny-ic", "mlperf-tiny-kws"):
        generated = generate(read(shared / "peers" / f"{name}.tflite"), name, tmp_path)
        sources = [path for path in generated.files if path.suffix == ".c"]
        assert not any(re.search(r"\b(float|double|malloc|printf)\b", path.read_text()) for path in sources)
        subprocess.run(["gcc", "-std=c99", "-O1", "-c", *sources], cwd=tmp_path, check=True)
        listing = subprocess.run(["nm", "-u", *tmp_path.glob("*.o")], check=True, capture_output=True, text=True).stdout
        symbols |= {line.split()[1] for line in listing.splitlines() if line.strip().startswith("U ")}
    assert {symbol for symbol in symbols if not symbol.startswith("tr_")} <= {
        "memcpy",
        "memset",
        "_GLOBAL_OFFSET_TABLE_",
        "__stack_chk_fail",
    }


def test_peers_fit_in_the_promised_arena(shared, tmp_path):
    limits = {"ds-cnn-ternary": 13_000, "mlperf-tiny-kws": 14_000, "mlperf-tiny-ic": 40_000}
    for name, limit in limits.items():
        assert generate(read(shared / "peers" / f"{name}.tflite"), name, tmp_path / name).arena_bytes <= limit


def test_float_edges_fall_away(graph, tmp_path):
    made = graph()
    image = made.tensor((1, 4), dtype="float32")
    stored = made.op("QUANTIZE", [image], made.tensor((1, 4), 0.5, 3))
    clipped = made.op("RELU", [stored], made.tensor((1, 4), 0.5, 3))
    answer = made.op("DEQUANTIZE", [clipped], made.tensor((1, 4), dtype="float32"))
    generated = generate(read(made.save(tmp_path / "edges.tflite", image, answer)), "edges", tmp_path)
    assert [layer.op for layer in generated.layers] == ["RELU"]
    header = (tmp_path / "edges.h").read_text()
    assert "#define TR_EDGES_INPUT_SCALE 5.000000000e-01f" in header
    assert "#define TR_EDGES_INPUT_ZERO_POINT (3)" in header


def test_an_unsupported_operator_is_named(graph, tmp_path):
    made = graph()
    image = made.tensor((1, 2, 2, 3), 0.5, 0)
    size = made.tensor((2,), data=[4, 4], dtype="int32")
    larger = made.op("RESIZE_BILINEAR", [image, size], made.tensor((1, 4, 4, 3), 0.5, 0))
    path = made.save(tmp_path / "larger.tflite", image, larger)
    said = r"operator 0 \(RESIZE_BILINEAR\), which writes 't2': Expected one of ADD, .*CONV_2D"
    with pytest.raises(ModelFileError, match=said) as refused:
        generate(read(path), "larger", tmp_path)
    assert "TensorFlow Lite Micro runs the file as it is" in str(refused.value)


def _with_weights(graph, tmp_path, **change):
    made = graph()
    image = made.tensor((1, 3), 0.5, 0)
    weights = made.tensor((2, 3), change.get("scale", 0.1), change.get("zero", 0), np.ones((2, 3)))
    answer = made.op("FULLY_CONNECTED", [image, weights, -1], made.tensor((1, 2), 0.2, 0))
    return read(made.save(tmp_path / "weights.tflite", image, answer))


def test_weights_off_zero_are_refused(graph, tmp_path):
    with pytest.raises(ModelFileError, match="weights with zero point 0"):
        generate(_with_weights(graph, tmp_path, zero=3), "m", tmp_path)


def test_a_float_model_is_refused(graph, tmp_path):
    made = graph()
    image = made.tensor((1, 4), dtype="float32")
    answer = made.op("RELU", [image], made.tensor((1, 4), dtype="float32"))
    with pytest.raises(ModelFileError, match="Expected an input of int8 or uint8"):
        generate(read(made.save(tmp_path / "float.tflite", image, answer)), "m", tmp_path)


def test_shapes_that_no_fast_kernel_takes_are_told(graph, tmp_path):
    made, random = graph(), np.random.default_rng(0)
    image = made.tensor((1, 4, 4, 6), 0.02, -3)
    weights = made.tensor((6, 3, 3, 2), 0.01, 0, random.integers(-127, 128, (6, 3, 3, 2)))
    options = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    groups = made.op("CONV_2D", [image, weights, -1], made.tensor((1, 4, 4, 6), 0.1, 5), **options)
    weights = made.tensor((5, 1, 1, 6), 0.01, 0, random.integers(-127, 128, (5, 1, 1, 6)))
    answer = made.op("CONV_2D", [groups, weights, -1], made.tensor((1, 4, 4, 5), 0.1, 5), **options)
    generated = generate(read(made.save(tmp_path / "groups.tflite", image, answer)), "groups", tmp_path / "c")
    assert [layer.portable for layer in generated.layers] == [True, False]


def test_a_layer_without_a_name_is_called_after_its_weights(graph, tmp_path):
    made = graph()
    image = made.tensor((1, 3), 0.5, 0)
    weights = made.tensor((2, 3), 0.1, 0, np.ones((2, 3)))
    answer = made.op("FULLY_CONNECTED", [image, weights, -1], made.tensor((1, 2), 0.2, 0))
    made.rename(weights, "net/logits_1/MatMul;net/logits_1/BiasAdd")
    made.rename(answer, "StatefulPartitionedCall_1:0")
    artefact = read(made.save(tmp_path / "named.tflite", image, answer))
    assert artefact.layer(artefact.operators[0]) == "net/logits_1/MatMul"
    assert generate(artefact, "named", tmp_path / "c").layers[0].name == "net/logits_1/MatMul"


def test_the_runtime_is_clean(checkout):
    if shutil.which("cppcheck") is None:
        pytest.skip("cppcheck is not installed")
    checks = ["--enable=warning,style,performance,portability", "--inline-suppr"]
    checks += ["--suppress=knownConditionTrueFalse"]  # it takes a minimum such as `a < 4 ? a : 4` for 0, with what follows
    checks += ["--suppress=unusedStructMember"]  # members that only the assembly, or only the plain C, reads
    sources = sorted((checkout / "export" / "runtime").glob("*.c"))
    command = ["cppcheck", *checks, "--std=c99", "--error-exitcode=1", "-q", *sources]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
