"""A model file and its front end as one thing that spots words: posteriors, and detections as the sound comes in."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinyrobust.data.arrays import scale
from tinyrobust.data.speech.frontend import Grid, Stream, front_end
from tinyrobust.data.speech.frontend_record import FRONTEND, FrontendRecord
from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.errors import ModelFileError
from tinyrobust.listening.detector import Detection, Smoother, Trigger, posteriors
from tinyrobust.progress import Progress, silent
from tinyrobust.recipe.frontend import CLIP_SAMPLES, SAMPLE_RATE
from tinyrobust.recipe.listening import Listening

# How far a file's input range may be from [0, 1]: half a step of 8 bits.
_HALF_STEP = 0.5 / 255


class Spotter:
    """A keyword spotter: a `.tflite` file, and the front end that it was trained with.

    Args:
        model: The file.
        frontend: Its `frontend.json`; the one in the file's folder when absent.

    Attributes:
        model: The interpreter.
        frontend: The record of the front end.

    Raises:
        ModelFileError: There is no record of the front end, or the file's input or output does not fit it.
        RunFolderError: The record cannot be read.
    """

    def __init__(self, model: Path, frontend: Path | None = None) -> None:
        self.model = Int8Model(model)
        path = frontend or model.parent / FRONTEND
        if not path.is_file():
            raise ModelFileError(
                f"Expected the record of the front end that {model.name} was trained with. Received: there is no {path}",
                hint=f"`tinyrobust export` writes {FRONTEND} beside the model; name it with --frontend if it is elsewhere.",
            )
        self.frontend = FrontendRecord.load(path)
        self._front_end, self._grid = front_end(self.frontend.settings), Grid.of(self.frontend)
        self._fits(path)

    @property
    def classes(self) -> tuple[str, ...]:
        """What the file's outputs stand for."""
        return self.frontend.classes

    def posteriors(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Features in the front end's own units, [n, rows, coefficients], to probabilities, [n, classes]."""
        outputs = self.model.predict(scale(self._grid.quantized(features)))
        return posteriors(outputs, self.model.ends_in_softmax)

    def smoothed(self, sound: NDArray[np.int16], settings: Listening, progress: Progress = silent) -> NDArray[np.float64]:
        """What a detector sees of a whole recording, int16 [samples]: smoothed posteriors, a row a window, [n, classes]."""
        stream, smoother = self.stream(settings), Smoother(settings)
        rows = []
        for start in range(0, len(sound), CLIP_SAMPLES):
            rows.append(smoother.feed(self.posteriors(stream.feed(sound[start : start + CLIP_SAMPLES]))))
            progress("listening", min(start + CLIP_SAMPLES, len(sound)), len(sound))
        return np.concatenate(rows) if rows else np.empty((0, len(self.classes)))

    def stream(self, settings: Listening) -> Stream:
        """A new stream through the front end.

        Raises:
            RecipeError: The hop is no multiple of the front end's step.
        """
        return self._front_end.stream(settings.hop_ms, settings.state)

    def _fits(self, path: Path) -> None:
        hint = (
            f"{path.name} is that of another model, or the file was not made by tinyrobust: name the right one with --frontend."
        )
        shape = (*self.frontend.shape, 1)
        if self.model.input_shape != shape:
            raise ModelFileError(
                f"{self.model.path}: Expected inputs of shape {shape}, as {path} describes. Received: {self.model.input_shape}",
                hint=hint,
            )
        if self.model.classes != len(self.classes):
            raise ModelFileError(
                f"{self.model.path}: Expected {len(self.classes)} outputs, as {path} says. Received: {self.model.classes}",
                hint=hint,
            )
        low, high = self.model.input_range or (0.0, 1.0)
        if abs(low) > _HALF_STEP or abs(high - 1) > _HALF_STEP:
            raise ModelFileError(
                f"{self.model.path}: Expected inputs from 0 to 1, 255 steps of features. Received: from {low:g} to {high:g}",
                hint=hint,
            )


class Listener:
    """Takes a stream, chunk by chunk, and says which words are in it.

    Args:
        spotter: Who listens.
        settings: Hop, smoothing, refractory time.
        threshold: Of the smoothed posterior, 0 to 1.

    Raises:
        ModelFileError: No class of the file is a keyword.
        RecipeError: The hop is no multiple of the front end's step.
    """

    def __init__(self, spotter: Spotter, settings: Listening, threshold: float) -> None:
        self._spotter, self._settings = spotter, settings
        self._stream = spotter.stream(settings)
        self._smoother = Smoother(settings)
        self._trigger = Trigger(spotter.classes, settings, threshold)
        self._samples = 0

    @property
    def seconds(self) -> float:
        """How much was taken."""
        return self._samples / SAMPLE_RATE

    def feed(self, chunk: NDArray[np.int16]) -> list[Detection]:
        """The next samples, int16 [n] at 16 kHz, to what is reported at their end."""
        self._samples += len(chunk)
        return self._detections(chunk)

    def finish(self) -> list[Detection]:
        """What is reported when nothing follows.

        Zeros follow the end: what lacks to a second, as in training, and the smoothing time, so that a word at the end counts
        as much as one before. A clip of a second is so in the first window as it is, and leaves in those after.
        """
        settings = self._settings
        missing = max(0, CLIP_SAMPLES - self._samples) + settings.smoothing_ms * SAMPLE_RATE // 1000
        return self._detections(np.zeros(missing, np.int16))

    def _detections(self, chunk: NDArray[np.int16]) -> list[Detection]:
        features = self._stream.feed(chunk)
        return self._trigger.feed(self._smoother.feed(self._spotter.posteriors(features))) if len(features) else []
