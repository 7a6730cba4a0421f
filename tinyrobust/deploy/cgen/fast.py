"""Which layers the fast kernels run, and in how much scratch: the figures of their C."""

from tinyrobust.deploy.cgen.calls import APART, Overlap, distance
from tinyrobust.deploy.cgen.layers import Conv
from tinyrobust.deploy.cgen.packing import Packed

_PIXELS = 4  # TR_FAST_PIXELS of tr_window.h
_TABLES, _INDICES = 11, 2048  # TABLES and INDICES of tr_fast_conv_ternary.c
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
    """Bytes of scratch of `tr_fast_conv_ternary`: tables, sums, decoded weights, windows."""
    width = -(-_taps(conv) // 3)
    tile = _tile(conv)
    return 216 * min(width, _TABLES) + 16 * tile + tile * width + _gathered(conv, _PIXELS)


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
    return conv_overlap(conv) if _tile(conv) == conv.window.out.channels else APART


def conv_overlap(conv: Conv) -> Overlap:
    """A group of pixels is read before it is written."""
    return Overlap(True, distance(conv.window, _PIXELS))


def _taps(conv: Conv) -> int:
    return conv.window.taps * conv.window.source.channels


def _tile(conv: Conv) -> int:
    return min(max(_INDICES // -(-_taps(conv) // 3), 1), conv.window.out.channels)


def _gathered(conv: Conv, pixels: int) -> int:
    return 0 if conv.window.pointwise else pixels * _taps(conv)
