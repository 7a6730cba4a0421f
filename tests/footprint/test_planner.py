"""The arena plan: no two live buffers overlap, and it is the one that TensorFlow Lite Micro makes."""

import copy
from itertools import combinations
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tinyrobust.deploy import micro, tflm
from tinyrobust.deploy.artefact import read
from tinyrobust.errors import ModelFileError
from tinyrobust.footprint import planner
from tinyrobust.footprint.measure import arena_head
from tinyrobust.footprint.planner import Buffer


def _random_buffers(seed: int) -> list[Buffer]:
    random = np.random.default_rng(seed)
    steps = int(random.integers(1, 12))
    found = []
    for index in range(int(random.integers(1, 25))):
        first, last = sorted(int(step) for step in random.integers(-1, steps, 2))
        found.append(Buffer(f"t{index}", 16 * int(random.integers(1, 60)), first, last))
    return found


@pytest.mark.parametrize("seed", range(60))
def test_live_buffers_never_overlap_and_the_plan_is_no_smaller_than_what_is_alive(seed):
    buffers = _random_buffers(seed)
    offsets = planner.place(buffers)
    for (one, at_one), (other, at_other) in combinations(zip(buffers, offsets, strict=True), 2):
        if one.first <= other.last and other.first <= one.last:
            assert at_one + one.size <= at_other or at_other + other.size <= at_one
    head = planner.head(buffers, offsets)
    before_all = sum(b.size for b in buffers if b.first == -1)
    assert max(*planner.alive(buffers, 12), before_all) <= head <= sum(b.size for b in buffers)
    assert min(offsets) == 0


@pytest.mark.parametrize("seed", range(20))
def test_what_is_alive_is_the_sum_of_live_sizes(seed):
    buffers = _random_buffers(seed)
    expected = [sum(b.size for b in buffers if b.first <= step <= b.last) for step in range(12)]
    assert planner.alive(buffers, 12) == expected


def test_the_later_of_equal_buffers_is_placed_first_and_small_ones_fill_gaps():
    buffers = [Buffer("a", 64, 0, 2), Buffer("b", 64, 1, 3), Buffer("c", 128, 0, 0), Buffer("d", 16, 2, 3)]
    # c at 0; b, not alive with c, at 0; a beside both of them, at 128; d after b, where c no longer is.
    assert planner.place(buffers) == [128, 0, 0, 64]


def test_thousands_that_are_all_alive_take_no_minute(within):
    wanted = [Buffer("", 16 * (1 + i % 50), 0, 1) for i in range(8192)]
    with within(5):
        assert planner.head(wanted, planner.place(wanted)) == sum(buffer.size for buffer in wanted)


def test_nothing_takes_nothing():
    assert planner.place([]) == []
    assert planner.head([], []) == 0
    assert planner.alive([], 2) == [0, 0]


def test_lifetimes_follow_the_graph(small_tflite):
    model = read(small_tflite)
    buffers = planner.buffers(model)
    lives = [(buffer.size, buffer.first, buffer.last) for buffer in buffers]
    image, stem, depthwise, pointwise, added, pooled, logits = lives[:7]
    assert image == (64, -1, 0)
    assert stem == (256, 0, 1)
    assert depthwise == (256, 1, 3)  # read by the pointwise convolution and by the addition
    assert pointwise == (256, 2, 3)
    assert added == (256, 3, 4)
    assert pooled == (16, 4, 5)
    assert logits == (16, 5, 5)
    assert [buffer.name for buffer in buffers[7:]] == ["scratch of MEAN"] * 3


def test_an_output_lives_until_the_end(small_tflite, tmp_path):
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(small_tflite.read_bytes(), 0))
    graph = model.subgraphs[0]
    graph.outputs = np.array([*graph.outputs, graph.operators[0].outputs[0]], np.int32)
    path = _written(model, tmp_path / "two_outputs.tflite")
    assert planner.buffers(read(path))[1].last == 5


def _written(model: Any, path: Path) -> Path:
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(builder.Output())
    return path


def test_the_small_model_is_planned_as_tflm_does(small_tflite, recorded_head):
    assert arena_head(small_tflite) == recorded_head(small_tflite)


@pytest.mark.parametrize("name", ["ds-cnn-ternary", "mlperf-tiny-ic", "mlperf-tiny-kws"])
def test_peers_are_planned_as_tflm_does(shared, recorded_head, name):
    path = shared / "peers" / f"{name}.tflite"
    assert arena_head(path) == recorded_head(path)


def _branches() -> Any:
    import keras
    from keras import layers

    image = keras.Input((16, 16, 3), batch_size=1)
    one = layers.Conv2D(8, 3, padding="same", activation="relu")(image)
    other = layers.Conv2D(8, 3, padding="same")(layers.MaxPooling2D(3, strides=1, padding="same")(one))
    both = layers.ZeroPadding2D()(layers.Concatenate()([one, other]))
    pooled = layers.GlobalMaxPooling2D()(layers.Conv2D(4, 3, strides=2)(both))
    return keras.Model(image, layers.Softmax()(layers.Dense(5)(pooled)))


def _scratch_binds() -> Any:
    import keras
    from keras import layers

    image = keras.Input((4, 4, 64), batch_size=1)
    return keras.Model(image, layers.Dense(200)(layers.GlobalAveragePooling2D()(image)))


def _transposed() -> Any:
    import keras

    image = keras.Input((8, 8, 4), batch_size=1)
    return keras.Model(image, keras.layers.Conv2DTranspose(4, 3, strides=2)(image))


@pytest.mark.parametrize("net", [_branches, _scratch_binds, _transposed])
def test_other_graphs_are_planned_as_tflm_does(converted, recorded_head, net):
    model = net()
    path = converted(model, np.random.default_rng(0).random((2, *model.input_shape[1:]), dtype=np.float32))
    assert arena_head(path) == recorded_head(path)


def test_int4_weights_take_a_scratch_buffer_as_in_tflm(shared, tmp_path, recorded_head):
    content = (shared / "peers" / "ds-cnn-ternary.tflite").read_bytes()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    graph = model.subgraphs[0]
    for operator in graph.operators:
        if len(operator.inputs) < 3:
            continue
        weights, bias = (graph.tensors[i] for i in operator.inputs[1:])
        nibbles = np.sign(model.buffers[weights.buffer].data.view(np.int8)).view(np.uint8) & 15
        model.buffers[weights.buffer].data = nibbles[0::2] | nibbles[1::2] << 4
        weights.type = schema.TensorType.INT4
        weights.quantization.scale = weights.quantization.scale * 127
        bias.quantization.scale = bias.quantization.scale * 127
    path = _written(model, tmp_path / "int4.tflite")
    assert arena_head(path) == recorded_head(path) == 16_000 + 4_096


def _two_functions(model: Any) -> None:
    """A second function, which nothing calls: without scratch buffers, for which the interpreter crashes there."""
    other = copy.deepcopy(model.subgraphs[0])
    other.operators = other.operators[:2]
    other.outputs = other.operators[1].outputs
    model.subgraphs.append(other)
    _unused(model, 1)


def _unused(model: Any, number: int = 0) -> None:
    graph = model.subgraphs[number]
    for _ in range(3):
        tensor = copy.deepcopy(graph.tensors[graph.inputs[0]])
        tensor.shape, tensor.buffer = np.array([1, 1000], np.int32), 0
        graph.tensors.append(tensor)


def _placed(model: Any) -> None:
    """A plan in the file for two tensors; the others are planned around them."""
    graph = model.subgraphs[0]
    offsets = np.full(len(graph.tensors), -1, np.int32)
    offsets[graph.operators[0].outputs[0]], offsets[graph.operators[3].outputs[0]] = 1600, 64
    buffer, metadata = schema.BufferT(), schema.MetadataT()
    buffer.data = np.concatenate([np.array([0, 0, len(graph.tensors)], np.int32), offsets]).view(np.uint8)
    metadata.name, metadata.buffer = "OfflineMemoryAllocation", len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), metadata]


@pytest.mark.parametrize("change", [_two_functions, _unused, _placed])
def test_more_than_one_graph_of_used_tensors_is_planned_as_tflm_does(small_tflite, tmp_path, changed, recorded_head, change):
    path = changed(small_tflite, tmp_path / "more.tflite", change)
    assert arena_head(path) == recorded_head(path) > arena_head(small_tflite)


def test_a_plan_for_other_tensors_is_refused(small_tflite, tmp_path, changed):
    def change(model: Any) -> None:
        _placed(model)
        model.subgraphs[0].tensors.append(copy.deepcopy(model.subgraphs[0].tensors[0]))

    with pytest.raises(ModelFileError, match="OfflineMemoryAllocation"):
        read(changed(small_tflite, tmp_path / "plan.tflite", change))


def _function(path: Path, body: Any, *shapes: tuple[int, ...], variable: bool = False) -> Path:
    """A `.tflite` of a TensorFlow function, float."""
    import tensorflow as tf

    holder = tf.Module()
    if variable:
        holder.state = tf.Variable(np.zeros(shapes[0], np.float32))
    specs = [tf.TensorSpec(shape, tf.float32) for shape in shapes]
    holder.call = tf.function(lambda *inputs: body(tf, holder, *inputs), input_signature=specs)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([holder.call.get_concrete_function()], holder)
    converter.experimental_enable_resource_variables = variable
    path.write_bytes(converter.convert())
    return path


def _choice(tf: Any, _: Any, x: Any, y: Any) -> Any:
    return tf.cond(tf.reduce_sum(x) > 0, lambda: tf.tanh(x) @ y, lambda: (x - 1.0) @ tf.concat([y, y], 0)[:8])


def _loop(tf: Any, _: Any, x: Any, y: Any) -> Any:
    step = lambda i, value: (i + 1.0, tf.tanh(value @ y))  # noqa: E731
    return tf.while_loop(lambda i, _: i < 3.0, step, [tf.constant(0.0), x])[1]


def _stream(tf: Any, holder: Any, x: Any) -> Any:
    whole = tf.concat([holder.state, x], 1)
    holder.state.assign(whole[:, 4:])
    return tf.tanh(whole)


@pytest.mark.parametrize(
    ("body", "shapes", "operator"),
    [
        (_choice, ((4, 8), (8, 8)), "IF"),
        (_loop, ((4, 8), (8, 8)), "WHILE"),
        (_stream, ((4, 4),), "READ_VARIABLE"),
        (lambda tf, _, x, y: tf.matmul(x, y, transpose_a=True), ((2, 8, 4), (2, 8, 6)), "BATCH_MATMUL"),
    ],
    ids=["if", "while", "state", "matmul"],
)
def test_what_operators_call_is_planned_as_tflm_does(tmp_path, recorded_head, body, shapes, operator):
    path = _function(tmp_path / "function.tflite", body, *shapes, variable=operator == "READ_VARIABLE")
    file = read(path)
    assert operator in {one.name for graph in file.graphs for one in graph.operators}
    assert file.stateful is (operator == "READ_VARIABLE")
    assert arena_head(path) == recorded_head(path)
    assert tflm.arena(path) <= arena_head(path) + micro.beside(file, arena_head(path))


def test_a_file_with_state_is_run_in_order(tmp_path):
    """Its golden is that of one interpreter which sees all inputs, however many there are."""
    pytest.importorskip("tflite_micro", reason="the extra `mcu` is not installed (Linux x86-64 only)")
    path = _function(tmp_path / "state.tflite", _stream, (1, 4), variable=True)
    x = np.random.default_rng(0).uniform(-1, 1, (250, 4)).astype(np.float32)
    answers = tflm.outputs(path, x.view(np.int8)).view(np.float32)
    np.testing.assert_allclose(answers[1:, :4], np.tanh(x[:-1]), atol=1e-6)
    np.testing.assert_allclose(answers[:, 4:], np.tanh(x), atol=1e-6)


def test_files_from_the_field_are_planned_as_tflm_does(shared, recorded_head):
    """SVDF, several subgraphs and functions, state, several inputs and outputs, a plan in the file, a stray bias axis."""
    for name in ("009", "012", "015", "018", "032", "064", "071", "084"):
        (path,) = (shared / "field" / "models").glob(f"{name}_*.tflite")
        assert arena_head(path) == recorded_head(path), path.name


def test_what_the_runtime_keeps_is_bounded(shared, small_tflite):
    pytest.importorskip("tflite_micro", reason="the extra `mcu` is not installed (Linux x86-64 only)")
    field = [
        next((shared / "field" / "models").glob(f"{name}_*.tflite")) for name in ("001", "011", "015", "032", "071", "084")
    ]
    for path in (small_tflite, *field):
        file = read(path)
        plan = planner.schedule(file)
        head = planner.head(plan.buffers, planner.place(plan.buffers))
        need, real = head + micro.beside(file, head, len(plan.buffers)), tflm.arena(path)
        assert real <= need <= 1.5 * real, path.name
        assert need <= head + micro.beside(file, head)
