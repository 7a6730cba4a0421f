"""information.json: a network whose draws are an ensemble, under attack: accuracy, mutual information, and a detector by it."""

from typing import ClassVar

from tinyrobust.attacks.specs import Norm
from tinyrobust.records import Part, Record
from tinyrobust.robustness.robustness_record import Area, Proportion

INFORMATION = "information.json"


class PlaneRow(Part):
    """A point of the adversarial information plane: one attack at one strength, on the same images.

    Attributes:
        attack: The attack's name in the protocol; "none" for the images as they are, "evasive" for the attack on the detector.
        on: Whose gradients or scores made the examples: "keras" is the network, "repaired" the same with slopes that are
            nowhere zero.
        norm: In which `epsilon` is a radius.
        epsilon: In input units; None for an attack that looks for the nearest example, however far, and without attack.
        draws: So many draws an answer or gradient is the mean of that the attacker saw (EOT); 0 without attack.
        weight: Of the mutual information in what "evasive" maximises; None for others.
        parameters: The attack's, as used.
        accuracy: Of the ensemble, which answers each image once.
        information: Mean mutual information, in nats a feature; None where the network's features are not made binary.
        values: The same of every image, in order.
        area: Under the ROC curve, of the mutual information, larger for attacked images: those of this row against the same
            images as they are. None without attack, or without mutual information.
        detected: The share that raises an alarm, at each of the record's thresholds; without attack these are false alarms.
        unnoticed: Misclassified without an alarm at the last threshold, the lowest.
    """

    attack: str
    on: str = "keras"
    norm: Norm = "linf"
    epsilon: float | None
    draws: int
    weight: float | None = None
    parameters: dict[str, float | int | str | bool]
    accuracy: Proportion
    information: float | None
    values: list[float]
    area: Area | None
    detected: list[Proportion]
    unnoticed: Proportion | None


class InformationRecord(Record):
    """An evaluation of a network that is random at inference, without its file.

    Attributes:
        dataset: Its name.
        n: Attacked test images, stratified.
        members: Draws of the ensemble, whose answer is the mean of their probabilities.
        headline_epsilon: The L-inf radius at which passes were found, and of the attack on the detector.
        passes: How many draws attackers average: twice as many move robust accuracy by less than a point.
        settled: False where that number was not found; then it is the largest that was tried.
        passes_accuracy: Robust accuracy under PGD of 20 steps by number of draws, the mean over several answers to each image.
        alarms: The shares of false alarms that thresholds were set for, falling thresholds.
        thresholds: An alarm is a mutual information above it; empty without mutual information.
        calibrated_on: Images of another part of the data that the thresholds were set on, without attack.
        clean: Without attack.
        rows: Every attack of the protocol.
        evasive: The attacker who minimises the detector's statistic too, one row a weight.
        evaded: Images that at least one of these gets misclassified without an alarm at the last threshold.
        notes: What a reader must know.
        seconds: Of everything.
    """

    SCHEMA: ClassVar[str] = "tinyrobust.information/1"
    dataset: str
    protocol: str
    seed: int
    n: int
    members: int
    headline_epsilon: float
    passes: int
    settled: bool
    passes_accuracy: dict[int, float]
    alarms: list[float]
    thresholds: list[float]
    calibrated_on: int
    clean: PlaneRow
    rows: list[PlaneRow]
    evasive: list[PlaneRow]
    evaded: Proportion | None
    notes: list[str]
    seconds: float

    def weakest(self, draws: int) -> PlaneRow:
        """Under which attack at the headline's radius, through so many draws, the fewest images are classified rightly.

        Raises:
            ValueError: No attack in L-inf was run so.
        """
        tried = [one for one in self.rows if (one.norm, one.epsilon, one.draws) == ("linf", self.headline_epsilon, draws)]
        if not tried:
            raise ValueError(f"Expected an attack in L-inf through {draws} draws. Received: none in protocol {self.protocol!r}")
        return min(tried, key=lambda one: one.accuracy.value)
