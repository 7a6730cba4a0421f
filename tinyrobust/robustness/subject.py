"""The evaluation targets of one subject: what is judged, and the views that attackers use of it.

A *target* is judged: the network (`keras`; `stochastic` or `ensemble` in its place) and the flashed file (`int8`). A *view*
is a target on which examples are made; it belongs to a judged one, its home, unless it is a surrogate.
"""

from dataclasses import dataclass, replace

import keras
import numpy as np

from tinyrobust.attacks.estimator import GraphClassifier, Transform
from tinyrobust.attacks.repair import Slopes, Temperature, UnitMargin, smoothed
from tinyrobust.attacks.specs import AttackSpec
from tinyrobust.attacks.target import InputRange, Target
from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.deploy.rebuild import rebuild
from tinyrobust.errors import ModelFileError
from tinyrobust.robustness.attack_plan import AttackPlan
from tinyrobust.robustness.distance import Floats, Ints
from tinyrobust.robustness.expectation import is_random, passes_needed
from tinyrobust.robustness.job import Subject
from tinyrobust.robustness.ranges import UNIT
from tinyrobust.robustness.subset import Stored, inputs
from tinyrobust.robustness.targets import (
    BpdaTarget,
    EnsembleTarget,
    Int8Target,
    KerasTarget,
    SoundFrontEnd,
    StochasticTarget,
)
from tinyrobust.robustness.targets.flashed import attack_shape

# Between the two highest logits: the cross-entropy of a float32 network saturates not far above.
_MARGIN = 5.0
_FEW = 64  # samples that show whether answers are random, and how large logits are
UNRELATED = ("surrogate", "learned")
"""Views whose gradients are not the subject's own: they were learned apart from it, or from its answers alone."""


@dataclass(frozen=True)
class View:
    """A target that examples are made on.

    Attributes:
        name: As protocols call it; for "keras" the name of the network among the judged targets, or "twin".
        target: What it is.
        home: The judged target that it belongs to ("surrogate": none).
        exact: Whether an example that fools it fools its home: not so for a twin, which only resembles its file, and not so
            where answers are random.
    """

    name: str
    target: Target
    home: str
    exact: bool


class EvaluationTargets:
    """Targets and views of one subject.

    Without a network a twin is rebuilt from the file where its operators allow it. Several networks are an ensemble, whose
    probabilities are averaged. With a front end, that stands before the file and, differentiable, before every network.

    Args:
        subject: What is attacked.
        seed: Of the passes of a network that is random at inference.
        model: The file of the first member, where it is open already.
        twin: Whether a twin is rebuilt where no network is given; who only asks for verdicts needs none.

    Attributes:
        subject: The same, without networks where the front end has no gradients.
        judged: What is judged, by name.
        artefacts: The file of each member of the subject, in order; None where it has none. "int8" is that of the first.
        flashed: The file of the first member.
        classes: How many.
        white: Name of the network among the targets, or of the rebuilt twin; None without either.
        temperature: Of a distilled network: its logits are divided by it in the view "keras/T".
        passes: How many passes of a network that is random at inference make an answer; 1: as it is deployed.
        notes: What a reader of the figures must know.

    Raises:
        ModelFileError: The file cannot be used, or the network and the file do not fit together.
    """

    def __init__(self, subject: Subject, seed: int, model: Int8Model | None = None, *, twin: bool = True) -> None:
        self._front_end = None if subject.front_end is None else SoundFrontEnd(subject.front_end)
        file = model or Int8Model(subject.tflite, read_as=subject.reading)
        self.flashed = Int8Target(file, subject.input_range, self._front_end)
        self.notes: list[str] = []
        black_box = self._front_end is not None and not self._front_end.differentiable
        if black_box:
            subject = subject.without_networks()
            self.notes.append("The front end is C code without gradients: no network was attacked, the file as a black box.")
        self.subject, self._seed = subject, seed
        self.artefacts = (self.flashed, *(None for _ in subject.members[1:]))
        self._models = subject.networks
        self._networks = tuple(self._behind_front_end(network, UNIT) for network in subject.networks)
        self.temperature, self.passes = subject.temperature, 1
        self.white: str | None = "ensemble" if len(subject.members) > 1 else "keras"
        self.classes = int(self.flashed.nb_classes)
        self._views: dict[str, View] = {"int8": View("int8", self.flashed, "int8", exact=True)}
        self.judged: dict[str, Target] = {"int8": self.flashed}
        if len(subject.members) > 1:
            self.notes.append(
                f"The ensemble answers by the mean of the probabilities of {len(subject.members)} networks. "
                "int8 is the file of the first alone."
            )
        if black_box or not (subject.networks or twin):
            self.white = None
        elif not subject.networks:
            self._rebuild()
        self._add_network()
        if subject.surrogate is not None:
            surrogate = KerasTarget(self._behind_front_end(subject.surrogate, UNIT))
            self._views["surrogate"] = View("surrogate", surrogate, "surrogate", exact=False)
        self._check_fit()

    def fit(self, plan: AttackPlan, stored: Stored, labels: Ints) -> None:
        """Finds what depends on data: how many passes a random network needs, and the temperature where none was given.

        Args:
            plan: Where random networks are to answer by the mean of several passes, the number of these is found at the
                headline's epsilon, or at the largest one in L-inf.
            stored: The attacked samples, of which the first few are looked at.
            labels: Their classes [n].
        """
        x, y = inputs(stored[:_FEW]), labels[:_FEW]
        if plan.protocol.expectation and len(self._networks) == 1 and is_random(self._networks[0], x):
            epsilon = plan.headline_epsilon if plan.headline_norm == "linf" else plan.epsilons["linf"][-1]
            self.passes, note = passes_needed(self._networks[0], x, y, epsilon, self._seed)
            self.notes.append(note)
            self.white = "stochastic"
            self._add_network()
        if self.temperature is None and self.white:
            top = np.sort(self._views["keras"].target.predict(x), axis=1)
            estimate = max(1.0, np.median(top[:, -1] - top[:, -2]) / _MARGIN)
            self.temperature = float(f"{estimate:.2g}")  # rounding in the last digits must not make it another evaluation

    def fitted_subject(self) -> Subject:
        """The subject with everything that was found out about it: whoever makes targets of it makes the same ones."""
        return replace(self.subject, temperature=self.temperature, input_range=self.flashed.input_range)

    def view(self, name: str) -> View:
        """The view of that name, as protocols call it; made on first use.

        Raises:
            KeyError: There is no such view of this model.
        """
        if name not in self._views:
            home, exact = ("int8", True) if name == "bpda" else (self._views["keras"].home, self._exact)
            self._views[name] = View(name, self._other_view(name), home, exact)
        return self._views[name]

    @property
    def learns(self) -> bool:
        """Whether there can be a view "learned": not of sound, which a small network does not learn from so few answers."""
        return self._front_end is None

    def learn(self, model: keras.Model) -> None:
        """Adds the view "learned": forward through the file, backward through a network that learned what the file answers."""
        self._views["learned"] = View("learned", BpdaTarget(self.flashed, model, transform=UnitMargin()), "int8", exact=True)

    def judged_by(self, attack: AttackSpec) -> tuple[str, ...]:
        """Targets that an attack's examples are judged on, its home first; empty where it cannot be run."""
        known = attack.on in self._views or (attack.on == "learned" and self.learns)
        if not known and (attack.on in UNRELATED or "keras" not in self._views):
            return ()
        of_file = attack.on in ("bpda", "learned")
        home = "int8" if of_file else self._views[attack.on if known else "keras"].home
        others = [self.white if name == "keras" else name for name in attack.transfer_to]
        return tuple(dict.fromkeys(name for name in (home, *others) if name in self.judged))

    def verdicts(self, name: str, x: Floats) -> tuple[Ints, int, int]:
        """What a target names: classes [n]; how many were checked on TensorFlow Lite Micro, and how many of those differ.

        Where they differ, TensorFlow Lite Micro decides: it is what runs on the device.
        """
        predicted = np.asarray(np.argmax(self.judged[name].predict(x), axis=1), dtype=np.int64)
        if name != "int8":
            return predicted, 0, 0
        again = self.flashed.recheck(x, predicted)
        return np.asarray(again.predicted, dtype=np.int64), again.checked, again.differing

    def forget(self) -> None:
        """Makes what follows independent of what was asked before."""
        for view in self._views.values():
            view.target.forget()

    def _add_network(self) -> None:
        if self.white is None:
            return
        network = self._network()
        self._views["keras"] = View(self.white, network, self.white if self._networks else "int8", exact=self._exact)
        if self._networks:
            self.judged = {self.white: network, "int8": self.flashed}

    @property
    def _exact(self) -> bool:
        return bool(self._networks) and self.passes == 1

    def _check_fit(self) -> None:
        fits = {view.name: (view.target.input_shape, view.target.nb_classes) for view in self._views.values()}
        if len(set(fits.values())) > 1:
            listing = ", ".join(f"{name} {shape} and {classes}" for name, (shape, classes) in fits.items())
            raise ModelFileError(f"Expected networks of the same input shape and number of classes. Received: {listing}")

    def _other_view(self, name: str) -> GraphClassifier:
        if name == "keras/T":
            return self._network(Temperature(self.temperature or 1.0))
        if name == "repaired":
            return self._network(UnitMargin(), Slopes())
        if name == "bpda":
            slopes = Slopes()
            model = self._behind_front_end(smoothed(self._models[0], slopes), self._inputs, open_floor=True)
            return BpdaTarget(self.flashed, model, model_range=self._range, transform=UnitMargin(), slopes=slopes)
        raise KeyError(name)

    @property
    def _inputs(self) -> InputRange:
        """What 0 and 1 become in the network's own units."""
        return UNIT if self._networks else self.flashed.input_range

    @property
    def _range(self) -> InputRange:
        """The same for what targets are given: a network behind a front end takes [0, 1], whatever its own units."""
        return UNIT if self._front_end else self._inputs

    def _behind_front_end(self, model: keras.Model, model_range: InputRange, *, open_floor: bool = False) -> keras.Model:
        return self._front_end.before(model, model_range, open_floor=open_floor) if self._front_end else model

    def _network(self, transform: Transform | None = None, slopes: Slopes | None = None) -> GraphClassifier:
        """The network, with another transform of its logits or with repaired slopes, which a front end has too."""
        models = [
            self._behind_front_end(smoothed(model, slopes) if slopes else model, self._inputs, open_floor=slopes is not None)
            for model in self._models
        ]
        if len(models) > 1:
            return EnsembleTarget(models, mean="probabilities", transform=transform, slopes=slopes)
        if self.passes > 1:
            return StochasticTarget(models[0], passes=self.passes, seed=self._seed, transform=transform, slopes=slopes)
        return KerasTarget(models[0], input_range=self._range, transform=transform, slopes=slopes)

    def _rebuild(self) -> None:
        try:
            file = self.flashed.model_file
            self._models = (rebuild(file.path, file.reading, attack_shape(file.input_shape)),)
            self.white = "twin"
            self.notes.append("No network was given: gradients are those of a twin rebuilt from the file itself.")
        except ModelFileError as error:
            self.white = None
            self.notes.append(f"No network was given, and no twin could be rebuilt from the file: {error.message}")
