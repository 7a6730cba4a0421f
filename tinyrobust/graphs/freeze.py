"""Networks as they are at inference: quantized weights as constants, batch norm folded."""

from collections.abc import Mapping, Sequence

import keras
import numpy as np

from tinyrobust.graphs.clone import clone, same
from tinyrobust.graphs.folding import Quantized, foldable, folded
from tinyrobust.quantizers.activations import ActivationQuantizer


def freeze(model: keras.Model) -> keras.Model:
    """The same network with the quantized weights written in as constants, no weight quantizer left and batch norm folded.

    Its outputs equal those of `model` at inference, to float precision; activations are still rounded, with straight-through
    gradients. It is what white-box attacks differentiate: nothing is quantized again at every step, and no time goes into a
    norm that a convolution can compute. A batch norm that cannot be folded stays as it is.
    """
    simple = len(model.inputs) == len(model.outputs) == 1
    return _frozen(model, foldable(model) if simple else {}, keep_rounding=True)


def with_fixed_weights(model: keras.Model) -> keras.Model:
    """Like `freeze`, with batch norms as they are: what `model` computes, without quantizing its weights at every call."""
    return _frozen(model, {}, keep_rounding=True)


def without_rounding(model: keras.Model) -> keras.Model:
    """Like `freeze`, with batch norms as they are and activations left in float: what the twin must equal."""
    return _frozen(model, {}, keep_rounding=False)


def _frozen(model: keras.Model, folds: Mapping[str, str], keep_rounding: bool) -> keras.Model:
    norms = set(folds.values())

    def replaced(layer: keras.Layer) -> list[keras.Layer]:
        if layer.name in norms:
            return []
        if isinstance(layer, ActivationQuantizer) and not keep_rounding:
            return [layer.unrounded()]
        changes = {"use_bias": True} if layer.name in folds else {}
        return [layer.unquantized(**changes) if isinstance(layer, Quantized) else same(layer, **changes)]

    def weights(layer: keras.Layer) -> Sequence[np.ndarray]:
        if layer.name in folds:
            return folded(layer, model.get_layer(folds[layer.name]))
        return folded(layer)[: 1 + layer.use_bias] if isinstance(layer, Quantized) else layer.get_weights()

    return clone(model, replaced, weights)
