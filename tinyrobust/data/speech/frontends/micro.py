"""The front end that microcontrollers run: TensorFlow Lite Micro's, through `pymicro-features`, the same C code.

30 ms windows every 10 ms, 40 bands from 125 to 7500 Hz, noise reduction, PCAN gain control, logarithm: the settings of
TensorFlow Lite Micro's micro_speech and micro_wake_word. They are compiled in; only how many windows are passed on is chosen.
"""

import numpy as np
import pymicro_features
from numpy.typing import NDArray

from tinyrobust.data.speech.frontend import FrontEnd, Grid, HeaderContents, State, Stream
from tinyrobust.data.speech.stream import RowStream
from tinyrobust.recipe.frontend import CLIP_SAMPLES, Micro

CHANNELS = 40
WINDOW, STEP = 480, 160  # samples: 30 ms and 10 ms
# pymicro-features gives the C code's integers times this.
_SCALE = 0.0390625
# micro_speech, AudioPreprocessor: int8 = (v * 256 + 333) / 666 - 128, where 666 = 25.6 * 26. On a uint8 grid from 0 that is
# round(255 (v - 0) / HIGH).
LOW, HIGH = 0.0, 255 * 666 / 256
_CONSTANTS = {
    "WINDOW_MS": 30,
    "STEP_MS": 10,
    "CHANNELS": CHANNELS,
    "LOW_HZ": 125.0,
    "HIGH_HZ": 7500.0,
    "NOISE_SMOOTHING_BITS": 10,
    "NOISE_EVEN_SMOOTHING": 0.025,
    "NOISE_ODD_SMOOTHING": 0.06,
    "NOISE_MIN_SIGNAL_REMAINING": 0.05,
    "PCAN_ENABLED": 1,
    "PCAN_STRENGTH": 0.95,
    "PCAN_OFFSET": 80.0,
    "PCAN_GAIN_BITS": 21,
    "LOG_ENABLED": 1,
    "LOG_SCALE_SHIFT": 6,
}
_HOW = (
    "TensorFlow Lite Micro's front end (tensorflow/lite/experimental/microfrontend): fill a FrontendConfig with these after",
    "FrontendFillConfigWithDefaults. It must be switched on anew for each clip of a second (FrontendReset), as for the test",
    "vectors, or run on with a network that was trained so. Of the rows that it gives, every STRIDE-th from the first is kept.",
    "Into the network's input, row after row: (value * 256 + 333) / 666, clamped to 0..255, minus 128: as micro_speech does.",
)


class MicroFrontEnd(FrontEnd):
    """Features are the C code's integers, as float32; see `tinyrobust.data.speech.frontend.FrontEnd`.

    State carried over from clip to clip would change them: its noise estimate adapts to what came before.

    Args:
        settings: Every how many windows one is kept, from the first.
    """

    def __init__(self, settings: Micro) -> None:
        self.settings: Micro = settings
        self.shape = (-(-(1 + (CLIP_SAMPLES - WINDOW) // STEP) // settings.stride), CHANNELS)

    def features(self, audio: NDArray[np.int16]) -> NDArray[np.float32]:
        """See `FrontEnd.features`; each clip goes through a front end that has just been switched on."""
        out = np.empty((len(audio), *self.shape), np.float32)
        for index, clip in enumerate(audio):
            state = pymicro_features.MicroFrontend()
            rows = [_row(state, clip[at : at + STEP]) for at in range(0, len(clip), STEP)]
            out[index] = [values for values in rows if values is not None][:: self.settings.stride]
        return out

    def grid(self, training: NDArray[np.float32]) -> Grid:  # noqa: ARG002 - fitted to nothing
        """TensorFlow Lite Micro's own, always the same."""
        return Grid(np.full(CHANNELS, LOW), np.full(CHANNELS, HIGH))

    def layer(self, grid: Grid | None = None, *, rounded: bool = False, open_floor: bool = False) -> None:
        """None: integer C code has no gradients."""

    def stream(self, hop_ms: int, state: State = "carried") -> Stream:
        """See `FrontEnd.stream`: a running estimate of the noise is kept.

        As on a microcontroller it runs on ("carried"), or every window goes through a front end that has just been switched on
        ("reset"), which is as much work again for every window.
        """
        return CarriedStream(self, hop_ms) if state == "carried" else ResetStream(self, hop_ms)

    def header(self, grid: Grid) -> HeaderContents:  # noqa: ARG002 - always the same
        """See `FrontEnd.header`."""
        return HeaderContents(_HOW, {"STRIDE": self.settings.stride, **_CONSTANTS})


class CarriedStream(RowStream[np.float32]):
    """A row is what the C code gives for a step, of which it is given one after the other.

    Args:
        front_end: Which.
        hop_ms: From one window to the next.
    """

    def __init__(self, front_end: MicroFrontEnd, hop_ms: int) -> None:
        stride, (rows, _) = front_end.settings.stride, front_end.shape
        super().__init__(hop_ms, front_end.row_ms, front_end.shape, row_samples=STEP * stride, rows_in_window=rows)
        self._stride, self._given = stride, 0
        self._state = pymicro_features.MicroFrontend()
        self._left = np.empty(0, np.int16)

    def rows(self, chunk: NDArray[np.int16]) -> NDArray[np.float32]:
        """Every `stride`-th row of the C code, [n, 40]."""
        sound = np.concatenate([self._left, chunk])
        steps = len(sound) // STEP
        self._left = sound[steps * STEP :]
        all_steps = (_row(self._state, sound[at : at + STEP]) for at in range(0, steps * STEP, STEP))
        complete = [values for values in all_steps if values is not None]
        kept = complete[-self._given % self._stride :: self._stride]
        self._given += len(complete)
        return np.array(kept, np.float32).reshape(-1, CHANNELS)

    def window(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """The rows themselves."""
        return rows


class ResetStream(RowStream[np.int16]):
    """A row is a sample: every window begins anew.

    Args:
        front_end: Which.
        hop_ms: From one window to the next.
    """

    def __init__(self, front_end: MicroFrontEnd, hop_ms: int) -> None:
        super().__init__(hop_ms, front_end.row_ms, front_end.shape, row_samples=1, rows_in_window=CLIP_SAMPLES)
        self._front_end = front_end

    def rows(self, chunk: NDArray[np.int16]) -> NDArray[np.int16]:
        """The samples themselves, [n]."""
        return chunk

    def window(self, rows: NDArray[np.int16]) -> NDArray[np.float32]:
        """The features of these 16,000 samples as a clip."""
        one: NDArray[np.float32] = self._front_end.features(rows[np.newaxis])[0]
        return one


def _row(state: pymicro_features.MicroFrontend, step: NDArray[np.int16]) -> NDArray[np.float32] | None:
    """Gives the C code its next 160 samples.

    Returns:
        Its integers for the window that they complete, [40]; None for the first two steps, which fill the first.
    """
    values = state.process_samples(step.tobytes()).features
    return np.rint(np.array(values, np.float32) / np.float32(_SCALE)) if values else None
