"""Weights come back as they were, from the fewest bytes."""

import ctypes
import subprocess

import numpy as np
import pytest

from tinyrobust import assets
from tinyrobust.deploy.cgen.packing import candidates, choose, pack
from tinyrobust.formats import BYTE, CRUMB, ENCODINGS, NIBBLE, TRIT

RANDOM = np.random.default_rng(0)
TERNARY = RANDOM.integers(-1, 2, 1003).astype(np.int8)
SIXTEEN = RANDOM.choice(np.linspace(-127, 127, 15).astype(np.int8), 1003)
BYTES = RANDOM.integers(-128, 128, 1003).astype(np.int8)


@pytest.fixture(scope="module")
def runtime(tmp_path_factory) -> ctypes.CDLL:
    library = tmp_path_factory.mktemp("unpack") / "unpack.so"
    source = assets.folder("export") / "runtime" / "tr_unpack.c"
    subprocess.run(["gcc", "-std=c99", "-O1", "-shared", "-fPIC", "-o", library, source], check=True)
    return ctypes.CDLL(str(library))


@pytest.mark.parametrize("scale", [1, 127, 128])
@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda encoding: encoding.name)
def test_the_kernels_unpack_what_was_packed(encoding, scale, runtime):
    weights = (np.minimum(TERNARY, 0) if scale == 128 else TERNARY).astype(np.int16) * scale
    weights = weights.astype(np.int8)
    packed = pack(weights, encoding)
    assert packed.data.size == encoding.size(weights.size)
    np.testing.assert_array_equal(packed.unpacked.astype(int) * packed.scale, weights)
    unpack = getattr(runtime, f"tr_unpack_{encoding.name}")
    unpack.restype = ctypes.POINTER(ctypes.c_int8)
    for first, count in ((0, 1003), (1, 7), (4, 5), (998, 5), (13, 100)):
        buffer = (ctypes.c_int8 * count)()
        found = unpack(packed.data.ctypes.data_as(ctypes.c_void_p), first, count, buffer)[:count]
        np.testing.assert_array_equal(found, packed.unpacked[first : first + count])


def test_encodings_are_read_off_the_values():
    assert candidates(TERNARY * 90) == ENCODINGS
    assert candidates(SIXTEEN) == (BYTE, NIBBLE)
    assert candidates(BYTES) == (BYTE,)
    with pytest.raises(ValueError, match="weights that trit holds"):
        pack(SIXTEEN, TRIT)


def test_code_counts():
    assert choose([TERNARY, SIXTEEN, BYTES]) == [TRIT, NIBBLE, BYTE]
    assert choose([TERNARY[:50]]) == [BYTE]  # a decoder would cost more than it saves
    assert choose([TERNARY[:200]]) == [CRUMB]  # smaller code, larger table
    assert choose([TERNARY, TERNARY[:10]]) == [TRIT, TRIT]  # the decoder is there anyway
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
