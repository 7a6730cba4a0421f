"""Weights come back as they were, from the fewest bytes."""

import ctypes
import subprocess

import numpy as np
import pytest

from tinyrobust import assets
from tinyrobust.deploy.cgen.packing import DECODER_BYTES, candidates, choose, pack, size

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
@pytest.mark.parametrize("fmt", ["crumb", "trit", "nibble", "int8"])
def test_the_kernels_unpack_what_was_packed(fmt, scale, runtime):
    weights = (np.minimum(TERNARY, 0) if scale == 128 else TERNARY).astype(np.int16) * scale
    weights = weights.astype(np.int8)
    packed = pack(weights, fmt)
    assert packed.data.size == size(weights.size, fmt)
    np.testing.assert_array_equal(packed.unpacked.astype(int) * packed.scale, weights)
    unpack = getattr(runtime, f"tr_unpack_{fmt}")
    unpack.restype = ctypes.POINTER(ctypes.c_int8)
    for first, count in ((0, 1003), (1, 7), (4, 5), (998, 5), (13, 100)):
        buffer = (ctypes.c_int8 * count)()
        found = unpack(packed.data.ctypes.data_as(ctypes.c_void_p), first, count, buffer)[:count]
        np.testing.assert_array_equal(found, packed.unpacked[first : first + count])


def test_formats_are_read_off_the_values():
    assert set(candidates(TERNARY * 90)) == {"int8", "crumb", "trit", "nibble"}
    assert candidates(SIXTEEN) == ("int8", "nibble")
    assert candidates(BYTES) == ("int8",)
    with pytest.raises(ValueError, match="weights that trit holds"):
        pack(SIXTEEN, "trit")


def test_code_counts():
    assert choose([TERNARY, SIXTEEN, BYTES]) == ["trit", "nibble", "int8"]
    assert choose([TERNARY[:50]]) == ["int8"]  # a decoder would cost more than it saves
    assert choose([TERNARY[:200]]) == ["crumb"]  # smaller code, larger table
    assert choose([TERNARY, TERNARY[:10]]) == ["trit", "trit"]  # the decoder is there anyway
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
    assert sizes == pytest.approx(DECODER_BYTES, abs=12)
