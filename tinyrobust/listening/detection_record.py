"""detection.json: how often a file reports what was not said, and misses what was, as it listens to a stream."""

from typing import ClassVar

from tinyrobust.recipe.listening import Listening
from tinyrobust.records import Part, Record
from tinyrobust.robustness.robustness_record import Proportion

DETECTION = "detection.json"


class EvaluationAudio(Part):
    """What was listened to, of one part of the data set.

    Attributes:
        part: "validation" or "test": no clip or noise of it was learned from.
        source: The data set, and how the streams were made of it.
        keywords: Clips of keywords, embedded in noise.
        keyword_seconds: Length of the stream with them.
        others: Clips of other words, embedded in the same way.
        other_seconds: Length of the stream with them.
        noise_seconds: Length of the stream without words: background recordings, and recorded clips of silence.
        hours: Of audio without keywords: `other_seconds` and `noise_seconds`, in hours.
    """

    part: str
    source: str
    keywords: int
    keyword_seconds: float
    others: int
    other_seconds: float
    noise_seconds: float
    hours: float


class Rate(Part):
    """Events an hour, with the exact 95 % interval of a Poisson rate (Garwood 1936)."""

    count: int
    hours: float
    per_hour: float
    low: float
    high: float


class Point(Part):
    """Both kinds of error at one threshold.

    Attributes:
        threshold: Of the smoothed posterior, 0 to 1.
        false_accepts: Detections in audio without keywords.
        on_noise: Of these, those in audio without any words; None where there is no such audio.
        false_rejects: Share of the keyword clips that were not reported as their word.
        wrong: Detections of another word than the one spoken, in the stream with keywords.
    """

    threshold: float
    false_accepts: Rate
    on_noise: Rate | None
    false_rejects: Proportion
    wrong: int

    @property
    def false_accepts_per_hour(self) -> float:
        """Detections an hour, in audio without keywords."""
        return self.false_accepts.per_hour

    @property
    def false_reject_rate(self) -> float:
        """Share of the keywords that were missed, 0 to 1."""
        return self.false_rejects.value


class WordRate(Part):
    """One keyword at the default threshold: how many of its clips were missed."""

    word: str
    false_rejects: Proportion


class Measured(Part):
    """What one part's audio showed.

    Attributes:
        material: What was listened to.
        points: The trade-off curve, thresholds rising.
        chosen: At the default threshold.
        words: Every keyword at the default threshold.
    """

    material: EvaluationAudio
    points: tuple[Point, ...]
    chosen: Point
    words: tuple[WordRate, ...]


class DetectionRecord(Record):
    """One model file that listened.

    Attributes:
        model: The file's name.
        model_sha256: Its SHA-256, in hex.
        settings: The detector's, and those of the measurement.
        threshold: The default one, chosen on `validation`.
        reason: Why it is that.
        validation: What the threshold was chosen on.
        test: The figures that count, of a part that was not chosen on.
        notes: What a reader of the figures must know.
    """

    SCHEMA: ClassVar[str] = "tinyrobust.detection/1"
    model: str
    model_sha256: str
    settings: Listening
    threshold: float
    reason: str
    validation: Measured
    test: Measured
    notes: tuple[str, ...] = ()
