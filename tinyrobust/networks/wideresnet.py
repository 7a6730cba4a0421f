"""Wide residual networks of Zagoruyko & Komodakis (arXiv 1605.07146) for small images, pre-activation."""

import keras

from tinyrobust.networks.precision import LayerFactory
from tinyrobust.recipe.network import Shape, WideResnet

_CHANNELS = (16, 32, 64)


def wideresnet(settings: WideResnet, input_shape: Shape, classes: int, layers: LayerFactory) -> keras.Model:
    """WRN-d-k: three stages of (d - 4) / 6 blocks with 16k, 32k and 64k channels; no dropout.

    A block is batch norm, activation, 3x3 convolution, twice, and a shortcut: the block's input, or where the shape changes a
    1x1 convolution of what the first convolution reads. Layers on 32x32x3 with ten classes, d = 16 and k = 4:

    | layers | output |
    |---|---|
    | `stem`: 3x3 convolution | 32x32x16 |
    | `stage1-block1` and `-block2`: `-conv1`, `-conv2`, the first with a `-shortcut` | 32x32x64 |
    | `stage2-...`: the same, the first block with strides of 2 | 16x16x128 |
    | `stage3-...`: the same | 8x8x256 |
    | batch norm, activation, mean over all pixels | 256 |
    | `logits`: dense | 10 |

    | network | parameters | MACs |
    |---|---|---|
    | WRN-16-4 | 2,752,506 | 393 M |
    | WRN-28-10 | 36,497,146 | 5,243 M |

    A norm and an activation belong to the convolution behind them: a rule's activations are those that its layers read, and
    the last ones are those of `logits`. The norm behind the first convolution of a block folds into that; the other ones read
    sums, and become a depthwise 1x1 operator each.

    Args:
        settings: The recipe's `[network]`.
        input_shape: (height, width, channels); values in [0, 1].
        classes: Number of logits.
        layers: Makes the layers in the recipe's precision.

    Returns:
        A functional model, [n, height, width, channels] -> logits [n, classes].
    """
    inputs = keras.Input(input_shape, name="image")
    x = layers.conv("stem", settings.channels(16), 3)(inputs)
    for stage, channels in enumerate(_CHANNELS):
        filters = settings.channels(channels * settings.widen)
        for block in range((settings.depth - 4) // 6):
            x = _block(x, layers, f"stage{stage + 1}-block{block + 1}", filters, 2 if stage and not block else 1)
    x = layers.relu("logits")(layers.norm("logits")(x))
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    logits = layers.dense("logits", classes, bias=True)(x)
    return keras.Model(inputs, logits, name=f"wideresnet{settings.depth}x{settings.widen}")


def _block(x: keras.KerasTensor, layers: LayerFactory, name: str, filters: int, strides: int) -> keras.KerasTensor:
    shortcut, first, second = x, f"{name}-conv1", f"{name}-conv2"
    x = layers.relu(first)(layers.norm(first)(x))
    if strides != 1 or shortcut.shape[-1] != filters:
        shortcut = layers.conv(f"{name}-shortcut", filters, 1, strides)(x)
    x = layers.conv(first, filters, 3, strides)(x)
    x = layers.relu(second)(layers.norm(second)(x))
    return keras.layers.Add(name=f"{name}-add")([layers.conv(second, filters, 3)(x), shortcut])
