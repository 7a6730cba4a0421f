"""The arena plan: no two live buffers overlap, and it is the one that TensorFlow Lite Micro makes."""

from itertools import combinations
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tinyrobust.deploy.artefact import read
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
