"""corruptions.json: how often a model is right about images that a camera spoils; no attack, no worst case, no headline."""

from typing import ClassVar

from tinyrobust.records import Part, Record
from tinyrobust.robustness.robustness_record import Golden, Proportion

CORRUPTIONS = "corruptions.json"


class MeanShare(Part):
    """A mean over answers that are not independent: `n` images, each corrupted in every way.

    Attributes:
        value: Mean over corruptions of the mean over severities of the accuracy.
        n: Images.
        low: Lower end of the 95 % interval: percentiles of the mean when the n images are drawn again, with replacement
            (Efron 1979), each with all its answers. Where all answers are equal, Wilson's for n answers.
        high: Upper end.
    """

    value: float
    n: int
    low: float
    high: float


class CorruptionRow(Part):
    """Accuracy of one target under one corruption at one severity. All rows are about the same images."""

    target: str
    corruption: str
    severity: int
    accuracy: Proportion


class CorruptionMean(Part):
    """One target in short.

    Attributes:
        target: Whose answers these are.
        clean: Accuracy on the same images as they are.
        mean: The mean corruption accuracy. Not divided by that of a reference network, as the paper's mCE is.
        by_corruption: The mean over severities of each corruption, in the order of the protocol.
    """

    target: str
    clean: Proportion
    mean: MeanShare
    by_corruption: dict[str, MeanShare]


class CorruptionRecord(Record):
    """What one model makes of corrupted images.

    Attributes:
        model: The file's name.
        units: What black and white are in the file's own input units, in words.
        severities: All that were measured, rising.
        means: One for each target.
        rows: By target, corruption and severity.
        golden: How often TensorFlow Lite Micro names another class than the fast interpreter, whose answers count here, on the
            images as they are; none were checked where it cannot be asked.
        package: That made the corruptions, with its version.
        notes: What a reader must know.
        seconds: Of making and judging them; what an interrupted evaluation had done is counted once.
    """

    SCHEMA: ClassVar[str] = "tinyrobust.corruptions/1"
    model: str
    model_sha256: str
    dataset: str
    dataset_fingerprint: str
    protocol: str
    seed: int
    samples: int
    units: str
    severities: list[int]
    means: list[CorruptionMean]
    rows: list[CorruptionRow]
    golden: Golden
    package: str
    notes: list[str]
    seconds: float

    def accuracy(self, target: str, corruption: str, severity: int) -> Proportion | None:
        """One row's; None where that was not measured."""
        for row in self.rows:
            if (row.target, row.corruption, row.severity) == (target, corruption, severity):
                return row.accuracy
        return None
