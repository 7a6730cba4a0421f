"""The MFCC front end in `keras.ops`: gradients flow from the features back to the sound.

The same constants as `mfcc.py`. Needs Keras, so it is imported by itself.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from tinyrobust.data.speech.frontend import Grid
from tinyrobust.data.speech.mfcc import AMIN, constants
from tinyrobust.recipe.frontend import CLIP_SAMPLES, Mfcc

_DB = 10 / np.log(10)


class MfccLayer(keras.layers.Layer):
    """Sound to the input of a network: amplitudes [n, 16000] in [-1, 1) to [n, frames, coefficients, 1] in [0, 1].

    By default neither rounded nor clipped to the 8-bit grid: what the network sees is the nearest step of it.

    Args:
        settings: The front end's.
        grid: The range of every coefficient; without it the output is librosa's coefficients themselves.
        clip: Clip to [0, 1], where a gradient ends.
        rounded: Round and clip to the grid, with the gradient of what was not (straight through, Bengio et al. 2013).
        open_floor: The same features, with a gradient where what lies further below the loudest band than `top_db` is raised:
            that of log(band + floor), which falls smoothly to zero. An attacker who follows it finds what would be heard.
    """

    def __init__(
        self, settings: Mfcc, grid: Grid | None = None, *, clip: bool = False, rounded: bool = False, open_floor: bool = False
    ) -> None:
        super().__init__(name="mfcc", trainable=False)
        self._settings = settings
        self._fixed = constants(settings)
        self._grid = grid
        self._clip = clip
        self._rounded = rounded
        self._open_floor = open_floor

    def call(self, inputs: Any) -> Any:
        """[n, 16000] -> [n, frames, coefficients, 1]."""
        fixed = self._fixed
        starts = fixed.hop * np.arange(fixed.frames)[:, np.newaxis]
        frames = ops.take(ops.reshape(inputs, (-1, CLIP_SAMPLES)), starts + np.arange(fixed.fft_size), axis=1)
        real, imaginary = ops.rfft(frames * fixed.window.astype(np.float32))
        power = ops.square(real) + ops.square(imaginary)
        bands = ops.matmul(power[..., : fixed.filters.shape[1]], fixed.filters.T)
        loudness = _DB * ops.log(ops.maximum(bands, AMIN))
        loudest = ops.max(loudness, axis=(1, 2), keepdims=True)
        loudness = ops.maximum(loudness, loudest - self._settings.top_db)
        if self._open_floor:
            floor = ops.max(bands, axis=(1, 2), keepdims=True) * 10 ** (-self._settings.top_db / 10)
            smooth = _DB * ops.log(ops.maximum(bands + floor, AMIN))
            loudness = smooth + ops.stop_gradient(loudness - smooth)
        out = ops.matmul(loudness, fixed.transform.T)
        if self._grid is not None:
            low, high = self._grid.low.astype(np.float32), self._grid.high.astype(np.float32)
            out = (out - low) / (high - low)
            out = ops.clip(out, 0.0, 1.0) if self._clip else out
            if self._rounded:
                steps = ops.clip(ops.floor(255 * out + 0.5), 0.0, 255.0)
                out = out + ops.stop_gradient(steps / 255 - out)
        return ops.expand_dims(out, -1)
