"""The table of storage formats: bits, and recognising the format from stored integers."""

from typing import get_args

import numpy as np
import pytest

from tinyrobust import formats


@pytest.mark.parametrize(
    ("kind", "bits"), [("binary", 1), ("ternary", 2), ("int4", 4), ("int8", 8), ("int16", 16), ("float", 32)]
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
    values = {"binary": [-127, 127], "ternary": [-127, 0, 127], "int4": range(-8, 8), "int8": range(-128, 128)}
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
        ("int4", [[127, -64, 63, 0], [1, 0, -1, 1]]),  # k * 127 / 2, rounded either way
        ("int8", [[127, 64, 31, 11], [0, 1, 2, 3]]),
        ("int8", [[8, 7, 6, 5, 4, 3, 2, 1]]),  # seventeen levels
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


def test_random_int8_weights_need_eight_bits():
    assert formats.recognise(np.random.default_rng(0).integers(-128, 128, (8, 27)).astype(np.int8), 0).name == "int8"


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_no_weights_are_named_as_stored(shape):
    assert formats.recognise(np.zeros(shape, np.int8), 0).name == "int8"


def test_a_scalar_is_one_channel():
    assert formats.recognise(np.array(7, np.int8), -1).name == "binary"
