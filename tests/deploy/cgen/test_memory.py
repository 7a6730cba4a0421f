"""Plans in which nothing that is alive is overwritten, and which are about as small as can be."""

import itertools

import numpy as np
import pytest

from tinyrobust.deploy.cgen.calls import distance
from tinyrobust.deploy.cgen.layers import Shape, Window
from tinyrobust.deploy.cgen.memory import Buffer, Overlap, plan


def _random(seed: int, steps: int) -> tuple[list[Buffer], list[Overlap]]:
    """A chain with a few long-lived values; some outputs may overlap the input that dies."""
    random = np.random.default_rng(seed)
    last = [min(step + int(random.choice([1, 1, 1, 3])), steps) for step in range(steps)]
    buffers = [Buffer(int(random.integers(1, 60)) * 4, step, last[step]) for step in range(steps)]
    overlaps = []
    for out in range(1, steps):
        if last[out - 1] == out and random.random() < 0.6:
            choice = [None, 0, int(random.integers(-5, 5)) * 4]
            overlaps.append(Overlap(out - 1, out, choice[int(random.integers(3))]))
    return buffers, overlaps


@pytest.mark.parametrize("steps", [1, 2, 5, 7, 12, 40])
def test_nothing_alive_is_overwritten(steps, conflicts):
    for seed in range(20):
        buffers, overlaps = _random(seed, steps)
        planned = plan(buffers, overlaps)
        assert conflicts(buffers, overlaps, planned.offsets) == []
        assert planned.size == max(o + b.size for o, b in zip(planned.offsets, buffers, strict=True))


def test_small_plans_are_within_five_percent_of_the_smallest(smallest_plan):
    for seed in range(12):
        buffers, overlaps = _random(seed, 4)
        buffers = [Buffer(-(-b.size // 16) * 4, b.first, b.last) for b in buffers]
        assert plan(buffers, overlaps).size <= 1.05 * smallest_plan(buffers, overlaps)


def test_a_search_over_many_is_about_as_good_as_every_order():
    for seed in range(6):
        buffers, overlaps = _random(100 + seed, 7)
        order = min(_placed(buffers, overlaps, order) for order in itertools.permutations(range(7)))
        assert plan(buffers, overlaps).size <= 1.05 * order


def _placed(buffers, overlaps, order) -> int:
    from tinyrobust.deploy.cgen.memory import _Problem

    return _Problem(buffers, overlaps).place(order).size


@pytest.mark.parametrize("steps", [12, 40])
def test_somebody_elses_plan_is_not_missed(steps):
    for seed in range(6):
        random = np.random.default_rng(seed)
        buffers = [
            Buffer(int(random.integers(1, 60)) * 4, step, step + int(random.choice([1, 2, steps]))) for step in range(steps)
        ]
        theirs = list(range(steps))
        best = min((_placed_at(buffers, list(random.permutation(theirs))) for _ in range(50)), key=lambda one: one.size)
        assert plan(buffers, known=dict(enumerate(best.offsets))).size <= best.size


def _placed_at(buffers, order):
    from tinyrobust.deploy.cgen.memory import _Problem

    return _Problem(buffers, []).place(order)


def test_an_input_lies_inside_the_output_that_replaces_it():
    buffers = [Buffer(480, -1, 0), Buffer(8000, 0, 1)]
    planned = plan(buffers, [Overlap(0, 1, 7512)])
    assert planned.size == 8000
    assert planned.offsets[0] - planned.offsets[1] >= 7512


def test_conflicts_are_found(conflicts):
    buffers = [Buffer(8, 0, 1), Buffer(8, 1, 2)]
    assert conflicts(buffers, [], (0, 4)) == [(0, 1)]
    assert conflicts(buffers, [Overlap(0, 1, 0)], (0, 4)) == [(0, 1)]
    assert conflicts(buffers, [Overlap(0, 1, 0)], (4, 0)) == []
    assert conflicts(buffers, [Overlap(0, 1, None)], (4, 0)) == [(0, 1)]
    assert conflicts(buffers, [Overlap(0, 1, None)], (4, 4)) == []


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("block", [1, 4])
def test_the_distance_keeps_every_byte_until_it_is_read(seed, block):
    """Plays a kernel: a block of pixels is read, then written; what is still to be read must be untouched."""
    random = np.random.default_rng(seed)
    height, width, channels, out_channels = (int(n) for n in random.integers(1, 7, 4))
    kernel, stride = int(random.integers(1, 4)), int(random.integers(1, 4))
    pad = int(random.integers(0, kernel))
    out = [max((size + 2 * pad - kernel) // stride + 1, 1) for size in (height, width)]
    shapes = Shape(height, width, channels), Shape(*out, out_channels)
    window = Window(*shapes, kernel, kernel, stride, stride, 1, 1, pad, pad)
    start = distance(window, block)
    owner = {start + i: i for i in range(shapes[0].count)}  # the input's bytes, relative to the output's start
    total = out[0] * out[1]
    for first in range(0, total, block):
        for pixel in range(first, min(first + block, total)):
            y, x = divmod(pixel, out[1])
            rows = [r for r in range(y * stride - pad, y * stride - pad + kernel) if 0 <= r < height]
            columns = [c for c in range(x * stride - pad, x * stride - pad + kernel) if 0 <= c < width]
            for row, column, channel in itertools.product(rows, columns, range(channels)):
                index = (row * width + column) * channels + channel
                assert owner[start + index] == index
        for byte in range(first * out_channels, min(first + block, total) * out_channels):
            owner[byte] = -1
