"""Scales and shifts of inputs: kept back, and computed by the layer that reads them wherever it can."""

from dataclasses import dataclass
from typing import Self

import keras
import numpy as np

from tinyrobust.graphs.folding import Doubles, numbers
from tinyrobust.quantizers.norm import FixedNormalization

# How wide the values are that a network computes with: [0, 1], [-1, 1], pixels over their deviation. Others tell that the input
# range is another one.
_USUAL = (0.25, 32.0)
_PIXELS = ((0.0, 255.0), (0.0, 1.0))


@dataclass(frozen=True, slots=True)
class Affine:
    """`scale * x + shift`, a number for all channels or one a channel.

    Attributes:
        name: Of the layer that computes it where no other one can.
        scale: Shape () or [channels].
        shift: Shape () or [channels].
    """

    name: str
    scale: Doubles
    shift: Doubles

    @classmethod
    def onto(cls, name: str, low: float, high: float) -> Self:
        """What makes [low, high] of [0, 1]."""
        return cls(name, np.asarray(high - low), np.asarray(low))

    @classmethod
    def of(cls, layer: keras.layers.Rescaling | keras.layers.Normalization) -> "Affine":
        """What such a layer computes."""
        if isinstance(layer, keras.layers.Rescaling):
            return cls(layer.name, np.asarray(layer.scale, np.float64), np.asarray(layer.offset, np.float64))
        mean, variance = numbers(layer.mean).squeeze(), numbers(layer.variance).squeeze()
        deviation = np.maximum(np.sqrt(variance), keras.backend.epsilon())  # as the layer does
        return cls(layer.name, deviation, mean) if layer.invert else cls(layer.name, 1 / deviation, -mean / deviation)

    def then(self, other: "Affine") -> "Affine":
        """`other` of what this one gives."""
        return Affine(other.name, self.scale * other.scale, self.shift * other.scale + other.shift)

    @property
    def is_identity(self) -> bool:
        """Whether it changes nothing that a float of 32 bits shows."""
        return bool(np.allclose(self.scale, 1, rtol=1e-7, atol=0) and np.allclose(self.shift, 0, atol=1e-7))

    @property
    def is_usual(self) -> bool:
        """Whether what it makes of [0, 1] is as wide as networks are used to."""
        return bool(_USUAL[0] <= np.abs(self.scale).min() and np.abs(self.scale).max() <= _USUAL[1])

    def before(self, kernel: Doubles, bias: Doubles, *, depthwise: bool = False) -> tuple[Doubles, Doubles]:
        """Kernel and bias of the layer that reads x itself, and does what `kernel` and `bias` do with `scale * x + shift`.

        Exact where no window reaches beyond the edges, or there is no shift: what pads there is zero.

        Args:
            kernel: [h, w, channels, filters] or [features, units]; depthwise, [h, w, channels, multiplier].
            bias: [filters], [units] or [channels * multiplier].
            depthwise: Whether it is one of a depthwise convolution.
        """
        axis = 2 if kernel.ndim == 4 else 0
        shape = [-1 if number == axis else 1 for number in range(kernel.ndim)]
        scale, shift = (values.reshape(shape) if values.ndim else values for values in (self.scale, self.shift))
        summed = (0, 1) if depthwise else tuple(range(kernel.ndim - 1))
        return kernel * scale, bias + (kernel * shift).sum(axis=summed).reshape(-1)

    def layer(self, shape: tuple[int | None, ...]) -> keras.layers.BatchNormalization:
        """A layer of its own that computes it: a batch norm that stays as it is, which the file has as a depthwise 1x1.

        Args:
            shape: Of its input, the batch first and the channels last.
        """
        channels = shape[-1]
        assert channels is not None
        norm = FixedNormalization(epsilon=0.0, trainable=False, name=self.name)
        norm.build(shape)
        values = (self.scale, self.shift, np.asarray(0.0), np.asarray(1.0))
        norm.set_weights([np.broadcast_to(value, (channels,)).astype(np.float32) for value in values])
        return norm


def likely_range(affine: Affine) -> tuple[float, float] | None:
    """The input range that the scaling at the front of a network was made for: that of pixels, or [0, 1]; None: neither."""
    for low, high in _PIXELS:
        if Affine.onto("", low, high).then(affine).is_usual:
            return low, high
    return None
