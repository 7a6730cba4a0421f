"""Networks that keep something from frame to frame, and those of several inputs and outputs."""

import ctypes
import subprocess

import numpy as np
import pytest

from tinyrobust.deploy import device
from tinyrobust.deploy.artefact import read
from tinyrobust.deploy.cgen.generate import generate
from tinyrobust.deploy.probing import probes
from tinyrobust.errors import ModelFileError

GRID = 0.1, 0
WINDOW = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1, "padding": 1}


def _frames(made, frame, handle, rows=3):
    """The last frames: what was kept, and this one; all but the first are kept."""
    kept = made.op("READ_VARIABLE", [handle], made.tensor((1, rows - 1, 1, 4), *GRID))
    window = made.op("CONCATENATION", [kept, frame], made.tensor((1, rows, 1, 4), *GRID), axis=1)
    parts = [made.tensor((4,), data=values, dtype="int32") for values in ((0, 1, 0, 0), (1, rows, 1, 4), (1, 1, 1, 1))]
    last = made.op("STRIDED_SLICE", [window, *parts], made.tensor((1, rows - 1, 1, 4), *GRID))
    return kept, window, last


@pytest.fixture
def stream(graph, tmp_path):
    """A convolution over the last three frames, one of which comes with each inference."""
    made, random = graph(), np.random.default_rng(0)
    handle = made.variable("frames", random.integers(-128, 128, (1, 2, 1, 4)))
    frame = made.tensor((1, 1, 1, 4), *GRID)
    _, window, last = _frames(made, frame, handle)
    made.assign(handle, last)
    weights = made.tensor((5, 3, 1, 4), 0.01, 0, random.integers(-127, 128, (5, 3, 1, 4)))
    result = made.op("CONV_2D", [window, weights, -1], made.tensor((1, 1, 1, 5), 0.05, 0), **WINDOW)
    return made.save(tmp_path / "stream.tflite", frame, result)


def test_a_stream_equals_the_golden_frame_by_frame(stream, assert_exact, inputs_for):
    assert_exact([stream], [inputs_for(stream, 50, 0)])


def test_a_stream_begins_anew_after_a_reset(stream, golden_outputs, inputs_for, tmp_path):
    made = generate(read(stream), "stream", tmp_path)
    assert made.stateful
    header = (tmp_path / "stream.h").read_text()
    assert "#define TR_STREAM_STATEFUL 1" in header
    assert "void tr_stream_reset(void);" in header
    once, again = (golden_outputs(stream, inputs_for(stream, 3, 0)) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    assert len(np.unique(once, axis=0)) > 1
    sources = [path for path in made.files if path.suffix == ".c"]
    subprocess.run(["gcc", "-std=c99", "-shared", "-fPIC", "-o", tmp_path / "stream.so", *sources], check=True)
    library, frames = ctypes.CDLL(str(tmp_path / "stream.so")), inputs_for(stream, 3, 0)

    def heard() -> list[bytes]:
        answers = []
        for frame in frames:
            out = ctypes.create_string_buffer(once.shape[1])
            assert library.tr_stream_invoke(frame.tobytes(), out) == 0
            answers.append(out.raw)
        return answers

    library.tr_stream_reset()
    expected = [row.tobytes() for row in once]
    assert heard() == expected
    assert heard() != expected  # goes on with the frames before
    library.tr_stream_reset()
    assert heard() == expected


def test_what_was_read_before_a_variable_is_written_stays(graph, assert_exact, inputs_for, tmp_path):
    """The old frames are needed after the new ones were kept, and are an output."""
    made = graph()
    handle = made.variable("frames", np.full((1, 2, 1, 4), 7))
    frame = made.tensor((1, 1, 1, 4), *GRID)
    kept, _, last = _frames(made, frame, handle)
    made.assign(handle, last)
    flat = made.op(
        "RESHAPE", [kept, made.tensor((2,), data=(1, 8), dtype="int32")], made.tensor((1, 8), *GRID), newShape=[1, 8]
    )
    model = made.save(tmp_path / "old.tflite", frame, [flat, made.op("TANH", [kept], made.tensor((1, 2, 1, 4), 1 / 128, 0))])
    assert_exact([model], [inputs_for(model, 10, 0)])


def test_a_variable_that_is_read_again_after_it_is_written_is_the_new_one(graph, assert_exact, inputs_for, tmp_path):
    made = graph()
    handle = made.variable("sum", np.full((1, 4), 3))
    x = made.tensor((1, 4), *GRID)
    before = made.op("READ_VARIABLE", [handle], made.tensor((1, 4), *GRID))
    made.assign(handle, made.op("ADD", [before, x], made.tensor((1, 4), *GRID)))
    after = made.op("READ_VARIABLE", [handle], made.tensor((1, 4), *GRID))
    model = made.save(tmp_path / "sum.tflite", x, made.op("MAXIMUM", [after, x], made.tensor((1, 4), *GRID)))
    assert_exact([model], [inputs_for(model, 12, 0)])


@pytest.mark.parametrize("name", ["030_microwakeword_v1_okay_nabu", "032_microwakeword_v2_vad"])
def test_the_wake_words_of_homes_run_as_c(name, shared, assert_exact, inputs_for, tmp_path):
    model = tmp_path / f"{name}.tflite"
    model.write_bytes((shared / "field" / "models" / model.name).read_bytes())
    assert_exact([model], [inputs_for(model, 50, 0)])


def test_a_stream_on_an_emulated_board(stream):
    pytest.importorskip("tflite_micro")
    record = device.measure(stream, probes(read(stream), 6))
    assert record.equal == record.n == 6


def test_several_inputs_and_outputs(graph, assert_exact, inputs_for, tmp_path):
    """The first input is an output too, one output is another, and one input is read last."""
    made = graph()
    a, b, c = (made.tensor((1, 3, 3, 2), *GRID) for _ in range(3))
    total = made.op("ADD", [a, b], made.tensor((1, 3, 3, 2), *GRID))
    less = made.op("SUB", [total, c], made.tensor((1, 3, 3, 2), *GRID))
    model = made.save(tmp_path / "ends.tflite", [a, b, c], [less, a, total])
    assert_exact([model], [inputs_for(model, 20, 0)])
    generate(read(model), "ends", tmp_path)
    header = (tmp_path / "ends.h").read_text()
    for line in ("INPUT_BYTES 54", "INPUTS 3", "INPUT1_OFFSET 18", "INPUT2_SHAPE {1, 3, 3, 2}", "OUTPUT2_OFFSET 36"):
        assert f"#define TR_ENDS_{line}" in header


def test_variables_that_begin_otherwise_are_refused(graph, tmp_path):
    made = graph()
    handle = made.variable("one", np.zeros((1, 4)))
    x = made.tensor((1, 8), *GRID)
    kept = made.op("READ_VARIABLE", [handle], made.tensor((1, 8), *GRID))
    model = made.save(tmp_path / "sizes.tflite", x, made.op("ADD", [kept, x], made.tensor((1, 8), *GRID)))
    with pytest.raises(ModelFileError, match="Expected int8 variables of one size"):
        generate(read(model), "m", tmp_path)


def test_a_handle_that_is_none_is_refused(graph, tmp_path):
    made = graph()
    x = made.tensor((1, 4), *GRID)
    made.assign(x, x)
    model = made.save(tmp_path / "none.tflite", x, made.op("RELU", [x], made.tensor((1, 4), *GRID)))
    with pytest.raises(ModelFileError, match="a handle that VAR_HANDLE makes"):
        generate(read(model), "m", tmp_path)
