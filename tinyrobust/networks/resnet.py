"""The residual networks of He et al. (arXiv 1512.03385) for small images: ResNet-8 and -20 of the CIFAR family, ResNet-18."""

import keras

from tinyrobust.networks.precision import LayerFactory
from tinyrobust.recipe.network import Resnet, Shape

# The CIFAR family has three stages; ResNet-18 four, each twice as wide as the one before.
_STAGES = {8: (1, 1, 1), 20: (3, 3, 3), 18: (2, 2, 2, 2)}
_CHANNELS = {8: 16, 20: 16, 18: 64}


def resnet(settings: Resnet, input_shape: Shape, classes: int, layers: LayerFactory) -> keras.Model:
    """Post-activation residual network with 1x1 convolutions in the shortcuts where the shape changes (option B).

    These have a bias and no batch norm, as in MLPerf Tiny's network and Keras' own example.

    The layers of depth 20; the other depths have the blocks and channels below:

    | layers | output of 32x32x3 |
    |---|---|
    | `stem`: 3x3 convolution, batch norm, activation | 32x32x16 |
    | `stage1-block1` to `-block3`: `-conv1`, batch norm, activation, `-conv2`, batch norm, sum, activation | 32x32x16 |
    | `stage2-...`: the same, the first block with strides of 2 and a `-shortcut` | 16x16x32 |
    | `stage3-...`: the same | 8x8x64 |
    | mean over all pixels | 64 |
    | `logits`: dense | 10 |

    On 32x32x3 with ten classes:

    | depth | stages (blocks of two 3x3 convolutions) | channels | parameters | MACs |
    |---|---|---|---|---|
    | 8 | 1, 1, 1: MLPerf Tiny's image classifier | 16, 32, 64 | 78,426 | 12.5 M |
    | 20 | 3, 3, 3 | 16, 32, 64 | 273,754 | 40.8 M |
    | 18 | 2, 2, 2, 2; a stem of 3x3 without pooling, as is usual for small images | 64, 128, 256, 512 | 11,180,874 | 555 M |

    MLPerf Tiny's count of 78,666 has a bias in each of the seven 3x3 convolutions besides, idle before batch norm.

    Args:
        settings: The recipe's `[network]`.
        input_shape: (height, width, channels); values in [0, 1].
        classes: Number of logits.
        layers: Makes the layers in the recipe's precision.

    Returns:
        A functional model, [n, height, width, channels] -> logits [n, classes].
    """
    inputs = keras.Input(input_shape, name="image")
    x = layers.norm("stem")(layers.conv("stem", settings.channels(_CHANNELS[settings.depth]), 3)(inputs))
    x = layers.relu("stem")(x)
    for stage, blocks in enumerate(_STAGES[settings.depth]):
        filters = settings.channels(_CHANNELS[settings.depth] * 2**stage)
        for block in range(blocks):
            x = _block(x, layers, f"stage{stage + 1}-block{block + 1}", filters, 2 if stage and not block else 1)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.dense("logits", classes, bias=True)(x), name=f"resnet{settings.depth}")


def _block(x: keras.KerasTensor, layers: LayerFactory, name: str, filters: int, strides: int) -> keras.KerasTensor:
    shortcut = x
    x = layers.norm(f"{name}-conv1")(layers.conv(f"{name}-conv1", filters, 3, strides)(x))
    x = layers.relu(f"{name}-conv1")(x)
    x = layers.norm(f"{name}-conv2")(layers.conv(f"{name}-conv2", filters, 3)(x))
    if strides != 1 or shortcut.shape[-1] != filters:
        shortcut = layers.conv(f"{name}-shortcut", filters, 1, strides, bias=True)(shortcut)
    return layers.relu(f"{name}-conv2")(keras.layers.Add(name=f"{name}-add")([x, shortcut]))
