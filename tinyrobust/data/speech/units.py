"""Units of sound: 16-bit samples, amplitudes from -1 to 1, and numbers in [0, 1], where 0.5 is silence.

The last is what is attacked and learned from: x = a / 65536 + 1/2 for a sample a from -32768 to 32767: single precision holds
every one of them exactly. A change of x by epsilon is one of 2 epsilon in amplitude from -1 to 1.
"""

import numpy as np
from numpy.typing import NDArray

MIDPOINT = 0.5
STEPS = 65_536


def amplitudes(audio: NDArray[np.int16]) -> NDArray[np.float32]:
    """int16 samples as float32 in [-1, 1): a / 32768."""
    return audio.astype(np.float32) / np.float32(32768)


def unit(audio: NDArray[np.int16]) -> NDArray[np.float32]:
    """int16 samples as float32 in [0, 1)."""
    return audio.astype(np.float32) / np.float32(STEPS) + np.float32(MIDPOINT)


def samples(x: NDArray[np.floating]) -> NDArray[np.int16]:
    """Numbers in [0, 1] as the nearest int16 samples; 1 itself is the highest of them."""
    steps: NDArray[np.int16] = np.clip(np.rint((x.astype(np.float64) - MIDPOINT) * STEPS), -32768, 32767).astype(np.int16)
    return steps


def shifted(audio: NDArray[np.int16], by: int) -> NDArray[np.int16]:
    """Clips [n, samples] moved by so many samples, later where positive; zeros come in."""
    out = np.zeros_like(audio)
    if by >= 0:
        out[:, by:] = audio[:, : audio.shape[1] - by]
    else:
        out[:, :by] = audio[:, -by:]
    return out
