"""An ensemble of draws under attack: the adversarial information plane, and a detector by a threshold on mutual information."""

import math
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tinyrobust.attacks.graph import any_size
from tinyrobust.attacks.repair import UnitMargin, smoothed
from tinyrobust.attacks.seeds import seeded
from tinyrobust.attacks.specs import AttackSpec, Pgd
from tinyrobust.errors import ModelFileError
from tinyrobust.graphs.members import Members
from tinyrobust.progress import Progress, silent
from tinyrobust.quantizers.stochastic import stochastic_layers
from tinyrobust.robustness.attack_plan import AttackPlan
from tinyrobust.robustness.bounds import inside
from tinyrobust.robustness.detection import area
from tinyrobust.robustness.distance import Bools, Floats, Ints
from tinyrobust.robustness.evasion import Evasion
from tinyrobust.robustness.information_record import InformationRecord, PlaneRow
from tinyrobust.robustness.statistics import share
from tinyrobust.robustness.targets import StochasticTarget, doubled
from tinyrobust.robustness.targets.stochastic import Passes, rewind, rows, seed_generators

ALARMS = (0.01, 0.05)  # shares of false alarms that thresholds are set for
WEIGHTS = (1.0, 10.0, 100.0)  # of the mutual information, for the attacker of the detector
_ANSWERS = 4  # to each image, where passes are found: one is as random as the draws
_LIMIT = 32  # passes
_STEPS = 20  # of PGD, where passes are found, and of the attacker of the detector
_EDGE = 1e-9  # 0.05 of 100 are five
_DIGITS = 6  # of the values that are kept


@dataclass(frozen=True)
class Inputs:
    """What is attacked, and what thresholds are set on.

    Attributes:
        name: Of the data set.
        x: Test images [n, ...] in [0, 1].
        y: Their classes [n].
        calibration: Images of another part.
    """

    name: str
    x: Floats
    y: Ints
    calibration: Floats


class Judge:
    """The ensemble as it is deployed: the class that it names, and its mutual information.

    Every call draws the same again, whatever was asked before. Attackers draw by other seeds.

    Args:
        network: Random at inference.
        members: Draws.
        seed: Of the draws.
    """

    def __init__(self, network: keras.Model, members: int, seed: int) -> None:
        graph = Members(network, members)
        self.informed = graph.final is not None
        self._seed, self._generators = seed, seed_generators(network)
        self._batch = max(1, rows(network.input_shape[1:]) // members)

        def answer(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            answers = graph(x)
            found = answers.information if self.informed else tf.zeros(tf.shape(x)[0])
            return tf.argmax(answers.together, axis=-1), found

        self._answer = any_size(answer)

    def __call__(self, x: Floats, again: int = 0) -> tuple[Ints, Floats]:
        """Classes [n] and mutual information [n] in nats a feature; zeros without binary features.

        Args:
            x: Images in [0, 1].
            again: Another number is another draw.
        """
        rewind(self._generators, self._seed + again)
        parts = [self._answer(tf.constant(part)) for part in np.array_split(x, range(self._batch, len(x), self._batch))]
        named, found = (np.concatenate([part[place].numpy() for part in parts]) for place in (0, 1))
        return named.astype(np.int64), found


def thresholds(values: npt.ArrayLike, alarms: Sequence[float] = ALARMS) -> list[float]:
    """The least values above which at most these shares of `values` [n] lie."""
    falling = -np.sort(-np.asarray(values, np.float64))
    return [float(falling[int(alarm * len(falling) + _EDGE)]) for alarm in alarms]


class Evaluation:
    """What is measured of one network; see `measure`."""

    def __init__(self, network: keras.Model, inputs: Inputs, plan: AttackPlan, members: int, progress: Progress) -> None:
        if not stochastic_layers(network):
            raise ModelFileError(
                "Expected a network with a stochastic quantizer, for an ensemble of draws and its detector. Received: none",
                hint="[[stochastic]] in a recipe makes one.",
            )
        self.network, self.inputs, self.plan, self.progress = network, inputs, plan, progress
        self.judge = Judge(network, members, plan.seed + 1)
        self.thresholds = thresholds(self.judge(inputs.calibration)[1]) if self.judge.informed else []
        self.plain = self.judge(inputs.x)
        self._targets: dict[tuple[str, int], StochasticTarget] = {}

    def target(self, on: str, passes: int) -> StochasticTarget:
        """What an attacker sees."""
        if (on, passes) not in self._targets:
            network, repair = (smoothed(self.network), UnitMargin()) if on == "repaired" else (self.network, None)
            self._targets[on, passes] = StochasticTarget(
                network, passes=passes, seed=self.plan.seed, transform=repair, mean="probabilities", at_once=True
            )
        return self._targets[on, passes]

    def examples(self, attack: AttackSpec, epsilon: float | None, passes: int) -> Floats:
        """Examples of every image; of an attack for the nearest one, however far, where epsilon is None."""
        target = self.target(attack.on, passes)
        target.forget()
        batch = max(1, rows(target.input_shape) // passes)
        with seeded(self.plan.seed, zlib.crc32(f"{attack.name}-{epsilon}-{passes}".encode())) as seed:
            # No sample leaves before the end: who an unlucky draw gets wrong is not broken.
            radius = math.inf if epsilon is None else epsilon
            built = attack.build(target, radius, seed=seed, drop=False, batch_size=batch)
            found = np.asarray(built.generate(self.inputs.x, self.inputs.y), np.float32)
        return found if epsilon is None else inside(found, self.inputs.x, epsilon, attack.norm, attack.name)

    def passes(self) -> Passes:
        """How many draws are enough, for PGD at the headline."""

        def accuracy(passes: int) -> float:
            self.progress(f"information: {passes} draws", 0, 1)
            found = self.examples(Pgd.of(steps=_STEPS), self.plan.headline_epsilon, passes)
            return float(np.mean([self.judge(found, again)[0] == self.inputs.y for again in range(_ANSWERS)]))

        return doubled(accuracy, limit=_LIMIT)

    def alarms(self, values: Floats) -> list[Bools]:
        """Whether images [n] raise an alarm, at each threshold."""
        return [np.asarray(values > threshold) for threshold in self.thresholds]

    def row(self, attack: str, epsilon: float | None, answers: tuple[Ints, Floats], **said: object) -> PlaneRow:
        """A point of the plane, of what the judge says of images."""
        named, values = answers
        wrong, alarms = np.asarray(named != self.inputs.y), self.alarms(values)
        attacked = attack != "none"
        both = np.concatenate([self.plain[1], values])
        return PlaneRow.model_validate(
            {
                "attack": attack,
                "epsilon": epsilon,
                "accuracy": share(~wrong),
                "information": float(np.mean(values)) if alarms else None,
                "values": [round(float(value), _DIGITS) for value in values] if alarms else [],
                "area": area(both, np.repeat([0, 1], len(values))) if alarms and attacked else None,
                "detected": [share(alarm) for alarm in alarms],
                "unnoticed": share(wrong & ~alarms[-1]) if alarms else None,
                "draws": 0,
                "parameters": {},
                **said,
            }
        )

    def rows(self, passes: int) -> Iterator[PlaneRow]:
        """Every attack of the protocol on the network at every radius; those that follow gradients through one draw, too."""
        headline = self.plan.headline_epsilon
        for attack in self.able:
            for epsilon in (None,) if attack.minimal else self.plan.epsilons_of(attack):
                single = attack.gradients and epsilon == headline and attack.norm == "linf" and passes > 1
                for draws in (1, passes) if single else (passes,):
                    self.progress(f"information: {attack.name} at epsilon {epsilon or 'any'}, {draws} draws", 0, 1)
                    said = {"on": attack.on, "norm": attack.norm, "draws": draws, "parameters": attack.parameters()}
                    yield self.row(attack.name, epsilon, self.judge(self.examples(attack, epsilon, draws)), **said)

    @property
    def able(self) -> list[AttackSpec]:
        """The attacks of the protocol on the network, as it is or repaired."""
        return [one for one in self.plan.protocol.attacks if one.on in ("keras", "repaired") and not one.learns]

    def evasive(self, passes: int) -> tuple[list[PlaneRow], Bools]:
        """The attacker of the detector, and whether images [n] fool the ensemble without an alarm at one weight at least."""
        epsilon, evaded = self.plan.headline_epsilon, np.zeros(len(self.inputs.y), bool)
        batch = max(1, rows(self.network.input_shape[1:]) // passes)
        attack, generators, found = Evasion(Members(self.network, passes), batch, _STEPS), seed_generators(self.network), []
        for weight in WEIGHTS:
            self.progress(f"information: evasive, weight {weight:g}", 0, 1)
            rewind(generators, self.plan.seed)
            examples = attack(self.inputs.x, self.inputs.y, epsilon, weight, self.plan.seed)
            answers = self.judge(inside(examples, self.inputs.x, epsilon, "linf", "evasive"))
            evaded |= (answers[0] != self.inputs.y) & ~self.alarms(answers[1])[-1]
            said = {"draws": passes, "weight": weight, "parameters": {"steps": _STEPS}}
            found.append(self.row("evasive", epsilon, answers, **said))
        return found, evaded


def measure(
    network: keras.Model, inputs: Inputs, plan: AttackPlan, *, members: int, progress: Progress = silent
) -> InformationRecord:
    """Attacks a network that is random at inference, through the mean of as many draws as change nothing any more.

    Passes are found first, under PGD at the headline's radius (expectation over transformation, Athalye et al. 2018, section
    4.2). Thresholds of the detector are set on images of another part, which nobody attacked.

    Args:
        network: With frozen weights.
        inputs: What is attacked.
        plan: Attacks, radii and seed.
        members: Draws of the ensemble as it is deployed.
        progress: Told what is done.

    Raises:
        ModelFileError: The network is not random at inference.
    """
    began, made = time.perf_counter(), Evaluation(network, inputs, plan, members, progress)
    enough = made.passes()
    found = list(made.rows(enough.passes))
    evasive, evaded = made.evasive(enough.passes) if made.judge.informed else ([], None)
    left = [one.name for one in plan.protocol.attacks if one not in made.able]
    notes = [f"Left out: {', '.join(left)}: they need a file, a surrogate or other data."] if left else []
    if not enough.settled:
        notes.append(f"Robust accuracy had not settled at {enough.passes} draws: more may break more.")
    if not made.judge.informed:
        notes.append("The final features have no stochastic quantizer: there is no mutual information, and no detector.")
    progress("information: measured", 1, 1)
    return InformationRecord(
        dataset=inputs.name,
        protocol=plan.protocol.name,
        seed=plan.seed,
        n=len(inputs.y),
        members=members,
        headline_epsilon=plan.headline_epsilon,
        passes=enough.passes,
        settled=enough.settled,
        passes_accuracy=enough.accuracies,
        alarms=list(ALARMS) if made.thresholds else [],
        thresholds=made.thresholds,
        calibrated_on=len(inputs.calibration),
        clean=made.row("none", None, made.plain),
        rows=found,
        evasive=evasive,
        evaded=None if evaded is None else share(evaded),
        notes=notes,
        seconds=time.perf_counter() - began,
    )
