"""The line-up of one evaluation: what is judged, and the views that attackers use of it.

A *target* is judged: the network (`keras`; `stochastic` or `ensemble` in its place) and the flashed file (`int8`). A *view*
is an estimator on which examples are made; it belongs to a target, its home, unless it is a surrogate.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tinyrobust.attacks.repair import Temperature, UnitMargin, smoothed
from tinyrobust.attacks.specs import AttackSpec
from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.deploy.rebuild import rebuild
from tinyrobust.errors import ModelFileError
from tinyrobust.robustness.expectation import is_random, passes_needed
from tinyrobust.robustness.outcomes import Floats, Ints
from tinyrobust.robustness.targets import (
    BpdaTarget,
    EnsembleTarget,
    Hearing,
    InputRange,
    Int8Target,
    KerasTarget,
    StochasticTarget,
    White,
)
from tinyrobust.robustness.targets.ranges import UNIT

# Between the two highest logits: the cross-entropy of a float32 network saturates not far above.
_MARGIN = 5.0


@dataclass(frozen=True)
class View:
    """An estimator that examples are made on.

    Attributes:
        name: As protocols call it; for "keras" the name of the network among the targets, or "twin".
        estimator: What it is.
        home: The target it belongs to ("surrogate": none).
        exact: Whether an example that fools it fools its home: not so for a twin, which only resembles its file, and not so
            where answers are random.
    """

    name: str
    estimator: Any
    home: str
    exact: bool


class Lineup:
    """Targets and views of one model.

    Args:
        tflite: The file that is flashed.
        networks: The Keras network that it was made from, quantized weights frozen; several: the members of an ensemble, whose
            probabilities are averaged; none: a twin is rebuilt from the file where its operators allow it.
        surrogate: A network trained apart, for transfer; it takes images in [0, 1].
        input_range: What 0 and 1 become in the file's input units; recognised when absent.
        temperature: Of a distilled network: its logits are divided by it in the view "keras/T". Estimated when absent.
        seed: Of the passes of a network that is random at inference.
        hearing: The front end, where sound is attacked: it stands before the file and, differentiable, before every network.

    Attributes:
        victims: What is judged, by name.
        flashed: The file.
        given: The networks as they were given, without a front end.
        classes: How many.
        white: Name of the network among the targets, or of the rebuilt twin; None without either.
        passes: How many passes of a network that is random at inference make an answer; 1: as it is deployed.
        notes: What a reader of the figures must know.

    Raises:
        ModelFileError: The file cannot be used, or the network and the file do not fit together.
    """

    def __init__(
        self,
        tflite: Path,
        networks: Sequence[keras.Model],
        *,
        surrogate: keras.Model | None = None,
        input_range: InputRange | None = None,
        temperature: float | None = None,
        seed: int = 0,
        hearing: Hearing | None = None,
    ) -> None:
        self.flashed = Int8Target(Int8Model(tflite), input_range, hearing)
        self._hearing = hearing
        self.notes: list[str] = []
        deaf = hearing is not None and not hearing.differentiable
        if deaf:
            networks, surrogate = (), None
            self.notes.append("The front end is C code without gradients: no network was attacked, the file as a black box.")
        self.given = self._models = tuple(networks)
        self.networks = tuple(self._heard(network, UNIT) for network in networks)
        self.temperature, self.passes = temperature, 1
        self.white: str | None = "ensemble" if len(networks) > 1 else "keras"
        self.classes = int(self.flashed.nb_classes)
        self._tflite, self._seed = tflite, seed
        self._views: dict[str, View] = {"int8": View("int8", self.flashed, "int8", exact=True)}
        self.victims: dict[str, White | Int8Target] = {"int8": self.flashed}
        if len(networks) > 1:
            self.notes.append(
                f"The ensemble answers by the mean of the probabilities of {len(networks)} networks. "
                "int8 is the file of the first alone."
            )
        if deaf:
            self.white = None
        elif not networks:
            self._rebuild()
        self._add_network()
        if surrogate is not None:
            self._views["surrogate"] = View("surrogate", KerasTarget(self._heard(surrogate, UNIT)), "surrogate", exact=False)
        self._check_fit()

    def fit_to(self, x: Floats, y: Ints, epsilon: float, *, expectation: bool) -> None:
        """Finds what depends on data: how many passes a random network needs, and the temperature where none was given.

        Args:
            x: Some clean images [n, ...] in [0, 1].
            y: Their classes [n].
            epsilon: L-inf radius of the attack that finds the passes.
            expectation: Whether random networks answer by the mean of several passes.
        """
        if expectation and len(self.networks) == 1 and is_random(self.networks[0], x):
            self.passes, told = passes_needed(self.networks[0], x, y, epsilon, self._seed)
            self.notes.append(told)
            self.white = "stochastic"
            self._add_network()
        if self.temperature is None and self.white:
            top = np.sort(self._views["keras"].estimator.predict(x), axis=1)
            estimate = max(1.0, np.median(top[:, -1] - top[:, -2]) / _MARGIN)
            self.temperature = float(f"{estimate:.2g}")  # rounding in the last digits must not make it another evaluation

    def view(self, name: str) -> View:
        """The view of that name, as protocols call it; made on first use.

        Raises:
            KeyError: There is no such view of this model.
        """
        if name not in self._views:
            home, exact = ("int8", True) if name == "bpda" else (self._views["keras"].home, self._exact)
            self._views[name] = View(name, self._made(name), home, exact)
        return self._views[name]

    def judged(self, attack: AttackSpec) -> tuple[str, ...]:
        """Targets that an attack's examples are judged on, its home first; empty where it cannot be run."""
        made = attack.on in self._views
        if not made and (attack.on == "surrogate" or "keras" not in self._views):
            return ()
        home = "int8" if attack.on == "bpda" else self._views[attack.on if made else "keras"].home
        others = [self.white if name == "keras" else name for name in attack.transfer_to]
        return tuple(dict.fromkeys(name for name in (home, *others) if name in self.victims))

    def verdicts(self, name: str, x: Floats) -> tuple[Ints, int, int]:
        """What a target names: classes [n]; how many were checked on TensorFlow Lite Micro, and how many of those differ.

        Where they differ, TensorFlow Lite Micro decides: it is what runs on the device.
        """
        predicted = np.asarray(np.argmax(self.victims[name].predict(x), axis=1), dtype=np.int64)
        if name != "int8":
            return predicted, 0, 0
        again = self.flashed.recheck(x, predicted)
        return np.asarray(again.predicted, dtype=np.int64), again.checked, again.differing

    def forget(self) -> None:
        """Makes what follows independent of what was asked before."""
        for view in self._views.values():
            view.estimator.forget()

    def _add_network(self) -> None:
        if self.white is None:
            return
        self._views["keras"] = View(self.white, self._network(), self.white if self.networks else "int8", exact=self._exact)
        if self.networks:
            self.victims = {self.white: self._views["keras"].estimator, "int8": self.flashed}

    @property
    def _exact(self) -> bool:
        return bool(self.networks) and self.passes == 1

    def _check_fit(self) -> None:
        fits = {view.name: (view.estimator.input_shape, view.estimator.nb_classes) for view in self._views.values()}
        if len(set(fits.values())) > 1:
            listing = ", ".join(f"{name} {shape} and {classes}" for name, (shape, classes) in fits.items())
            raise ModelFileError(f"Expected networks of the same input shape and number of classes. Received: {listing}")

    def _made(self, name: str) -> White:
        if name == "keras/T":
            return self._network(Temperature(self.temperature or 1.0))
        if name == "repaired":
            return self._network(UnitMargin(), smoothed, repaired=True)
        if name == "bpda":
            model = self._heard(smoothed(self._models[0]), self._inputs, repaired=True)
            return BpdaTarget(self.flashed, model, model_range=self._range, transform=UnitMargin())
        raise KeyError(name)

    @property
    def _inputs(self) -> InputRange:
        """What 0 and 1 become in the network's own units."""
        return UNIT if self.networks else self.flashed.input_range

    @property
    def _range(self) -> InputRange:
        """The same for what targets are given: a network behind a front end takes [0, 1], whatever its own units."""
        return UNIT if self._hearing else self._inputs

    def _heard(self, model: keras.Model, model_range: InputRange, *, repaired: bool = False) -> keras.Model:
        return self._hearing.before(model, model_range, open_floor=repaired) if self._hearing else model

    def _network(
        self, transform: Any = None, changed: Callable[[keras.Model], keras.Model] = lambda model: model, repaired: bool = False
    ) -> White:
        models = [self._heard(changed(model), self._inputs, repaired=repaired) for model in self._models]
        if len(models) > 1:
            return EnsembleTarget(models, mean="probabilities", transform=transform)
        if self.passes > 1:
            return StochasticTarget(models[0], passes=self.passes, seed=self._seed, transform=transform)
        return KerasTarget(models[0], input_range=self._range, transform=transform)

    def _rebuild(self) -> None:
        try:
            self._models = (rebuild(self._tflite),)
            self.white = "twin"
            self.notes.append("No network was given: gradients are those of a twin rebuilt from the file itself.")
        except ModelFileError as error:
            self.white = None
            self.notes.append(f"No network was given, and no twin could be rebuilt from the file: {error.message}")
