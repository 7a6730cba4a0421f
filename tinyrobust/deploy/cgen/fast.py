"""Which layers the fast kernels run, and in how much scratch: the figures of their C."""

import numpy as np
from numpy.typing import NDArray

from tinyrobust.deploy.cgen.calls import APART, Overlap, distance
from tinyrobust.deploy.cgen.layers import Conv
from tinyrobust.deploy.cgen.packing import Packed, pack

_PIXELS = 4  # TR_FAST_PIXELS of tr_window.h
_TERNARY_PIXELS, _TABLES, _CARRIED, _INDICES, _SLACK = 8, 5, 85, 2048, 4  # PIXELS and so on of tr_fast_conv_ternary.c
_SUMS = 128  # SUMS of tr_fast_depthwise.c


def takes_ternary_conv(conv: Conv, packed: Packed) -> bool:
    """Whether `tr_fast_conv_ternary` runs the layer."""
    return packed.format == "trit" and not conv.depthwise and conv.groups == 1


def takes_conv(conv: Conv, packed: Packed) -> bool:
    """Whether `tr_fast_conv` runs the layer."""
    return packed.format == "int8" and not conv.depthwise and conv.groups == 1


def takes_ternary_depthwise(conv: Conv, packed: Packed) -> bool:
    """Whether `tr_fast_depthwise_ternary` runs the layer."""
    return packed.format in ("crumb", "trit") and takes_depthwise(conv, packed)


def takes_depthwise(conv: Conv, _packed: Packed) -> bool:
    """Whether `tr_fast_depthwise` runs the layer."""
    return conv.depthwise and conv.window.dilation_w == 1


def ternary_conv_scratch(conv: Conv) -> int:
    """Bytes of scratch of `tr_fast_conv_ternary`: tables, sums in 16 and, where they need them, 32 bits, weights, windows."""
    width = -(-_taps(conv) // 3)
    tile = _tile(conv)
    sums = (48 if width > _CARRIED else 16) * tile
    return 432 * min(width, _TABLES) + sums + tile * width + 2 * _SLACK + _gathered(conv, _TERNARY_PIXELS)


def ternary_conv_weights(conv: Conv, packed: Packed) -> NDArray[np.uint8]:
    """Weights of `tr_fast_conv_ternary`: rows padded to threes of trits, the whole to threes of bytes."""
    rows = packed.unpacked.reshape(conv.window.out.channels, -1)
    data = pack(np.pad(rows, ((0, 0), (0, -rows.shape[1] % 3))), packed.format).data
    return np.pad(data, (0, -data.size % 3))


def conv_scratch(conv: Conv) -> int:
    """Bytes of scratch of `tr_fast_conv`: four widened windows, and one as it is gathered."""
    return 8 * _PIXELS * -(-_taps(conv) // 4) + _gathered(conv, 1)


def depthwise_scratch(conv: Conv) -> int:
    """Bytes of scratch of `tr_fast_depthwise`: taps, sums, the plane and a channel's weights."""
    window = conv.window
    height = (window.out.height - 1) * window.stride_h + (window.height - 1) * window.dilation_h + 1
    pitch = (window.out.width - 1) * window.stride_w + window.width
    taps = 8 * window.height * -(-window.width // 4)
    return taps + 4 * max(window.out.width, _SUMS) + height * pitch + 3 + window.taps


def ternary_conv_overlap(conv: Conv) -> Overlap:
    """Every tile of outputs reads the whole input."""
    return _overlap(conv, _TERNARY_PIXELS) if _tile(conv) == conv.window.out.channels else APART


def conv_overlap(conv: Conv) -> Overlap:
    """A group of pixels is read before it is written."""
    return _overlap(conv, _PIXELS)


def _overlap(conv: Conv, pixels: int) -> Overlap:
    return Overlap(True, distance(conv.window, pixels))


def _taps(conv: Conv) -> int:
    return conv.window.taps * conv.window.source.channels


def _tile(conv: Conv) -> int:
    return min(max(_INDICES // -(-_taps(conv) // 3), 1), conv.window.out.channels)


def _gathered(conv: Conv, pixels: int) -> int:
    return 0 if conv.window.pointwise else pixels * _taps(conv)
