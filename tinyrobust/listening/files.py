"""What a file is listened to with, and which words are in it."""

import math
from dataclasses import dataclass
from pathlib import Path

import soundfile

from tinyrobust.data.speech.sound import sound_blocks
from tinyrobust.errors import DataError
from tinyrobust.listening.detection_record import DETECTION, DetectionRecord
from tinyrobust.listening.detector import Detection
from tinyrobust.listening.spotter import Listener, Spotter
from tinyrobust.progress import Progress, silent
from tinyrobust.recipe.listening import Listening

# Without a measurement: from here on a word is likelier than everything else together.
DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True)
class FileDetections:
    """The words in a file of so many seconds."""

    seconds: float
    detections: tuple[Detection, ...]


def measured(spotter: Spotter) -> tuple[Listening, float, str]:
    """The detector's settings and threshold, and where they are from.

    They are those of `detection.json` beside the file, where that is of this very file; else the defaults.

    Raises:
        RunFolderError: The record cannot be read.
    """
    path = spotter.model.path.parent / DETECTION
    if path.is_file():
        record = DetectionRecord.load(path)
        if record.model_sha256 == spotter.model.sha256:
            return record.settings, record.threshold, f"{DETECTION}, chosen on validation audio"
    return Listening(), DEFAULT_THRESHOLD, "the default: the word is likelier than all else together"


def listen_to(path: Path, listener: Listener, progress: Progress = silent) -> FileDetections:
    """Listens to a sound file from its beginning to its end; see `Listener.finish` for what follows it.

    Args:
        path: Any format that libsndfile reads; another rate is resampled to 16 kHz, channels are averaged.
        listener: One that was given nothing yet.
        progress: Called with seconds.

    Raises:
        DataError: The file cannot be read.
    """
    detections: list[Detection] = []
    total = 0
    try:
        for block in sound_blocks(path):
            total = total or math.ceil(soundfile.info(path).duration)
            detections += listener.feed(block)
            progress(f"listening to {path.name}", min(math.ceil(listener.seconds), total), total)
    except ValueError as error:
        raise DataError(f"Expected a sound file. Received: {path}: {error}") from error
    return FileDetections(listener.seconds, (*detections, *listener.finish()))
