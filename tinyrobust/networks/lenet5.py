"""LeNet-5 (LeCun, Bottou, Bengio & Haffner 1998, Gradient-based learning applied to document recognition, figure 2)."""

import keras

from tinyrobust.networks.precision import LayerFactory
from tinyrobust.recipe.network import Lenet5, Shape


def lenet5(settings: Lenet5, input_shape: Shape, classes: int, layers: LayerFactory) -> keras.Model:
    """Two convolutions and three dense layers, all with a bias and without batch norm.

    As it is usually built today: rectifiers for tanh, plain pooling for sums with a learned scale, all six maps read by all
    sixteen, dense logits for radial basis functions. Images of 32x32 and more are as in the paper; smaller ones are padded by 2
    on every side first, as there those of 28x28 were. On 28x28x1 (or 32x32x1) with ten classes:

    | layer | output | parameters | MACs |
    |---|---|---|---|
    | `stem`: 5x5 convolution | 28x28x6 | 156 | 117,600 |
    | pooling, 2x2 | 14x14x6 | | |
    | `conv2`: 5x5 convolution, not padded | 10x10x16 | 2,416 | 240,000 |
    | pooling, 2x2 | 5x5x16 | | |
    | `dense1` | 120 | 48,120 | 48,000 |
    | `dense2` | 84 | 10,164 | 10,080 |
    | `logits` | 10 | 850 | 840 |
    | all | | 61,706 | 416,520 |

    Args:
        settings: The recipe's `[network]`.
        input_shape: (height, width, channels), at least 12x12; values in [0, 1].
        classes: Number of logits.
        layers: Makes the layers in the recipe's precision.

    Returns:
        A functional model, [n, height, width, channels] -> logits [n, classes].
    """
    pooling = keras.layers.MaxPooling2D if settings.pooling == "max" else keras.layers.AveragePooling2D
    padding = "same" if min(input_shape[:2]) < 32 else "valid"
    inputs = keras.Input(input_shape, name="image")
    x = layers.relu("stem")(layers.conv("stem", settings.channels(6), 5, padding=padding, bias=True)(inputs))
    x = pooling(2, name="pool1")(x)
    x = layers.relu("conv2")(layers.conv("conv2", settings.channels(16), 5, padding="valid", bias=True)(x))
    x = keras.layers.Flatten(name="flatten")(pooling(2, name="pool2")(x))
    for name, units in (("dense1", 120), ("dense2", 84)):
        x = layers.relu(name)(layers.dense(name, settings.channels(units), bias=True)(x))
    return keras.Model(inputs, layers.dense("logits", classes, bias=True)(x), name="lenet5")
