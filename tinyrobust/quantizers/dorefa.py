"""DoReFa-Net's weights and activations (Zhou et al. 2016, arXiv 1606.06160)."""

import keras
from keras import ops

from tinyrobust import formats
from tinyrobust.quantizers.activations import FreelyBounded
from tinyrobust.quantizers.base import TINY, Group, GroupedQuantizer, Tensor, straight_through
from tinyrobust.quantizers.weights import signs

# The int8 of a file, -127 to 127, has no room for the 256th level.
_MOST_STEPS = 254


@keras.saving.register_keras_serializable("tinyrobust")
class Dorefa(GroupedQuantizer):
    """Weights between -1 and 1 on 2^bits levels, none of them zero (eq. 9); of one bit, the signs times `E|w|` (eq. 8).

    forward, with `n = 2^bits - 1` and quantize(r) = round(n r) / n (eq. 5):
    `q = 2 quantize(tanh(w) / (2 max|tanh(w)|) + 1/2) - 1`; of one bit `q = E|w| * (+1 if w >= 0 else -1)`.
    gradient: straight through the rounding; the hyperbolic tangent and the division by the largest magnitude have their own,
    as in the authors' code. Of one bit, dq/dw = 1.

    At 8 bits n = 254: 255 levels, of which one is zero, are what a file's int8 holds exactly; the paper has 256. Quantizing
    twice is not the same as once: the hyperbolic tangent is applied again. The largest weight is 1 whatever the latent ones
    are: a layer without batch norm behind it, such as `logits`, is better given another format.

    Args:
        bits: Of one weight, from 1 to 8.
        channel_axes: See `WeightQuantizer`.
        group: What has a largest magnitude (of one bit, a mean magnitude) of its own; in the paper the layer.
    """

    def __init__(self, bits: int = 8, channel_axes: tuple[int, ...] = (-1,), group: Group = "layer") -> None:
        super().__init__(channel_axes, group)
        if not 1 <= bits <= 8:
            raise ValueError(f"Expected bits from 1 to 8. Received: bits={bits}")
        self.bits = bits
        self.steps = min(2**bits - 1, _MOST_STEPS)
        self.storage = formats.with_levels(self.steps + 1)

    def levels(self, latent: Tensor, training: bool) -> Tensor:
        """See the class."""
        return self.quantize(latent, training)

    def quantize(self, latent: Tensor, training: bool) -> Tensor:
        """See the class."""
        del training
        axes = self.pooled(latent)
        if self.bits == 1:
            return straight_through(latent, signs(latent, axes))
        bounded = ops.tanh(latent)
        bounded = bounded / ops.maximum(ops.max(ops.abs(bounded), axes, keepdims=True), TINY)
        # In integers first: a level and its opposite are equal but for the sign.
        integers = 2 * ops.round((bounded + 1) * (self.steps / 2)) - self.steps
        return straight_through(bounded, integers / self.steps)

    def get_config(self) -> dict[str, object]:
        """The constructor's arguments."""
        return {"bits": self.bits, **super().get_config()}


@keras.saving.register_keras_serializable("tinyrobust")
class DorefaActivation(FreelyBounded):
    """Activations in [0, 1] (eq. 11, with the clip as h of section 2.5).

    forward: `y = round(n clip(x, 0, 1)) / n`, `n = 2^bits - 1`. gradient: dy/dx = 1 where 0 < x < 1, else 0.

    Args: see `ActivationQuantizer`.
    """

    @property
    def upper(self) -> float:
        """1."""
        return 1.0

    def bound(self) -> Tensor | float:
        """1."""
        return 1.0
