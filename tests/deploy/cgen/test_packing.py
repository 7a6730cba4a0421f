"""Weights come back as they were, from the fewest bytes."""

import ctypes
import math
import subprocess

import numpy as np
import pytest

from tinyrobust import assets
from tinyrobust.deploy.cgen.packing import candidates, choose, pack
from tinyrobust.formats import BIT, BYTE, CRUMB, ENCODINGS, NIBBLE, OCTAL, QUAD, TRIT

RANDOM = np.random.default_rng(0)
TERNARY = RANDOM.integers(-1, 2, 1003).astype(np.int8)
BINARY = RANDOM.choice(np.array([-1, 1], np.int8), 1003)
FOUR = RANDOM.choice(np.array([-84, -42, 0, 42], np.int8), 1003)
EIGHT = RANDOM.choice(np.arange(-124, 94, 31).astype(np.int8), 1003)
SIXTEEN = RANDOM.choice(np.linspace(-127, 127, 15).astype(np.int8), 1003)
BYTES = RANDOM.integers(-128, 128, 1003).astype(np.int8)


@pytest.fixture(scope="module")
def runtime(tmp_path_factory) -> ctypes.CDLL:
    library = tmp_path_factory.mktemp("unpack") / "unpack.so"
    source = assets.folder("export") / "runtime" / "tr_unpack.c"
    subprocess.run(["gcc", "-std=c99", "-O1", "-shared", "-fPIC", "-o", library, source], check=True)
    return ctypes.CDLL(str(library))


HELD = {  # tensors, and the encodings that hold them
    "binary": (BINARY * 127, ENCODINGS),
    "smallest": (np.full(1003, -128, np.int8), ENCODINGS),
    "ternary": (TERNARY * 90, (BYTE, NIBBLE, OCTAL, QUAD, CRUMB, TRIT)),
    "four": (FOUR, (BYTE, NIBBLE, OCTAL, QUAD)),
    "eight": (EIGHT, (BYTE, NIBBLE, OCTAL)),
    "sixteen": (SIXTEEN, (BYTE, NIBBLE)),
    "all": (BYTES, (BYTE,)),
}
CASES = [(name, encoding) for name, (_, encodings) in HELD.items() for encoding in encodings]


@pytest.mark.parametrize(("name", "encoding"), CASES, ids=[f"{name}-{encoding.name}" for name, encoding in CASES])
def test_the_kernels_unpack_what_was_packed(name, encoding, runtime):
    weights = HELD[name][0]
    packed = pack(weights, encoding)
    assert packed.data.size == encoding.size(weights.size)
    np.testing.assert_array_equal(packed.unpacked.astype(int) * packed.scale, weights)
    unpack = getattr(runtime, f"tr_unpack_{encoding.name}")
    unpack.restype = ctypes.POINTER(ctypes.c_int8)
    for first, count in ((0, 1003), (1, 7), (4, 5), (998, 5), (1002, 1), (13, 100)):
        buffer = (ctypes.c_int8 * count)()
        found = unpack(packed.data.ctypes.data_as(ctypes.c_void_p), first, count, buffer)[:count]
        np.testing.assert_array_equal(found, packed.unpacked[first : first + count])


@pytest.mark.parametrize("name", HELD)
def test_encodings_are_read_off_the_values(name):
    weights, encodings = HELD[name]
    assert candidates(weights) == encodings
    for other in set(ENCODINGS) - set(encodings):
        with pytest.raises(ValueError, match=f"weights that {other.name} holds"):
            pack(weights, other)


@pytest.mark.parametrize(
    ("weights", "encoding", "bits"),
    [(BINARY, BIT, 1), (TERNARY, TRIT, 1.6), (FOUR, QUAD, 2), (EIGHT, OCTAL, 3), (SIXTEEN, NIBBLE, 4), (BYTES, BYTE, 8)],
    ids=lambda value: getattr(value, "name", ""),
)
def test_weights_take_the_bits_of_their_values(weights, encoding, bits):
    (chosen,) = choose([weights])
    assert chosen is encoding
    assert pack(weights, chosen).data.size == math.ceil(weights.size * bits / 8) + encoding.table_bytes


def test_code_counts():
    assert choose([TERNARY, SIXTEEN, BYTES]) == [TRIT, NIBBLE, BYTE]
    assert choose([TERNARY[:50]]) == [BYTE]  # a decoder would cost more than it saves
    assert choose([TERNARY[:200]]) == [CRUMB]  # smaller code, larger table
    assert choose([TERNARY, TERNARY[:10]]) == [TRIT, TRIT]  # the decoder is there anyway
    assert choose([TERNARY, BINARY[:40]]) == [TRIT, TRIT]  # likewise
    assert choose([TERNARY, BINARY]) == [TRIT, BIT]
    assert choose([EIGHT, FOUR[:50]]) == [OCTAL, OCTAL]
    assert choose([]) == []


def test_decoders_take_the_bytes_that_are_counted(tmp_path):
    compiler = "arm-none-eabi-gcc"
    try:
        subprocess.run([compiler, "--version"], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip(f"{compiler} is not installed")
    source = assets.folder("export") / "runtime" / "tr_unpack.c"
    flags = ["-mcpu=cortex-m4", "-mthumb", "-Os", "-std=c99", "-c", "-o", tmp_path / "unpack.o"]
    subprocess.run([compiler, *flags, source], check=True)
    listing = subprocess.run(["arm-none-eabi-nm", "-S", tmp_path / "unpack.o"], check=True, capture_output=True, text=True)
    sizes = {line.split()[3].removeprefix("tr_unpack_"): int(line.split()[1], 16) for line in listing.stdout.splitlines()}
    assert sizes == pytest.approx({encoding.name: encoding.decoder_bytes for encoding in ENCODINGS}, abs=12)
