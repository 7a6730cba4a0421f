"""Which layers the fast kernels run, and in how much scratch: the figures of their C."""

import numpy as np
from numpy.typing import NDArray

from tinyrobust.deploy.cgen.calls import APART, Overlap, distance
from tinyrobust.deploy.cgen.layers import Conv
from tinyrobust.deploy.cgen.packing import Packed, pack_units
from tinyrobust.formats import BINARY, BIT, BYTE, TRIT

_PIXELS = 4  # TR_FAST_PIXELS of tr_window.h
_UNPACKED, _FEWEST = 4096, 8  # UNPACKED and LEAST of tr_fast_conv.c
_TERNARY_PIXELS, _TABLES, _CARRIED, _SLACK = 8, 5, 85, 4  # PIXELS and so on of tr_fast_conv_ternary.c
_INDICES, _LEAST, _TILE = 2048, 48, 64  # likewise
_ROWS = 4  # ROWS of tr_lean_conv.c
_FOUR = 4  # ROWS of tr_fast_dense.c, and inputs of a word
_LARGEST = 127  # weight that fits a lane beside another one
_SUMS = 128  # SUMS of tr_fast_depthwise.c and tr_fast_depthwise_ternary.c
_PLANES, _FEW = 4, 128  # PLANES and FEW of tr_fast_depthwise_ternary.c
_LANE = 255  # inputs whose sum fits 16 bits


def one_pixel(conv: Conv) -> bool:
    """Whether it is a fully connected layer, which has no other pixels to go with."""
    return conv.window.pointwise and conv.window.source.count == conv.window.source.channels


def takes_lanes(conv: Conv, packed: Packed) -> bool:
    """Whether `tr_fast_dense` runs the layer.

    Its outputs are padded to fours: where that takes much flash, `tr_lean_conv` does without.
    """
    outputs, taps = conv.weights.shape
    full = taps % _FOUR == 0 and _FEWEST * (-outputs % _FOUR) <= outputs
    return one_pixel(conv) and full and takes_conv(conv, packed)


def dense_lanes(conv: Conv, packed: Packed) -> NDArray[np.int32]:
    """Weights of `tr_fast_dense`: of each four outputs and each four inputs the words of the first two, then of the others."""
    return np.ascontiguousarray(_lanes(conv, packed, _FOUR).transpose(0, 2, 1, 3)).reshape(-1)


def conv_lanes(conv: Conv, packed: Packed) -> NDArray[np.int32]:
    """Weights of `tr_fast_conv`: of each two outputs the words of all taps."""
    return _lanes(conv, packed, 2).reshape(-1)


def takes_dense(conv: Conv, packed: Packed) -> bool:
    """Whether `tr_lean_conv` is the fastest; trits and signs have a kernel that need not unpack them."""
    return one_pixel(conv) and packed.encoding not in (TRIT, BIT) and takes_packed_conv(conv, packed)


def takes_ternary_conv(conv: Conv, packed: Packed) -> bool:
    """Whether `tr_fast_conv_ternary` runs the layer."""
    return packed.encoding is TRIT and takes_packed_conv(conv, packed)


def takes_binary_conv(conv: Conv, packed: Packed) -> bool:
    """Whether `tr_fast_conv_binary` runs the layer."""
    return packed.encoding is BIT and takes_packed_conv(conv, packed)


def takes_conv(conv: Conv, packed: Packed) -> bool:
    """Whether `tr_fast_conv` runs the layer: two weights in a lane of 16 bits, the sum of the second ones in 24."""
    magnitudes = np.abs(conv.weights.astype(np.int64))
    fits = magnitudes.max() <= _LARGEST and 128 * magnitudes.sum(axis=1).max() < 2**23
    return packed.encoding is BYTE and bool(fits) and takes_packed_conv(conv, packed)


def takes_packed_conv(conv: Conv, _packed: Packed) -> bool:
    """Whether `tr_fast_conv_packed` runs the layer."""
    return not conv.depthwise and conv.groups == 1


def takes_ternary_depthwise(conv: Conv, packed: Packed) -> bool:
    """Whether `tr_fast_depthwise_ternary` runs the layer.

    It could run windows that move by more than one, too, but there `tr_fast_depthwise` needs fewer instructions: the ternary
    one copies as much for a fourth of the outputs. Of a line it would leave every other lane empty.
    """
    window = conv.window
    simple = packed.encoding in BINARY.encodings and window.taps <= _LANE and (window.stride_h, window.stride_w) == (1, 1)
    return simple and window.out.height > 1 and takes_depthwise(conv, packed)


def takes_ternary_3x3(conv: Conv, packed: Packed) -> bool:
    """Whether `tr_fast_depthwise_ternary_3x3` runs the layer."""
    window = conv.window
    return takes_ternary_depthwise(conv, packed) and (window.height, window.width, window.dilation_h) == (3, 3, 1)


def takes_3x3(conv: Conv, packed: Packed) -> bool:
    """Whether `tr_fast_depthwise_3x3` runs the layer."""
    return conv.window.stride_w == 1 and takes_3x3_strided(conv, packed)


def takes_3x3_strided(conv: Conv, packed: Packed) -> bool:
    """Whether `tr_fast_depthwise_3x3_strided` runs the layer."""
    window = conv.window
    return takes_depthwise(conv, packed) and (window.height, window.width, window.dilation_h) == (3, 3, 1)


def takes_line(conv: Conv, packed: Packed) -> bool:
    """Whether `tr_fast_depthwise_line` runs the layer."""
    return (conv.window.height, conv.window.stride_w) == (1, 1) and takes_depthwise(conv, packed)


def takes_depthwise(conv: Conv, _packed: Packed) -> bool:
    """Whether `tr_fast_depthwise` runs the layer."""
    return conv.depthwise and conv.window.dilation_w == 1


def ternary_conv_scratch(conv: Conv, _packed: Packed) -> int:
    """Scratch of `tr_fast_conv_ternary` and `_binary` in bytes: tables, sums (of many taps in 32 bits), weights, windows."""
    width, tile = _threes(conv), _tile(conv)
    sums = (48 if width > _CARRIED else 16) * tile
    indices = tile * (_TABLES if _decodes_again(conv) else width)
    return 432 * min(width, _TABLES) + sums + indices + 2 * _SLACK + _gathered(conv, _TERNARY_PIXELS)


def ternary_conv_weights(conv: Conv, packed: Packed) -> NDArray[np.uint8]:
    """Weights of `tr_fast_conv_ternary` and `_binary`: rows padded to threes of weights, the whole to threes of bytes.

    Where they are decoded again and again, tile by tile of outputs, each padded to threes of bytes, and within these by the
    tables that they look into at a time.
    """
    rows = packed.unpacked.reshape(conv.window.out.channels, -1)
    threes = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 3))).reshape(len(rows), -1, 3)
    if not _decodes_again(conv):
        return _threes_of_bytes(threes, packed)
    tiles = [threes[first : first + _tile(conv)] for first in range(0, len(threes), _tile(conv))]
    blocks = range(0, threes.shape[1], _TABLES)
    ordered = [np.concatenate([tile[:, first : first + _TABLES].reshape(-1) for first in blocks]) for tile in tiles]
    return np.concatenate([_threes_of_bytes(tile, packed) for tile in ordered])


def lean_conv_scratch(conv: Conv, packed: Packed) -> int:
    """Bytes of scratch of `tr_lean_conv`: a window, and the weights of as many outputs as one pass computes."""
    rows = _ROWS if conv.window.out.channels >= _ROWS else 1
    return _gathered(conv, 1) + (0 if packed.encoding is BYTE else rows * _taps(conv))


def conv_scratch(conv: Conv, _packed: Packed) -> int:
    """Bytes of scratch of `tr_fast_conv`: four widened windows, and one as it is gathered; without DSP four as they are."""
    return 8 * _PIXELS * -(-_taps(conv) // 4) + _gathered(conv, 1)


def packed_conv_scratch(conv: Conv, _packed: Packed) -> int:
    """Bytes of scratch of `tr_fast_conv_packed`: windows as in `tr_fast_conv`, and weights of some outputs."""
    return (8 * _PIXELS + 4) * -(-_taps(conv) // 4) + _unpacked(conv) * _taps(conv) + 3


def depthwise_scratch(conv: Conv, _packed: Packed) -> int:
    """Bytes of scratch of `tr_fast_depthwise`: taps, sums, the plane and a channel's weights."""
    window = conv.window
    height = (window.out.height - 1) * window.stride_h + (window.height - 1) * window.dilation_h + 1
    pitch = (window.out.width - 1) * window.stride_w + window.width
    taps = 12 * window.height * ((window.width + 4) // 4)
    return taps + 4 * (max(window.out.width, _SUMS) + 1) + height * pitch + 3 + window.taps + 3


def ternary_depthwise_scratch(conv: Conv, _packed: Packed) -> int:
    """Bytes of scratch of `tr_fast_depthwise_ternary`: planes of words, sums and a channel's weights."""
    window = conv.window
    half = -(-window.out.height // 2)
    right = (window.out.width - 1) * window.stride_w + window.width - window.source.width - window.pad_left
    pitch = window.source.width + max(window.pad_left, right)
    rows = (half - 1) * window.stride_h + (window.height - 1) * window.dilation_h + 1
    words = (rows * pitch + window.width + 6) // 4 * 4
    planes = _PLANES if window.source.channels == window.out.channels and words <= _FEW else 1
    return 4 * planes * words + 4 * max(window.out.width, _SUMS) + window.taps


def ternary_conv_overlap(conv: Conv) -> Overlap:
    """Every tile of outputs reads the whole input."""
    return _overlap(conv, _TERNARY_PIXELS) if _tile(conv) == conv.window.out.channels else APART


def lean_conv_overlap(conv: Conv) -> Overlap:
    """A window of one tap is read where it lies until all of its outputs are written."""
    if conv.window.taps > 1:
        return _overlap(conv, 1)
    return Overlap(True, distance(conv.window, 1, behind=False) + conv.window.out.channels)


def conv_overlap(conv: Conv) -> Overlap:
    """A group of pixels is read before it is written."""
    return _overlap(conv, _PIXELS)


def packed_conv_overlap(conv: Conv) -> Overlap:
    """As `tr_fast_conv`, where weights are unpacked all at once."""
    return conv_overlap(conv) if _unpacked(conv) == conv.window.out.channels else APART


def _overlap(conv: Conv, pixels: int) -> Overlap:
    return Overlap(True, distance(conv.window, pixels))


def _taps(conv: Conv) -> int:
    return conv.window.taps * conv.window.source.channels


def _lanes(conv: Conv, packed: Packed, outputs: int) -> NDArray[np.int32]:
    """int8 weights two outputs to a lane, first + 256 * second, [groups of outputs, pairs, fours of taps, 2].

    Of four taps, the first and third share a word, and the second and fourth. Zeros fill up groups and fours.
    """
    rows = packed.unpacked.reshape(conv.weights.shape).astype(np.int32)
    channels, taps = conv.weights.shape
    padded = np.pad(rows, ((0, -channels % outputs), (0, -taps % _FOUR)))
    pairs = padded.reshape(-1, outputs // 2, 2, -(-taps // _FOUR), _FOUR)
    both = pairs[:, :, 0] + 256 * pairs[:, :, 1]
    return np.asarray((both[..., :2] & 0xFFFF) | both[..., 2:] << 16, np.int32)


def _threes(conv: Conv) -> int:
    return -(-_taps(conv) // 3)


def _threes_of_bytes(units: NDArray[np.int8], packed: Packed) -> NDArray[np.uint8]:
    data = pack_units(units, packed.encoding)
    return np.pad(data, (0, -data.size % 3))


def _decodes_again(conv: Conv) -> bool:
    fit = _INDICES // _threes(conv)
    return fit < _LEAST and fit < conv.window.out.channels


def _tile(conv: Conv) -> int:
    channels = conv.window.out.channels
    most = _TILE if _decodes_again(conv) else _INDICES // _threes(conv)
    return -(-channels // -(-channels // most))


def _unpacked(conv: Conv) -> int:
    """Outputs whose weights `tr_fast_conv_packed` unpacks at a time."""
    channels = conv.window.out.channels
    tiles = -(-channels // max(_UNPACKED // _taps(conv), _FEWEST))
    return -(-channels // tiles)


def _gathered(conv: Conv, pixels: int) -> int:
    return 0 if conv.window.pointwise else pixels * _taps(conv)
