"""The layers that have an operator in an int8 file, which is what a network can be made of."""

from collections.abc import Mapping

import keras

# The operators that a layer may become; an empty tuple: it leaves no trace. To support a layer, enter it here.
OPERATORS: Mapping[type, tuple[str, ...]] = {
    keras.layers.Conv2D: ("CONV_2D",),
    keras.layers.DepthwiseConv2D: ("DEPTHWISE_CONV_2D",),
    keras.layers.Dense: ("FULLY_CONNECTED",),
    keras.layers.ReLU: ("RELU", "RELU6"),
    keras.layers.Add: ("ADD",),
    keras.layers.AveragePooling2D: ("AVERAGE_POOL_2D",),
    keras.layers.MaxPooling2D: ("MAX_POOL_2D",),
    keras.layers.GlobalAveragePooling2D: ("MEAN",),
    keras.layers.ZeroPadding2D: ("PAD",),
    keras.layers.Concatenate: ("CONCATENATION",),
    keras.layers.Flatten: ("RESHAPE",),
    keras.layers.Reshape: ("RESHAPE",),
    keras.layers.Softmax: ("SOFTMAX",),
    keras.layers.Dropout: (),
}

# Operators that copy or compare values: their outputs must have the grid of their inputs.
SAME_GRID = frozenset({"AVERAGE_POOL_2D", "MAX_POOL_2D", "RESHAPE", "PAD", "CONCATENATION"})
# Layers of such operators, or of none: their outputs have the grid of their inputs.
SAME_GRID_LAYERS = frozenset(kind for kind, operators in OPERATORS.items() if SAME_GRID.issuperset(operators))
