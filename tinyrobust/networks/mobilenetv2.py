"""MobileNetV2 (Sandler et al., arXiv 1801.04381): inverted residuals with linear bottlenecks."""

import keras

from tinyrobust.networks.precision import LayerFactory
from tinyrobust.recipe.network import MobilenetV2, Shape

# Table 2 of the paper: expansion, channels, blocks, strides of the first one.
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
_HALVINGS = 5


def mobilenetv2(settings: MobilenetV2, input_shape: Shape, classes: int, layers: LayerFactory) -> keras.Model:
    """The network of the paper's table 2, and on small images the same with fewer strides.

    A block is a 1x1 convolution to t times the channels (`-expand`; none where t = 1), a depthwise 3x3 one (`-depthwise`) and a
    1x1 one without activation (`-project`), each with batch norm; the block's input is added where the shape stays.

    | layers | t | channels | blocks | strides | output of 96x96x3 | of 32x32x3 |
    |---|---|---|---|---|---|---|
    | `stem`: 3x3 convolution | | 32 | | 2 | 48x48 | 32x32 |
    | `stage1-block1` | 1 | 16 | 1 | 1 | 48x48 | 32x32 |
    | `stage2-block1` and so on | 6 | 24 | 2 | 2 | 24x24 | 32x32 |
    | `stage3-...` | 6 | 32 | 3 | 2 | 12x12 | 16x16 |
    | `stage4-...` | 6 | 64 | 4 | 2 | 6x6 | 8x8 |
    | `stage5-...` | 6 | 96 | 3 | 1 | 6x6 | 8x8 |
    | `stage6-...` | 6 | 160 | 3 | 2 | 3x3 | 4x4 |
    | `stage7-block1` | 6 | 320 | 1 | 1 | 3x3 | 4x4 |
    | `head`: 1x1 convolution, mean over all pixels | | 1280 | | | 1280 | 1280 |
    | `logits`: dense | | 10 | | | 10 | 10 |

    The strides on 32x32 are those that are usual for CIFAR: the stem and stage 2 keep their size. On any image, of the five
    strides of 2 as many are taken, from the last one on, as leave `last_map` pixels of the shorter side; with `last_map = 1`
    images of 32x32 have all five. Parameters and MACs with ten classes:

    | width | parameters | MACs at 96x96x3 | MACs at 32x32x3 |
    |---|---|---|---|
    | 0.35 | 423,018 | 10.7 M | 15.6 M |
    | 0.5 | 719,034 | 17.6 M | 28.0 M |
    | 0.75 | 1,394,874 | 38.2 M | 59.3 M |
    | 1.0 | 2,270,794 | 55.0 M | 88.0 M |
    | 1.4 | 4,381,642 | 106.6 M | 170.1 M |

    The parameters are those of `keras.applications.MobileNetV2`.

    Args:
        settings: The recipe's `[network]`.
        input_shape: (height, width, channels); values in [0, 1].
        classes: Number of logits.
        layers: Makes the layers in the recipe's precision.

    Returns:
        A functional model, [n, height, width, channels] -> logits [n, classes].
    """
    left_out = _HALVINGS - _halvings(min(input_shape[:2]), settings.last_map)
    inputs = keras.Input(input_shape, name="image")
    x = _finished(layers.conv("stem", settings.channels(32), 3, 1 if left_out else 2)(inputs), layers, "stem")
    seen = 1  # strides of 2 so far, with those that are left out
    for stage, (expansion, channels, blocks, stride) in enumerate(_STAGES, 1):
        seen += stride == 2
        for block in range(1, blocks + 1):
            strides = stride if block == 1 and seen > left_out else 1
            x = _block(x, layers, f"stage{stage}-block{block}", expansion, settings.channels(channels), strides)
    x = _finished(layers.conv("head", round(settings.head * max(1.0, settings.width)), 1)(x), layers, "head")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.dense("logits", classes, bias=True)(x), name="mobilenetv2")


def _halvings(side: int, least: int) -> int:
    """How often a side can be halved, rounded up, with so many pixels left: at most as often as the network does."""
    count = 0
    while count < _HALVINGS and (side := -(-side // 2)) >= least:
        count += 1
    return count


def _block(
    x: keras.KerasTensor, layers: LayerFactory, name: str, expansion: int, filters: int, strides: int
) -> keras.KerasTensor:
    shortcut = x
    if expansion > 1:
        x = _finished(layers.conv(f"{name}-expand", expansion * x.shape[-1], 1)(x), layers, f"{name}-expand")
    x = _finished(layers.depthwise(f"{name}-depthwise", 3, strides)(x), layers, f"{name}-depthwise")
    x = layers.norm(f"{name}-project")(layers.conv(f"{name}-project", filters, 1)(x))
    same = strides == 1 and shortcut.shape[-1] == filters
    return keras.layers.Add(name=f"{name}-add")([x, shortcut]) if same else x


def _finished(x: keras.KerasTensor, layers: LayerFactory, name: str) -> keras.KerasTensor:
    """Batch norm and activation."""
    return layers.relu(name)(layers.norm(name)(x))
