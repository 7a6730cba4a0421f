"""stqnet: the network family of the STQ paper (arXiv 2503.08973, section III).

Six convolution blocks (plain, separable, depthwise), three of them with a residual branch, then three dense layers. About one
million parameters at width 1.0 on 32x32 images.
"""

import keras

from tinyrobust.networks.precision import LayerFactory
from tinyrobust.recipe.network import Shape, Stqnet

# Blocks 1 and 4 halve the maps, but never below this many pixels: small images keep their detail.
_SMALLEST_MAP = 4


def stqnet(settings: Stqnet, input_shape: Shape, classes: int, layers: LayerFactory) -> keras.Model:
    """The STQ paper's family: six convolution blocks with residual branches, three dense layers.

    Every layer but the logits has batch norm and an activation. On 32x32x1 with ten classes 928,618 parameters and 52.5 M MACs:

    | layers | output |
    |---|---|
    | `stem`: 3x3 convolution | 32x32x32 |
    | `block1`: 3x3 convolution, strides of 2 | 16x16x64 |
    | `block2`: 3x3 convolution, residual | 16x16x64 |
    | `block3-depthwise`, 3x3, and `block3-pointwise` | 16x16x128 |
    | `block4`: 3x3 convolution, strides of 2 | 8x8x192 |
    | `block5`: depthwise 3x3, residual | 8x8x192 |
    | `block6`: 3x3 convolution, residual | 8x8x192 |
    | average of 2x2 | 4x4x192 |
    | `dense1`, `dense2` | 96, 96 |
    | `logits` | 10 |

    Args:
        settings: The recipe's `[network]`.
        input_shape: (height, width, channels); values in [0, 1].
        classes: Number of logits.
        layers: Makes the layers in the recipe's precision.

    Returns:
        A functional model, [n, height, width, channels] -> logits [n, classes].
    """
    channels = settings.channels

    def stride(x: keras.KerasTensor) -> int:
        return 2 if min(x.shape[1:3]) >= 2 * _SMALLEST_MAP else 1

    inputs = keras.Input(input_shape, name="image")
    x = _plain(inputs, layers, "stem", channels(32))
    x = _plain(x, layers, "block1", channels(64), stride(x))
    x = _plain(x, layers, "block2", channels(64), residual=True)
    x = _separable(x, layers, "block3", channels(128))
    x = _plain(x, layers, "block4", channels(192), stride(x))
    x = _depthwise(x, layers, "block5", residual=True)
    x = _plain(x, layers, "block6", channels(192), residual=True)
    x = keras.layers.AveragePooling2D(2, name="pool")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    for name in ("dense1", "dense2"):
        x = layers.dense(name, channels(96))(x)
        x = layers.relu(name)(layers.norm(name)(x))
    return keras.Model(inputs, layers.dense("logits", classes, bias=True)(x), name="stqnet")


def _plain(
    x: keras.KerasTensor, layers: LayerFactory, name: str, filters: int, strides: int = 1, *, residual: bool = False
) -> keras.KerasTensor:
    return _finish(layers.conv(name, filters, 3, strides)(x), x if residual else None, layers, name)


def _depthwise(x: keras.KerasTensor, layers: LayerFactory, name: str, *, residual: bool = False) -> keras.KerasTensor:
    return _finish(layers.depthwise(name, 3)(x), x if residual else None, layers, name)


def _separable(x: keras.KerasTensor, layers: LayerFactory, name: str, filters: int) -> keras.KerasTensor:
    x = _finish(layers.depthwise(f"{name}-depthwise", 3)(x), None, layers, f"{name}-depthwise")
    return _finish(layers.conv(f"{name}-pointwise", filters, 1)(x), None, layers, f"{name}-pointwise")


def _finish(x: keras.KerasTensor, shortcut: keras.KerasTensor | None, layers: LayerFactory, name: str) -> keras.KerasTensor:
    """Batch norm, the residual branch, the activation."""
    x = layers.norm(name)(x)
    if shortcut is not None:
        x = keras.layers.Add(name=f"{name}-add")([x, shortcut])
    return layers.relu(name)(x)
