"""DS-CNN: the depthwise-separable keyword spotter of Zhang et al. (arXiv 1711.07128), in the size of MLPerf Tiny."""

import keras

from tinyrobust.networks.precision import LayerFactory
from tinyrobust.recipe.network import Dscnn, Shape

_CHANNELS = 64
_BLOCKS = 4


def dscnn(settings: Dscnn, input_shape: Shape, classes: int, layers: LayerFactory) -> keras.Model:
    """The keyword spotter of MLPerf Tiny: a convolution of 10x4, four depthwise-separable blocks, an average, a dense layer.

    64 channels at width 1.0. Without MLPerf's dropout: augmentation does its work. On 49x10x1 with twelve classes 24,332
    parameters and 2.7 M MACs:

    | layers | output |
    |---|---|
    | `stem`: 10x4 convolution, strides of 2 | 25x5x64 |
    | `block1-depthwise`, 3x3, and `block1-pointwise`; `block2`, `block3` and `block4` alike | 25x5x64 |
    | average over all pixels | 64 |
    | `logits`: dense | 12 |

    Args:
        settings: The recipe's `[network]`.
        input_shape: (frames, coefficients, 1) of a speech front end; values in [0, 1].
        classes: Number of logits.
        layers: Makes the layers in the recipe's precision.

    Returns:
        A functional model, [n, frames, coefficients, 1] -> logits [n, classes].
    """
    channels = settings.channels(_CHANNELS)
    inputs = keras.Input(input_shape, name="image")
    x = _finished(layers.conv("stem", channels, (10, 4), 2)(inputs), layers, "stem")
    for block in range(1, _BLOCKS + 1):
        x = _finished(layers.depthwise(f"block{block}-depthwise", 3)(x), layers, f"block{block}-depthwise")
        x = _finished(layers.conv(f"block{block}-pointwise", channels, 1)(x), layers, f"block{block}-pointwise")
    x = keras.layers.AveragePooling2D(x.shape[1:3], name="pool")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    return keras.Model(inputs, layers.dense("logits", classes, bias=True)(x), name="dscnn")


def _finished(x: keras.KerasTensor, layers: LayerFactory, name: str) -> keras.KerasTensor:
    """Batch norm and activation."""
    return layers.relu(name)(layers.norm(name)(x))
