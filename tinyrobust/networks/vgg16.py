"""VGG-16 for small images: configuration D of Simonyan & Zisserman (arXiv 1409.1556) with batch norm and one dense layer."""

import keras

from tinyrobust.networks.precision import LayerFactory
from tinyrobust.recipe.network import Shape, Vgg16

# Channels of the 3x3 convolutions of each stage.
_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def vgg16(settings: Vgg16, input_shape: Shape, classes: int, layers: LayerFactory) -> keras.Model:
    """Thirteen 3x3 convolutions in five stages, each with batch norm, a maximum of 2x2 behind every stage, a dense layer.

    The dense layers of 4096 of the paper are for maps of 7x7; after 32x32 one pixel is left, and the logits follow at once: the
    variant of 14.7 M weights that papers on pruning and quantization mean by "VGG-16 on CIFAR-10". No dropout. On 32x32x3 with
    ten classes:

    | layers | output | parameters | MACs |
    |---|---|---|---|
    | `stem`, `stage1-conv2`, maximum | 16x16x64 | 39,104 | 39.5 M |
    | `stage2-conv1` to `-conv2`, maximum | 8x8x128 | 222,208 | 56.6 M |
    | `stage3-conv1` to `-conv3`, maximum | 4x4x256 | 1,477,632 | 94.4 M |
    | `stage4-conv1` to `-conv3`, maximum | 2x2x512 | 5,904,384 | 94.4 M |
    | `stage5-conv1` to `-conv3`, maximum | 1x1x512 | 7,084,032 | 28.3 M |
    | mean, `logits` | 10 | 5,130 | 5,120 |
    | all | | 14,732,490 | 313 M |

    Of larger images the last maps are averaged; on smaller ones a stage keeps maps of one pixel as they are.

    Args:
        settings: The recipe's `[network]`.
        input_shape: (height, width, channels); values in [0, 1].
        classes: Number of logits.
        layers: Makes the layers in the recipe's precision.

    Returns:
        A functional model, [n, height, width, channels] -> logits [n, classes].
    """
    inputs = x = keras.Input(input_shape, name="image")
    for stage, channels in enumerate(_STAGES, 1):
        for number, count in enumerate(channels, 1):
            name = "stem" if stage == number == 1 else f"stage{stage}-conv{number}"
            x = layers.norm(name)(layers.conv(name, settings.channels(count), 3)(x))
            x = layers.relu(name)(x)
        if min(x.shape[1:3]) > 1:
            x = keras.layers.MaxPooling2D(2, name=f"pool{stage}")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.dense("logits", classes, bias=True)(x), name="vgg16")
