"""What `tinyrobust verify` finds: the figures of a card beside those that were measured again."""

from typing import ClassVar, Literal

from tinyrobust.attacks.specs import Norm
from tinyrobust.records import Part, Record
from tinyrobust.robustness.robustness_record import Domain, Proportion

Verdict = Literal["holds", "differs", "not reached", "not measured"]


class Figure(Part):
    """One figure of a card, measured again on a share of its samples.

    Attributes:
        name: "file" and "data": whether they are those of the card. "accuracy": without attack. "robust": a worst case.
        target: Whose; empty for file and data.
        norm: Of `epsilon`; None without attack.
        epsilon: The radius.
        recorded: What the card says.
        measured: What was found.
        low: The fewest samples of `measured` with which the figure holds: below this is less than one draw in 200 of so many
            of the card's samples, and one sample in a hundred more, for what rounds otherwise on another processor.
        high: The most, likewise.
        verdict: "differs": it does not hold. "not reached": the attacks found fewer examples than the card's, which contradicts
            nothing: other examples exist. "not measured": what it was measured on is not here.
        explanation: Why, in words.
    """

    name: Literal["file", "data", "accuracy", "robust"]
    target: str = ""
    norm: Norm | None = None
    epsilon: float | None = None
    recorded: Proportion | None = None
    measured: Proportion | None = None
    low: int | None = None
    high: int | None = None
    verdict: Verdict
    explanation: str = ""


class VerificationRecord(Record):
    """A card, measured again.

    Attributes:
        model: The folder.
        model_sha256: Of its `model.tflite`.
        dataset: On which data it was measured.
        domain: What was attacked.
        protocol: That of the card.
        seed: Of samples and attacks.
        figures: All of them.
        holds: Whether none differs.
        notes: What must be known of the measurement.
    """

    SCHEMA: ClassVar[str] = "tinyrobust.verification/1"
    model: str
    model_sha256: str
    dataset: str
    domain: Domain
    protocol: str
    seed: int
    figures: list[Figure]
    holds: bool
    notes: list[str]
