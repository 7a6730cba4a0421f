"""Raw inputs and outputs of files whose ends are float32, and of files with several."""

from typing import Any

import numpy as np
import pytest

from tinyrobust.deploy import probing, tflm
from tinyrobust.deploy.artefact import read
from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.deploy.repair import mended
from tinyrobust.errors import ModelFileError


@pytest.fixture(scope="module")
def float_ends(converted, digits_net) -> Any:
    """Int8 inside, float32 at both ends; trained on 0..1."""
    return converted(digits_net.model, digits_net.x[:50].astype(np.float32) / 255, scheme="float ends")


def test_probes_of_a_float_end_are_numbers_of_the_grid_behind_it(float_ends):
    file = read(float_ends)
    inner = probing.inner(file, file.inputs[0], "QUANTIZE")
    assert (file.tensors[file.inputs[0]].dtype, inner.dtype) == ("float32", "int8")
    raw = probing.probes(file, 40).raw
    assert raw.shape == (40, 4 * 64)
    integers = probing.quantized(file, raw)
    assert integers.shape == (40, 64)
    assert set(integers[0]) == {127}
    assert set(integers[1]) == {-128}
    real = (integers.astype(np.float64) - int(inner.zero_points[0])) * float(inner.scales[0])
    np.testing.assert_allclose(raw.view(np.float32), real, rtol=1e-6, atol=1e-9)
    assert len(np.unique(integers)) == 256


def test_float_ends_are_those_of_tensorflow_lite_micro(float_ends, tmp_path, changed):
    """Its QUANTIZE and its DEQUANTIZE, each alone in a file."""
    pytest.importorskip("tflite_micro", reason="the extra `mcu` is not installed (Linux x86-64 only)")
    file = read(float_ends)

    def only(name: str) -> Any:
        (operator,) = (one for one in file.operators if one.name == name)

        def change(model: Any) -> None:
            graph = model.subgraphs[0]
            graph.operators = [graph.operators[operator.index]]
            graph.inputs, graph.outputs = graph.operators[0].inputs, graph.operators[0].outputs

        return changed(float_ends, tmp_path / f"{name}.tflite", change)

    x = np.random.default_rng(1).uniform(-0.1, 1.1, (60, 64)).astype(np.float32)  # between the steps, and beyond the grid
    np.testing.assert_array_equal(probing.quantized(file, x.view(np.int8)), tflm.outputs(only("QUANTIZE"), x.view(np.int8)))
    integers = np.arange(-128, 128).astype(np.int8)[:250].reshape(25, 10)
    np.testing.assert_array_equal(probing.dequantized(file, integers), tflm.outputs(only("DEQUANTIZE"), integers))


def test_the_golden_takes_several_inputs_and_gives_several_outputs(tmp_path):
    pytest.importorskip("tflite_micro", reason="the extra `mcu` is not installed (Linux x86-64 only)")
    import tensorflow as tf

    class Two(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((1, 3), tf.float32), tf.TensorSpec((1, 5), tf.float32)])
        def call(self, x, y):
            return {"a": tf.tanh(x), "b": tf.nn.relu(y)}

    model = Two()
    path = tmp_path / "two.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([model.call.get_concrete_function()], model).convert())
    file = read(path)
    raw = probing.probes(file, 6).raw
    assert raw.shape == (6, 32)
    values = tflm.outputs(path, raw).view(np.float32)
    ends = {file.tensors[index].shape[1]: values for index in file.inputs}
    assert set(ends) == {3, 5}
    assert values.shape == (6, 8)
    assert tflm.refuses(file) == ""
    assert tflm.arena(path) > 0


def test_files_that_keep_state_are_not_judged_input_by_input(small_tflite, tmp_path, changed):
    def keep(model: Any) -> None:
        graph = model.subgraphs[0]
        graph.tensors[graph.operators[1].outputs[0]].isVariable = True

    path = changed(small_tflite, tmp_path / "state.tflite", keep)
    with pytest.raises(ModelFileError, match="keeps state between inferences"):
        Int8Model(path)


def test_a_stray_axis_of_a_bias_is_mended_for_the_fast_interpreter(small_tflite, tmp_path, changed):
    def stray(model: Any) -> None:
        graph = model.subgraphs[0]
        for operator in graph.operators[:3]:
            graph.tensors[operator.inputs[2]].quantization.quantizedDimension = 3

    path = changed(small_tflite, tmp_path / "stray.tflite", stray)
    x = np.random.default_rng(0).uniform(0, 1, (20, 8, 8, 1)).astype(np.float32)
    np.testing.assert_array_equal(Int8Model(path).predict(x), Int8Model(small_tflite).predict(x))
    assert mended(read(small_tflite)) == small_tflite.read_bytes()
    assert len(mended(read(path))) == path.stat().st_size
