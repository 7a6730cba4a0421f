"""robustness.json: what the attacks found, per target, attack and epsilon, and whether to trust it."""

import math
from typing import ClassVar, Literal

from pydantic import Field

from tinyrobust.attacks.specs import Norm
from tinyrobust.deploy.reading import Reading
from tinyrobust.records import Part, Record

ALL = "all"
"""The name of the worst case over all targets."""
NOT_ATTACKED = "not attacked"
"""Why a row was not checked: nothing was tried at its radius in its norm; what other radii broke is all that counts in it."""
# What was attacked: what enters the network (pixels, features of sound), or the sound itself, before the front end.
Domain = Literal["features", "waveform"]


def decibels(ratio: float) -> float:
    """A signal-to-noise ratio in dB from a radius in the norm "snr": 0.1 is 20 dB."""
    return float(-20 * math.log10(ratio))


class Proportion(Part):
    """A share of `n` samples in [0, 1] with its 95 % Wilson score interval (Wilson 1927)."""

    count: int
    n: int
    value: float
    low: float
    high: float


class CleanAccuracy(Part):
    """Accuracy of one target without attack: on the whole test set, and on the samples that are attacked."""

    target: str
    test: Proportion
    attacked: Proportion


class AttackResult(Part):
    """Robust accuracy of one target under one attack at one epsilon.

    Attributes:
        target: Whose verdicts these are.
        attack: The attack's name in the protocol.
        crafted_on: Whose gradients or scores made the examples; another name than `target` for a transfer, and for another
            view of the same network ("keras/T", "repaired", "bpda").
        norm: In which `epsilon` is a radius, in input units ([0, 1] for images; pixels for l0).
        epsilon: The radius. For snr a ratio of lengths, 0.1 at 20 dB (`decibels`); for shift milliseconds.
        parameters: The attack's, as used.
        robust: Samples that were right and still are; n is how many samples the attack was meant for.
        given: Samples that the attack was run on: in a cascade, those that still stood.
        largest_distance: Of an example that counts as broken; 0 where none does.
        seconds: To make and judge the examples; for a transfer, to judge them only. An attack that looks for the smallest
            distance runs once: its time and passes stand at its first epsilon.
        queries: Samples whose scores were asked for; questions asked before are answered from memory.
        forward: Samples that went forward through a network.
        backward: Samples that went backward.
        on_grid: Of the broken samples, those still broken when their examples are rounded to the sensor's 8 bits; None
            where that was not asked for, or nothing was broken.
        found: Of a search on the file (`NAME-on-file`), how many samples fell to the example of the network as it was, to
            rounding, to steps along gradients and to random squares; empty for attacks.
    """

    target: str
    attack: str
    crafted_on: str
    norm: Norm
    epsilon: float
    parameters: dict[str, float | int | str | bool]
    robust: Proportion
    given: int
    largest_distance: float
    seconds: float
    queries: int
    forward: int
    backward: int
    on_grid: Proportion | None = None
    found: dict[str, int] = Field(default_factory=dict)


class LongerRun(Part):
    """One run of an attack that was run on.

    Attributes:
        steps: So many times those that the protocol lists.
        standing: Samples that it was run on: those that still stood on its target.
        broken: How many of them it broke.
    """

    steps: int
    standing: int
    broken: int


class ConvergenceRow(Part):
    """How far the strongest attack with gradients was run on at one epsilon.

    Attributes:
        target: Whose gradients it follows.
        attack: Its name in the protocol.
        norm: Of `epsilon`.
        epsilon: The radius.
        budget: The most steps of a run, as a multiple of those that the protocol lists.
        runs: In order; none where nothing stood any more.
        converged: Whether the last run broke less than the protocol's share of the samples.
    """

    target: str
    attack: str
    norm: Norm
    epsilon: float
    budget: int
    runs: list[LongerRun]
    converged: bool


class WorstCase(Part):
    """Per-sample worst case at one epsilon: a sample counts only when no attack broke it within this radius.

    Attributes:
        target: On which it must stand; "all" for all of them.
        norm: Of `epsilon`.
        epsilon: The radius.
        robust: What stands.
        not_checked: Why no check looked at this very row, such as "not attacked"; empty where one did. None in records from
            before rows were checked one by one: then only those at the headline's radius were.
    """

    target: str
    norm: Norm
    epsilon: float
    robust: Proportion
    not_checked: str | None = None


class MinimalDistance(Part):
    """Smallest distances that broke a target, of the samples that it classifies rightly.

    Attributes:
        target: Whom the examples fool.
        norm: Of the distances.
        within: Share broken within the largest epsilon of the norm.
        median: Distance below which half of the samples are broken; None where fewer are broken within the largest epsilon.
        quartile: The same for a quarter of the samples.
    """

    target: str
    norm: Norm
    within: Proportion
    quartile: float | None
    median: float | None


class Golden(Part):
    """How the verdicts of the fast interpreter compare with those of TensorFlow Lite Micro, which decide where it is installed.

    Attributes:
        checked: Verdicts that both gave.
        differing: Verdicts in which the two name different classes.
    """

    checked: int
    differing: int


class Check(Part):
    """One sign that the figures are not to be trusted, looked for.

    Attributes:
        name: What is looked for; also the anchor in `docs/reading-robustness.md` and in the report.
        title: The same in words.
        raised: Whether it was found.
        explanation: What was found, and what it means.
        figures: The numbers behind it.
    """

    name: str
    title: str
    raised: bool
    explanation: str
    figures: dict[str, float] = Field(default_factory=dict)


class Area(Part):
    """Area under the ROC curve: how often an anomaly has a larger score than a normal input.

    Attributes:
        value: 1: every anomaly is above every normal input; 0.5: scores say nothing.
        low: Lower end of the 95 % score interval (Newcombe 2006, Statistics in Medicine 25:559, method 5).
        high: Upper end.
        normals: How many normal inputs.
        anomalies: How many anomalies.
    """

    value: float
    low: float
    high: float
    normals: int
    anomalies: int


class DetectionRow(Part):
    """What an anomaly detector finds at one L-inf epsilon; at 0, without attack on the whole test set.

    Attributes:
        epsilon: The radius, in input units.
        detected: Anomalies that are found whatever an attack does to hide them; None where there are no anomalies.
        false_alarms: Normal inputs that raise an alarm or that an attack makes raise one; None where there are none.
        area: Of the file's scores, an attacked sample's being the worst that was found; None where one kind is absent.
    """

    epsilon: float
    detected: Proportion | None
    false_alarms: Proportion | None
    area: Area | None


class RobustnessRecord(Record):
    """One evaluation of one model: `worst` has a row for every target and one for `all` targets together.

    Attributes:
        domain: What was attacked. Of sound, an input unit is the 16-bit range: 0 is -32768, 1 is 32768, 0.5 is silence; so an
            L-inf epsilon is half of what it is in amplitude from -1 to 1.
        cascade: Whether every attack got only what those before it left standing.
        input_range: What black (0) and white (1) are in the file's own input units; a pair of lists where channels differ.
        units: The same in words, and who says so.
        units_from: Who: the user, the file, the data (tried on clean samples, or their own range), or the network.
        epsilon_unit: Of what an epsilon is a share, in words; empty for pixels, whose epsilons are shares of black to white.
        per_unit: So much of `epsilons` is one of that unit: 1, but for standard deviations.
        epsilons: Radii by norm, rising, in input units from 0 (black) to 1 (white).
        headline_norm: Of `headline_epsilon`.
        headline: Worst case for all targets at `headline_epsilon`; None where the protocol has no attack at that radius, and
            where a check says that there is no such figure: the labels are not those of the file, it names one class for
            everything, or it is no classifier.
        confusion: Counts [true class][named class] of the flashed file on the whole test set, without attack; None in records
            from before it was kept.
        reading: What the outputs of the file mean; None in records from before it was kept.
        detection: Of an anomaly detector what it finds without attack and at every L-inf epsilon; empty for everything else.
        convergence: How far attacks were run on beyond what the protocol lists; empty where it has no rule for that.
        checks: Everything that was looked for; a raised one makes the record unreliable.
        reliable: False when a check was raised: then the figures are not evidence of robustness.
        notes: What a reader must know that is no reason for mistrust.
        seconds: Of all attacks and checks; what an interrupted evaluation had done is counted once.
    """

    SCHEMA: ClassVar[str] = "tinyrobust.robustness/2"
    model: str
    model_sha256: str
    dataset: str
    dataset_fingerprint: str
    domain: Domain = "features"
    protocol: str
    cascade: bool = False
    seed: int
    input_range: tuple[float, float] | tuple[list[float], list[float]] = (0.0, 1.0)
    units: str = ""
    units_from: str = ""
    epsilon_unit: str = ""
    per_unit: float = 1.0
    epsilons: dict[Norm, list[float]]
    headline_epsilon: float
    headline_norm: Norm = "linf"
    samples: int
    clean: list[CleanAccuracy]
    attacks: list[AttackResult]
    worst: list[WorstCase]
    minimal: list[MinimalDistance]
    headline: Proportion | None
    golden: Golden
    confusion: list[list[int]] | None = None
    reading: Reading | None = None
    detection: list[DetectionRow] = Field(default_factory=list)
    convergence: list[ConvergenceRow] = Field(default_factory=list)
    checks: list[Check]
    reliable: bool
    notes: list[str]
    seconds: float

    @property
    def attacked_at_headline(self) -> bool:
        """Whether the protocol has an attack at the headline's radius: without one there is no headline."""
        place = (self.headline_norm, self.headline_epsilon)
        return any((row.norm, row.epsilon) == place for row in self.attacks)

    def remark(self, row: WorstCase) -> str:
        """What must stand beside the figure of a row: "not checked", "not attacked", or nothing."""
        if row.not_checked == NOT_ATTACKED:
            return NOT_ATTACKED
        headline = (row.norm, row.epsilon) == (self.headline_norm, self.headline_epsilon)
        unchecked = not headline and row.robust.count > 0 if row.not_checked is None else bool(row.not_checked)
        return "not checked" if unchecked else ""

    @property
    def warnings(self) -> list[str]:
        """The explanations of the checks that were raised."""
        return [check.explanation for check in self.checks if check.raised]
