import shutil
import subprocess
import sys

import pytest

from tinyrobust.deploy import artefact, micro
from tinyrobust.deploy.c_literals import identifier
from tinyrobust.deploy.carray import Arena, write_c_array
from tinyrobust.deploy.input_units import formula
from tinyrobust.footprint.measure import arena_head

CLASSES = ("zero", 'a "quoted" \\ name', "naïve??/", "line\nbreak")

MAIN = """
#include "model_data.h"
#include <cstdint>
#include <cstdio>
int main() {
  if (reinterpret_cast<std::uintptr_t>(g_digits_stq_model_data) % 16 != 0) return 1;
  std::fwrite(g_digits_stq_model_data, 1, g_digits_stq_model_data_len, stdout);
  std::fprintf(stderr, "%u|%d|%.9e|%d|%d|%.9e|%d", g_digits_stq_arena_size, g_digits_stq_input_shape[1],
               g_digits_stq_input_scale, g_digits_stq_input_zero_point, g_digits_stq_output_shape[1],
               g_digits_stq_output_scale, g_digits_stq_output_zero_point);
  for (const char* name : g_digits_stq_class_names) std::fprintf(stderr, "|%s", name);
}
"""

RUN = """
import sys
import numpy as np
from tflite_micro.python.tflite_micro import runtime
interpreter = runtime.Interpreter.from_file(sys.argv[1], arena_size=int(sys.argv[2]))
interpreter.set_input(np.zeros(interpreter.get_input_details(0)["shape"], np.int8), 0)
interpreter.invoke()
print(interpreter.get_output(0).shape)
"""


def test_the_compiled_array_is_the_file(ternary, tmp_path) -> None:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("g++ is not installed")
    file = artefact.read(ternary.tflite)
    source, _ = write_c_array(file, "digits-stq", tmp_path, arena=Arena(2304), classes=CLASSES)
    main, program = tmp_path / "main.cc", tmp_path / "program"
    main.write_text(MAIN)
    strict = ["-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    subprocess.run([compiler, *strict, main, source, "-o", program], check=True, timeout=60)
    result = subprocess.run([program], check=True, capture_output=True, timeout=60)
    assert result.stdout == ternary.tflite.read_bytes()
    arena, size, scale, zero, classes, out_scale, out_zero, *names = result.stderr.decode().split("|")
    sink = file.tensors[file.outputs[0]]
    assert (int(size), float(scale), int(zero), int(classes)) == (8, pytest.approx(1 / 255), -128, 10)
    assert (float(out_scale), int(out_zero)) == (pytest.approx(float(sink.scales[0]), rel=1e-8), sink.zero_points[0])
    assert int(arena) % 16 == 0
    assert 0 <= int(arena) - 2304 - micro.beside(file, 2304) < 16
    assert tuple(names) == CLASSES


def test_the_header_lists_the_operators_for_the_resolver(ternary, tmp_path) -> None:
    _, header = write_c_array(artefact.read(ternary.tflite), "x", tmp_path, arena=Arena(1))
    text = header.read_text()
    assert "MicroMutableOpResolver<6> resolver;" in text
    for method in ("Add", "AveragePool2D", "Conv2D", "DepthwiseConv2D", "FullyConnected", "Reshape"):
        assert f"//   resolver.Add{method}();\n" in text
    assert "class_names" not in text


def test_the_recommended_arena_is_enough_for_tensorflow_lite_micro(ternary, small_tflite) -> None:
    pytest.importorskip("tflite_micro", reason="the extra tinyrobust[mcu] is not installed")
    for path in (ternary.tflite, small_tflite):
        arena = arena_head(path)
        arena += micro.beside(artefact.read(path), arena)
        # In a process of its own: near its limit the interpreter crashes.
        result = subprocess.run([sys.executable, "-c", RUN, path, str(arena)], capture_output=True, timeout=120)
        assert result.returncode == 0, result.stderr.decode()[-500:]
        assert result.stdout.startswith(b"(1, ")


def test_a_measured_arena_is_recommended_as_it_is(small_tflite, tmp_path) -> None:
    _, header = write_c_array(artefact.read(small_tflite), "x", tmp_path, arena=Arena(1040, 4_096))
    text = header.read_text()
    assert "g_x_arena_size = 4096;" in text
    assert "measured" in text
    assert all(len(line) <= 124 for line in text.splitlines() if "SHA-256" not in line)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("digits-stq", "digits_stq"), ("3 käse/x", "3_k_se_x"), ("a__b", "a_b"), ("é", "network"), ("", "network")],
)
def test_names_become_identifiers(name, expected) -> None:
    assert identifier(name) == expected


def test_a_float_file_has_no_scales(converted, tmp_path) -> None:
    import keras

    path = converted(keras.Sequential([keras.Input((4,), batch_size=1), keras.layers.Dense(2)]))
    _, header = write_c_array(artefact.read(path), "x", tmp_path, arena=Arena(1))
    assert "// Input: float32, as it is.\nconstexpr int g_x_input_shape[] = {1, 4};" in header.read_text()
    assert "scale" not in header.read_text().partition("// Input")[2]


def test_a_strangers_stream_needs_the_operators_of_all_subgraphs(shared, tmp_path) -> None:
    path = shared / "field" / "models" / "030_microwakeword_v1_okay_nabu.tflite"
    _, header = write_c_array(artefact.read(path), "x", tmp_path, arena=Arena(1))
    for method in ("AddCallOnce", "AddVarHandle", "AddReadVariable", "AddAssignVariable", "AddConcatenation"):
        assert f"resolver.{method}();" in header.read_text()
    _, header = write_c_array(artefact.read(path.parent / "018_two_inputs_add.tflite"), "x", tmp_path, arena=Arena(1))
    assert "g_x_input1_scale" in header.read_text()


@pytest.mark.parametrize(
    ("scale", "zero", "dtype", "said"),
    [
        (1 / 255, -128, "int8", "round(x / 0.00392156863) - 128, from -128 to 127; where x is p / 255 of a pixel"),
        (1 / 255, -128, "int8", "that is p - 128"),
        (1.0, 0, "uint8", "from 0 to 255; where x is p of a pixel p from 0 to 255, that is p"),
        (0.5, 3, "int8", "round(x / 0.5) + 3, from -128 to 127"),
    ],
)
def test_how_a_value_becomes_a_byte(scale, zero, dtype, said) -> None:
    assert said in formula(scale, zero, dtype)
    assert ("pixel" in formula(scale, zero, dtype)) == (scale != 0.5)
