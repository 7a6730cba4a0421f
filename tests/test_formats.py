"""The table of storage formats: bits, and recognising the format from stored integers."""

from typing import get_args

import numpy as np
import pytest

from tinyrobust import formats


@pytest.mark.parametrize(
    ("kind", "bits"),
    [("binary", 1), ("ternary", 2), ("int2", 2), ("int3", 3), ("int4", 4), ("int8", 8), ("int16", 16), ("float", 32)],
)
def test_every_format_has_its_bits(kind, bits):
    (one,) = [one for one in formats.FORMATS if one.name == kind]
    assert one.bits == bits


def test_the_table_has_every_name_once_and_the_fewest_bits_first():
    assert sorted(one.name for one in formats.FORMATS) == sorted(get_args(formats.FormatName))
    assert [one.bits for one in formats.FORMATS] == sorted(one.bits for one in formats.FORMATS)
    assert {encoding for one in formats.FORMATS for encoding in one.encodings} == set(formats.ENCODINGS)


def test_what_a_format_holds_its_encodings_store():
    """Of channels with the same magnitude, as a converter writes them."""
    values = {"binary": [-127, 127], "ternary": [-127, 0, 127], "int2": range(-2, 2), "int3": range(-4, 4)}
    values |= {"int4": range(-8, 8), "int8": range(-128, 128)}
    for one in formats.FORMATS:
        for encoding in one.encodings:
            assert encoding.holds(np.array(values[one.name], np.int8))


@pytest.mark.parametrize(
    ("count", "bits", "expected"), [(0, 2, 0), (1, 2, 1), (4, 2, 1), (5, 2, 2), (9, 1, 2), (3, 4, 2), (7, 8, 7)]
)
def test_packed_bytes_round_up(count, bits, expected):
    assert formats.packed_bytes(count, bits) == expected


@pytest.mark.parametrize(("count", "bits"), [(-1, 2), (1, 0)])
def test_packed_bytes_refuses_nonsense(count, bits):
    with pytest.raises(ValueError, match="Received"):
        formats.packed_bytes(count, bits)


def _channels(values: list[list[int]]) -> np.ndarray:
    return np.array(values, np.int8)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("ternary", [[127, 0, -127], [0, 0, 127]]),
        ("ternary", [[127, 0, -127], [0, 0, 0]]),
        ("ternary", [[5, 0, -5], [90, 90, 0]]),
        ("binary", [[127, -127, 127], [3, -3, -3]]),
        ("int8", [[127, 0, -128], [127, -127, 0]]),
        ("int4", [[7, -8, 3, 1], [0, 2, -5, 7]]),
        ("int4", [[127, -109, 54, 18], [-127, 0, 36, 91]]),  # k * 127 / 7
        ("int2", [[127, -64, 63, 0], [1, 0, -1, 1]]),  # k * 127 / 2, rounded either way
        ("int3", [[127, 63, -64, -63, 64, 0], [2, 1, -1, -1, 1, 0]]),  # six levels
        ("int2", [[-2, -1, 0, 1], [84, 42, 0, -42]]),  # and turned around
        ("int2", [[126, -42, 42, -126], [42, 42, -42, 42]]),  # odd numbers
        ("int3", [[-124, -31, 0, 93], [124, 31, 0, -93]]),
        ("int3", [[126, -18, 54, -90], [-90, 18, 54, 18]]),
        ("int4", [[124, -124, 31, 93], [31, 0, 0, 62]]),  # nine levels
        ("int4", [[120, -8, 24, -104], [120, -120, 56, 88]]),
        ("int8", [[127, 64, 31, 11], [0, 1, 2, 3]]),
        ("int4", [[8, 7, 6, 5, 4, 3, 2, 1, -7]]),  # turned around
        ("int8", [[8, 7, 6, 5, 4, 3, 2, 1, 0, -8]]),  # seventeen levels
        ("int4", [[-8, 7, 6, 5]]),
    ],
)
def test_the_kind_is_recognised_from_the_values(kind, values):
    assert formats.recognise(_channels(values), 0).name == kind


def test_a_channel_is_along_the_axis_that_is_named():
    values = _channels([[127, 5, 90], [0, -5, 90], [-127, 5, 0]])
    assert formats.recognise(values, 1).name == "ternary"
    assert formats.recognise(values, 0).name == "int8"
    assert formats.recognise(values.reshape(1, 3, 1, 3), 3).name == "ternary"


def test_zero_points_are_taken_off_first():
    values = np.array([[255, 128, 1], [128, 128, 255]], np.uint8)
    assert formats.recognise(values, 0, 128).name == "ternary"
    assert formats.recognise(values, 0).name == "int8"
    assert formats.recognise(_channels([[5, 4, 3], [9, -7, 1]]), 0, np.array([4, 1])).name == "ternary"


def test_wider_integers_are_named_as_stored():
    assert formats.recognise(np.array([[1000, 999, -3]], np.int16), 0).name == "int16"
    assert formats.recognise(np.array([[1000, 0, -1000]], np.int16), 0).name == "ternary"


@pytest.mark.parametrize("top", range(1, 8))
def test_every_four_bit_grid_stretched_to_int8_is_recognised(top):
    levels = np.random.default_rng(top).integers(-top, top + 1, (6, 50))
    levels[:, 0] = top
    assert formats.recognise(np.rint(levels * 127 / top).astype(np.int8), 0).bits <= 4


@pytest.mark.parametrize("seed", range(40))
def test_grids_of_few_bits_are_recognised_whatever_the_channels_use_of_them(seed):
    """Channels of all levels and of few, turned around or not, each with a step of its own, rounded to int8."""
    random = np.random.default_rng(seed)
    bits, odd = random.integers(2, 5), random.random() < 0.5
    levels = np.arange(1 - 2**bits, 2**bits, 2) if odd else np.arange(-(2 ** (bits - 1)), 2 ** (bits - 1))
    channels = []
    for _ in range(random.integers(1, 9)):
        used = random.choice(levels, random.integers(1, levels.size + 1), replace=False)
        channels.append(random.choice(used, 40) * random.choice([-1, 1]))
    channels.append(random.permutation(np.resize(levels, 40)))  # one has them all
    values = np.stack(channels).astype(float)
    peaks = np.abs(values).max(axis=1, keepdims=True)
    stretched = values / np.maximum(peaks, 1) * random.integers(90, 128, peaks.shape)
    stored = np.rint(stretched).astype(np.int8)
    assert formats.recognise(stored, 0).bits == bits
    assert formats.recognise(stored.T, 1).bits == bits


def test_a_format_is_found_by_its_levels():
    assert [formats.with_levels(n).name for n in (2, 3, 4, 7, 8, 16, 17, 257)] == [
        "binary", "ternary", "int2", "int3", "int3", "int4", "int8", "int16",
    ]  # fmt: skip
    assert [formats.fixed_point(bits).name for bits in range(2, 9)] == ["ternary", "int3", "int4", *["int8"] * 4]
    with pytest.raises(ValueError, match="Received: levels=1"):
        formats.with_levels(1)


@pytest.mark.parametrize(
    ("recognised", "stored", "values"),
    [
        ("int2", "int2", [[-126, -63, 0, 63], [63, 0, -63, 63]]),
        ("int2", "int3", [[-126, -63, 0, 63], [126, 63, 0, -63]]),  # the second is turned around: five values
        ("int4", "int4", [[-8, *range(-7, 8)]]),
        ("int4", "int8", [[-8, *range(-7, 8)], [8, *range(-7, 8)]]),
        ("ternary", "int2", [[5, 0, -5], [90, 90, 0]]),
        ("binary", "int2", [[127, -127, 127], [3, -3, -3]]),
        ("int8", "int8", [[127, 64, 31, 11], [0, 1, 2, 3]]),
    ],
)
def test_what_the_c_stores_holds_all_channels_together(recognised, stored, values):
    weights = _channels(values)
    found = formats.recognise(weights, 0)
    assert (found.name, formats.packed(weights, found).name) == (recognised, stored)


def test_random_int8_weights_need_eight_bits():
    assert formats.recognise(np.random.default_rng(0).integers(-128, 128, (8, 27)).astype(np.int8), 0).name == "int8"


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_no_weights_are_named_as_stored(shape):
    assert formats.recognise(np.zeros(shape, np.int8), 0).name == "int8"


def test_a_scalar_is_one_channel():
    assert formats.recognise(np.array(7, np.int8), -1).name == "binary"
