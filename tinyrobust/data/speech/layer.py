"""A front end as a Keras layer: gradients flow from the features back to the sound. Needs Keras: imported by itself."""

from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from tinyrobust.data.speech.frontend import Grid


class FeatureLayer(keras.layers.Layer):
    """Sound to the input of a network: amplitudes [n, 16000] in [-1, 1) to [n, rows, coefficients, 1] in [0, 1].

    By default neither rounded nor clipped to the 8-bit grid: what the network sees is the nearest step of it.

    Args:
        name: Of the front end.
        features: The front end in `keras.ops`: amplitudes [n, 16000] to features [n, rows, coefficients] in its own units.
        grid: The range of every coefficient; without one the output is the features themselves.
        rounded: Round and clip to the grid, with the gradient of what was not (straight through, Bengio et al. 2013).
    """

    def __init__(
        self,
        name: str,
        features: Callable[[keras.KerasTensor], keras.KerasTensor],
        grid: Grid | None = None,
        *,
        rounded: bool = False,
    ) -> None:
        super().__init__(name=name, trainable=False)
        self._features = features
        self._grid = grid
        self._rounded = rounded

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        """[n, 16000] -> [n, rows, coefficients, 1]."""
        out = self._features(inputs)
        if self._grid is not None:
            low, high = self._grid.low.astype(np.float32), self._grid.high.astype(np.float32)
            out = (out - low) / (high - low)
            if self._rounded:
                steps = ops.clip(ops.floor(255 * out + 0.5), 0.0, 255.0)
                out = out + ops.stop_gradient(steps / 255 - out)
        return ops.expand_dims(out, -1)
