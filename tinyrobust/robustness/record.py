"""robustness.json: what the attacks found, per target, attack and epsilon, with n and 95 % intervals."""

from typing import ClassVar, Literal

from tinyrobust.records import Part, Record


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

    `epsilon` is an L-inf (or `norm`) radius in input units ([0, 1] for images). `crafted_on` names the target whose gradients
    or scores made the examples; it differs from `target` for a transfer. `robust` counts samples that were right and still are.
    `queries` counts samples sent through a network (questions asked before are answered from memory). It and `seconds` are for
    making and judging the examples; for a transfer, for judging them only.
    """

    target: str
    attack: str
    crafted_on: str
    norm: Literal["linf", "l2", "l1"]
    epsilon: float
    parameters: dict[str, float | int | str | bool]
    robust: Proportion
    largest_distance: float
    seconds: float
    queries: int


class WorstCase(Part):
    """Per-sample worst case at one epsilon: a sample counts only when no attack broke it, at this epsilon or a smaller one."""

    target: str
    epsilon: float
    robust: Proportion


class RobustnessRecord(Record):
    """One evaluation of one model: `worst` has a row for every target and one for `all` targets together."""

    SCHEMA: ClassVar[str] = "tinyrobust.robustness/1"
    model: str
    model_sha256: str
    dataset: str
    dataset_fingerprint: str
    protocol: str
    seed: int
    epsilons: list[float]
    headline_epsilon: float
    samples: int
    clean: list[CleanAccuracy]
    attacks: list[AttackResult]
    worst: list[WorstCase]
    headline: Proportion
    warnings: list[str]
    seconds: float
