"""Operators that only move bytes: those that move none cost nothing, and those that do not fit are refused."""

import pytest

from tinyrobust.deploy.artefact import read
from tinyrobust.deploy.cgen.lower import lower
from tinyrobust.errors import ModelFileError


def test_the_shape_of_a_static_batch_costs_nothing(graph, assert_exact, inputs_for, tmp_path):
    """SHAPE, STRIDED_SLICE and PACK around Flatten: the converter's habit with a batch of any size."""
    made = graph()
    x = made.tensor((1, 3, 4, 2), 0.1, 0)
    shape = made.op("SHAPE", [x], made.tensor((4,), dtype="int32"))
    one = [made.tensor((1,), data=[value], dtype="int32") for value in (0, 1, 1)]
    batch = made.op("STRIDED_SLICE", [shape, *one], made.tensor((), dtype="int32"), shrinkAxisMask=1)
    rest = made.tensor((), data=24, dtype="int32")
    target = made.op("PACK", [batch, rest], made.tensor((2,), dtype="int32"), valuesCount=2)
    flat = made.op("RESHAPE", [x, target], made.tensor((1, 24), 0.1, 0))
    model = made.save(tmp_path / "flat.tflite", x, made.op("RELU", [flat], made.tensor((1, 24), 0.1, 0)))
    assert [node.op for node in lower(read(model)).nodes] == ["RELU"]
    assert_exact([model], [inputs_for(model, 8, 0)])


def test_what_moves_nothing_costs_nothing(graph, tmp_path):
    made = graph()
    x = made.tensor((1, 5, 1, 3), 0.1, 0)
    turned = made.op("TRANSPOSE", [x, made.tensor((4,), data=(0, 2, 1, 3), dtype="int32")], made.tensor((1, 1, 5, 3), 0.1, 0))
    model = made.save(tmp_path / "turned.tflite", x, made.op("RELU", [turned], made.tensor((1, 1, 5, 3), 0.1, 0)))
    assert [node.op for node in lower(read(model)).nodes] == ["RELU"]


@pytest.mark.parametrize(
    ("name", "operands", "shape", "options", "said"),
    [
        ("STRIDED_SLICE", [[0, 0], [1, 9], [1, 0]], (1, 4), {}, "a step that is not 0"),
        ("STRIDED_SLICE", [[0, 0], [1, 3], [1, 1]], (1, 2), {}, "an output of 3 values"),
        ("STRIDED_SLICE", [[0, 9], [1, 10], [1, 1]], (1,), {"shrinkAxisMask": 2}, "from -4 to 3"),
        ("STRIDED_SLICE", [[0, 0], [1, 4], [1, 1]], (1, 4), {"ellipsisMask": 1}, "no ellipsis_mask"),
        ("SLICE", [[0, 0], [1, 2]], (1, 3), {}, "an output of 2 values"),
        ("TRANSPOSE", [[0, 0]], (1, 4), {}, "every axis"),
        ("SPLIT_V", [[3], [1]], (1, 3), {}, "parts that make 4"),
        ("UNPACK", [], (1, 4), {"axis": 5}, "an axis or place from -2 to 1"),
    ],
)
def test_what_does_not_fit_is_refused(name, operands, shape, options, said, graph, tmp_path):
    made = graph()
    x = made.tensor((1, 4), 0.1, 0)
    constants = [made.tensor((len(values),), data=values, dtype="int32") for values in operands]
    model = made.save(tmp_path / "bad.tflite", x, made.op(name, [x, *constants], made.tensor(shape, 0.1, 0), **options))
    with pytest.raises(ModelFileError, match=said):
        lower(read(model))
