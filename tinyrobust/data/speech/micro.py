"""The front end that microcontrollers run: TensorFlow Lite Micro's, through `pymicro-features`, the same C code.

30 ms windows every 10 ms, 40 bands from 125 to 7500 Hz, noise reduction, PCAN gain control, logarithm: the settings of
TensorFlow Lite Micro's micro_speech and micro_wake_word. They are compiled in; only how many windows are passed on is chosen.
"""

import numpy as np
from numpy.typing import NDArray
from pymicro_features import MicroFrontend

from tinyrobust.recipe.frontend import CLIP_SAMPLES, Micro

CHANNELS = 40
WINDOW, STEP = 480, 160  # samples: 30 ms and 10 ms
SETTINGS = {
    "window_ms": 30,
    "step_ms": 10,
    "channels": CHANNELS,
    "low_hz": 125.0,
    "high_hz": 7500.0,
    "noise_smoothing_bits": 10,
    "noise_even_smoothing": 0.025,
    "noise_odd_smoothing": 0.06,
    "noise_min_signal_remaining": 0.05,
    "pcan_enabled": 1,
    "pcan_strength": 0.95,
    "pcan_offset": 80.0,
    "pcan_gain_bits": 21,
    "log_enabled": 1,
    "log_scale_shift": 6,
}
# pymicro-features gives the C code's integers times this.
_SCALE = 0.0390625
# micro_speech, AudioPreprocessor: int8 = (v * 256 + 333) / 666 - 128, where 666 = 25.6 * 26. On a uint8 grid from 0 that is
# round(255 (v - 0) / HIGH).
LOW, HIGH = 0.0, 255 * 666 / 256


def frames(settings: Micro) -> int:
    """Rows of a clip of a second."""
    return -(-(1 + (CLIP_SAMPLES - WINDOW) // STEP) // settings.stride)


def micro(audio: NDArray[np.int16], settings: Micro) -> NDArray[np.float32]:
    """The features of clips, each heard by a front end that has just been switched on.

    State carried over from clip to clip would change them: its noise estimate adapts to what came before.

    Args:
        audio: int16, of shape [n, 16000].
        settings: Every how many windows one is kept, from the first.

    Returns:
        The C code's integers, as float32, of shape [n, frames, 40].
    """
    out = np.empty((len(audio), frames(settings), CHANNELS), np.float32)
    for index, clip in enumerate(audio):
        front_end = MicroFrontend()
        rows = [row(front_end, clip[at : at + STEP]) for at in range(0, len(clip), STEP)]
        out[index] = [values for values in rows if values is not None][:: settings.stride]
    return out


def row(front_end: MicroFrontend, step: NDArray[np.int16]) -> NDArray[np.float32] | None:
    """Gives `front_end` its next 160 samples.

    Returns:
        The C code's integers for the window that they complete, [40]; None for the first two steps, which fill the first.
    """
    values = front_end.process_samples(step.tobytes()).features
    return np.rint(np.array(values, np.float32) / np.float32(_SCALE)) if values else None
