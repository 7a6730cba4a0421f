"""A convolutional network along time, for windows of sensor values: the FCN of Wang, Yan & Oates (arXiv 1611.06455)."""

import keras

from tinyrobust.networks.precision import LayerFactory
from tinyrobust.recipe.network import Conv1d, Shape

# Three eighths of the paper's 128, 256 and 128 channels; and how many steps of time each convolution sees.
_CONVOLUTIONS = (("stem", 48, 8), ("conv2", 96, 5), ("conv3", 48, 3))


def conv1d(settings: Conv1d, input_shape: Shape, classes: int, layers: LayerFactory) -> keras.Model:
    """Three convolutions along time with batch norm, a mean over all steps, a dense layer.

    A window of n steps and a axes is an image of n x a pixels: what becomes of a `.npz` with arrays [windows, n, a] of uint8.
    The first convolution reads all axes at once and leaves an image of one column, [n, 1, channels], on which the others move
    along time: kernels of microcontrollers run two-dimensional convolutions, and so run these as they are. A width of 8/3 has
    the paper's channels. On 128x3x1, as of an accelerometer, with six classes:

    | layer | output | parameters | MACs |
    |---|---|---|---|
    | `stem`: 8 steps, batch norm | 128x1x48 | 1,344 | 147,456 |
    | `conv2`: 5 steps, batch norm | 128x1x96 | 23,424 | 2,949,120 |
    | `conv3`: 3 steps, batch norm | 128x1x48 | 14,016 | 1,769,472 |
    | mean, `logits` | 6 | 294 | 288 |
    | all | | 39,078 | 4,866,336 |

    Mirroring and cropping (`data.augment`) would exchange axes: leave them out.

    Args:
        settings: The recipe's `[network]`.
        input_shape: (steps, axes, 1), or with channels that are read like axes; values in [0, 1].
        classes: Number of logits.
        layers: Makes the layers in the recipe's precision.

    Returns:
        A functional model, [n, steps, axes, 1] -> logits [n, classes].
    """
    axes = input_shape[1]
    inputs = x = keras.Input(input_shape, name="image")
    for name, channels, steps in _CONVOLUTIONS:
        x = layers.conv(name, settings.channels(channels), (steps, axes), (1, axes))(x)
        x = layers.relu(name)(layers.norm(name)(x))
        axes = 1
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.dense("logits", classes, bias=True)(x), name="conv1d")
