"""How often a file reports what was not said, and misses what was: over thresholds, and at the one that validation chooses."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv

from tinyrobust.data.speech.recordings import Recordings
from tinyrobust.listening.detection_record import DetectionRecord, EvaluationAudio, Measured, Point, Rate, WordRate
from tinyrobust.listening.detector import Detection, Trigger
from tinyrobust.listening.evaluation_audio import SLOT, Streams, streams
from tinyrobust.listening.spotter import Spotter
from tinyrobust.progress import Progress, silent
from tinyrobust.recipe.frontend import SAMPLE_RATE
from tinyrobust.recipe.listening import Listening
from tinyrobust.recipe.speech import UNKNOWN
from tinyrobust.robustness.statistics import wilson

THRESHOLDS = tuple(round(0.1 + 0.025 * step, 3) for step in range(36))  # 0.1 to 0.975
# A window that ends so soon after a clip began holds nothing of its word yet: what is reported there was still the one before.
_EARLIEST = 0.3


def measure(
    spotter: Spotter, recordings: Recordings, dataset: str, settings: Listening, progress: Progress = silent
) -> DetectionRecord:
    """Listens to streams made of validation clips, chooses the threshold, then listens to the test.

    Args:
        spotter: Who listens.
        recordings: Of the data set with the classes of `spotter`.
        dataset: Its name, for the record.
        settings: The detector's, and what is listened to.
        progress: Called as `progress(label, done, total)`.

    Raises:
        DataError: There is no sound without keywords, or a clip cannot be read.
        RecipeError: The hop does not fit the front end.
    """
    chosen_on = _listened(spotter, streams(recordings, spotter.classes, "validation", dataset, settings), settings, progress)
    threshold, reason = _choice(chosen_on.curve, chosen_on.streams.amount, settings.false_accepts_per_hour)
    judged_on = _listened(spotter, streams(recordings, spotter.classes, "test", dataset, settings), settings, progress)
    return DetectionRecord(
        model=spotter.model.path.name,
        model_sha256=spotter.model.sha256,
        settings=settings,
        threshold=threshold,
        reason=reason,
        validation=chosen_on.measured(threshold),
        test=judged_on.measured(threshold),
        notes=_notes(recordings, spotter.classes),
    )


def rate(count: int, hours: float) -> Rate:
    """Events in so many hours, above 0, with the exact 95 % interval of a Poisson rate (Garwood 1936)."""
    low = float(gammaincinv(count, 0.025)) if count else 0.0
    high = float(gammaincinv(count + 1, 0.975))
    return Rate(count=count, hours=hours, per_hour=count / hours, low=low / hours, high=high / hours)


@dataclass(frozen=True, eq=False)
class _Listened:
    """Smoothed posteriors of a part's streams: a threshold after the other is tried on them."""

    spotter: Spotter
    settings: Listening
    streams: Streams
    keywords: NDArray[np.float64]
    others: NDArray[np.float64]
    noise: NDArray[np.float64]

    def measured(self, threshold: float) -> Measured:
        """The curve, and the figures at one threshold."""
        hit = self._hits(self._detections(self.keywords, threshold))
        labels = self.streams.labels
        words = [
            WordRate(word=self.spotter.classes[label], false_rejects=wilson(int((~hit[labels == label]).sum()), count))
            for label, count in zip(*np.unique(labels, return_counts=True), strict=True)
        ]
        return Measured(material=self.streams.amount, points=self.curve, chosen=self.point(threshold), words=tuple(words))

    @cached_property
    def curve(self) -> tuple[Point, ...]:
        """All thresholds, rising."""
        return tuple(self.point(threshold) for threshold in THRESHOLDS)

    def point(self, threshold: float) -> Point:
        """Both kinds of error at one threshold."""
        amount = self.streams.amount
        detections = self._detections(self.keywords, threshold)
        hit = self._hits(detections)
        on_noise = len(self._detections(self.noise, threshold))
        on_words = len(self._detections(self.others, threshold))
        return Point(
            threshold=threshold,
            false_accepts=rate(on_noise + on_words, amount.hours),
            on_noise=rate(on_noise, amount.noise_seconds / 3600) if amount.noise_seconds else None,
            false_rejects=wilson(int((~hit).sum()), len(hit)),
            wrong=len(detections) - int(hit.sum()),
        )

    def _detections(self, smoothed: NDArray[np.float64], threshold: float) -> list[Detection]:
        return Trigger(self.spotter.classes, self.settings, threshold).feed(smoothed)

    def _hits(self, detections: Sequence[Detection]) -> NDArray[np.bool_]:
        """For every clip with a keyword, whether its word was reported: after it began, and before the next could be."""
        hit = np.zeros(len(self.streams.onsets), bool)
        times = np.array([detection.seconds for detection in detections])
        clips = np.searchsorted(self.streams.onsets / SAMPLE_RATE + _EARLIEST, times, side="right") - 1
        for detection, clip in zip(detections, clips.tolist(), strict=True):
            if clip >= 0 and self.spotter.classes[self.streams.labels[clip]] == detection.word:
                hit[clip] = True
        return hit


def _listened(spotter: Spotter, audio: Streams, settings: Listening, progress: Progress) -> _Listened:
    part = audio.amount.part

    def smoothed(name: str, sound: NDArray[np.int16]) -> NDArray[np.float64]:
        return spotter.smoothed(
            sound,
            settings,
            lambda _, done, total: progress(f"listening to {part} {name}", done // SAMPLE_RATE, total // SAMPLE_RATE),
        )

    return _Listened(
        spotter,
        settings,
        audio,
        keywords=smoothed("words", audio.keywords),
        others=smoothed("other words", audio.others),
        noise=smoothed("noise", audio.noise),
    )


def _notes(recordings: Recordings, classes: Sequence[str]) -> tuple[str, ...]:
    """How many clips of other words are of words that the network knows from training; where words have folders."""
    others = {
        part: [clip.path.parent.name for clip in clips if classes[clip.label] == UNKNOWN and clip.start is None]
        for part, clips in recordings.parts.items()
    }
    known = set(others["train"])
    return tuple(
        f"{part}: {sum(word in known for word in others[part]):,} of {len(others[part]):,} clips of other words are of "
        "words that were learned from; false accepts are fewer there"
        for part in ("validation", "test")
        if others[part]
    )


def _choice(measured: Sequence[Point], amount: EvaluationAudio, most: float | None) -> tuple[float, str]:
    """The threshold that the validation audio speaks for, and why, in words."""
    of_audio = f"on the validation audio ({amount.keywords:,} keywords, {amount.hours:.2f} hours without any)"
    if most is None:
        slots = 3600 * amount.hours * SAMPLE_RATE / SLOT
        errors = [
            (point.false_rejects.count + point.wrong) / amount.keywords + point.false_accepts.count / slots
            for point in measured
        ]
        # Where several have as few, the highest: it reports least.
        point = min(zip(errors, measured, strict=True), key=lambda pair: (pair[0], -pair[1].threshold))[1]
        return point.threshold, (
            f"errors are fewest {of_audio}: in {SLOT // SAMPLE_RATE} s with a keyword, it missed or another word heard, "
            "plus in as long without one, something heard"
        )
    kept = [
        point for point in measured if all(p.false_accepts_per_hour <= most for p in measured if p.threshold >= point.threshold)
    ]
    if not kept:
        return measured[-1].threshold, (
            f"the highest that was tried: even there, {of_audio}, "
            f"there are {measured[-1].false_accepts_per_hour:.3g} false accepts an hour, more than {most:g}"
        )
    return kept[0].threshold, (
        f"the lowest from which on there are at most {most:g} false accepts an hour {of_audio}: "
        f"{kept[0].false_accepts.count} in all"
    )
