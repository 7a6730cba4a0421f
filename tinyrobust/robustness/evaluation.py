"""The evaluation: a protocol's attacks on the targets of one model, and the record of what they found."""

import contextlib
import random
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from tinyrobust import recipe
from tinyrobust.data.arrays import scale, stratified
from tinyrobust.errors import DataError, ModelFileError, RecipeError, TinyRobustError
from tinyrobust.progress import Progress, silent
from tinyrobust.robustness import checks
from tinyrobust.robustness.outcomes import SLACK, Floats, Ints, Outcome, Subset, minimal_distance, save, survives
from tinyrobust.robustness.protocol import Attack, Protocol
from tinyrobust.robustness.record import AttackResult, CleanAccuracy, Proportion, RobustnessRecord, WorstCase
from tinyrobust.robustness.statistics import wilson
from tinyrobust.robustness.targets import Int8Target, KerasTarget, int8

Target = KerasTarget | Int8Target


def evaluate(
    *,
    keras_model: keras.Model | None,
    tflite: Path,
    dataset_name: str,
    fingerprint: str,
    x_test: npt.NDArray[np.uint8],
    y_test: Ints,
    settings: recipe.Robustness,
    protocol: Protocol,
    seed: int,
    output: Path,
    input_range: tuple[float, float] | None = None,
    progress: Progress | None = None,
) -> RobustnessRecord:
    """Attacks a model and writes `robustness.json` and `per_sample.npz`.

    Clean accuracy is measured on the whole test set; a stratified subset is attacked. A sample that is wrong without attack
    counts as not robust. In the worst case a sample counts only when no attack broke it at this epsilon or a smaller one; for
    `all` it must stand on every target. The headline is the worst case for `all` at the headline epsilon.

    Args:
        keras_model: Logits, quantized weights frozen; the white box. Without it, attacks on `keras` are left out and the
            record says so: this is how a stranger's file is attacked.
        tflite: The file that is flashed.
        dataset_name: For the record.
        fingerprint: Of the data, for the record.
        x_test: Images, uint8 [n, h, w, c].
        y_test: Classes, int64 [n].
        settings: Epsilons (input units, [0, 1]), the headline and the number of samples.
        protocol: The attacks.
        seed: Fixes the subset and every attack.
        output: Folder for the two files.
        input_range: What pixel values 0 and 255 become in the file's input units; recognised when absent.
        progress: Called as progress(label, done, total).

    Raises:
        DataError: The test set does not fit the model.
        ModelFileError: The file cannot be used, or the two models do not fit together.
        RecipeError: The protocol has no attack for the targets at hand.
        RunFolderError: The folder cannot be written.
    """
    start = time.perf_counter()
    tell = progress or silent
    flashed = int8(tflite, input_range)
    targets: dict[str, Target] = {} if keras_model is None else {"keras": KerasTarget(keras_model)}
    targets["int8"] = flashed
    _check_fit(targets, x_test, y_test)
    attacks = [attack for attack in protocol.attacks if attack.on in targets]
    if not attacks:
        raise RecipeError(
            f"Expected an attack on {' or '.join(targets)} in protocol {protocol.name!r}. "
            f"Received: attacks on {', '.join(sorted({attack.on for attack in protocol.attacks}))} only",
            hint="Without a Keras network only attacks on int8 can be run.",
        )
    clean = _clean_predictions(targets, x_test, tell)
    index = stratified(y_test, min(settings.samples, len(y_test)), seed)
    subset = Subset(index, x_test[index], y_test[index], {name: predicted[index] for name, predicted in clean.items()})
    outcomes = list(_Run(targets, subset, seed, tell).outcomes(attacks, settings.epsilons))
    minimal = {name: minimal_distance(subset, outcomes, name) for name in targets}
    minimal["all"] = np.min(list(minimal.values()), axis=0)
    record = RobustnessRecord(
        model=tflite.name,
        model_sha256=flashed.model_file.sha256,
        dataset=dataset_name,
        dataset_fingerprint=fingerprint,
        protocol=protocol.name,
        seed=seed,
        epsilons=list(settings.epsilons),
        headline_epsilon=settings.headline,
        samples=len(index),
        clean=[
            CleanAccuracy(target=name, test=_share(clean[name] == y_test), attacked=_share(subset.right(name)))
            for name in targets
        ],
        attacks=[_result(outcome) for outcome in outcomes],
        worst=[
            WorstCase(target=name, epsilon=epsilon, robust=_share(survives(distance, epsilon)))
            for name, distance in minimal.items()
            for epsilon in settings.epsilons
        ],
        headline=_share(survives(minimal["all"], settings.headline)),
        warnings=list(_warnings(targets, subset, outcomes)),
        seconds=time.perf_counter() - start,
    )
    save(output / "per_sample.npz", subset, outcomes, settings.epsilons, settings.headline)
    record.save(output / "robustness.json")
    return record


@dataclass(frozen=True)
class _Run:
    """Every attack of a protocol, at every epsilon, on one subset."""

    targets: dict[str, Target]
    subset: Subset
    seed: int
    tell: Progress

    def outcomes(self, attacks: list[Attack], epsilons: tuple[float, ...]) -> Iterator[Outcome]:
        total = len(attacks) * len(epsilons)
        for place, attack in enumerate(attacks):
            for step, epsilon in enumerate(epsilons):
                self.tell(f"attack: {attack.name} at epsilon {epsilon:.4g}", place * len(epsilons) + step, total)
                yield from self._attacked(attack, epsilon)
        self.tell("attack: done", total, total)

    def _attacked(self, attack: Attack, epsilon: float) -> Iterator[Outcome]:
        target, x = self.targets[attack.on], scale(self.subset.image)
        used = attack.fitted(target.input_shape)
        start, before = time.perf_counter(), target.queries
        # An attack draws the same numbers whatever else the protocol and the recipe list.
        with _seeded(self.seed, zlib.crc32(f"{attack.name} {epsilon!r}".encode())):
            found = used.build(target, epsilon).generate(x, np.eye(target.nb_classes, dtype=np.float32)[self.subset.label])
        adversarial = _inside(found, x, epsilon, attack.name)
        for name in (attack.on, *(other for other in attack.transfer_to if other in self.targets)):
            if name != attack.on:
                start, before = time.perf_counter(), self.targets[name].queries
            predicted = _classes(self.targets[name], adversarial)
            right, still = self.subset.right(name), predicted == self.subset.label
            yield Outcome(
                target=name,
                attack=attack.name,
                crafted_on=attack.on,
                epsilon=epsilon,
                parameters=used.parameters(),
                predicted=predicted,
                distance=_distance(adversarial, x),
                broken=right & ~still,
                robust=right & still,
                adversarial=adversarial,
                seconds=time.perf_counter() - start,
                queries=self.targets[name].queries - before,
            )


@contextlib.contextmanager
def _seeded(*seed: int) -> Iterator[None]:
    """Seeds the global generators that ART draws from, and puts them back afterwards."""
    # ART knows no other generator.
    before = np.random.get_state(), random.getstate()  # noqa: NPY002
    drawn = int(np.random.SeedSequence(seed).generate_state(1)[0])
    np.random.seed(drawn)  # noqa: NPY002
    random.seed(drawn)
    try:
        yield
    finally:
        np.random.set_state(before[0])  # noqa: NPY002
        random.setstate(before[1])


def _inside(found: Floats, x: Floats, epsilon: float, attack: str) -> Floats:
    """Adversarial examples inside of [0, 1] and the ball; an attack that left them by more than rounding is an error."""
    outside = max(float(_distance(found, x).max()) - epsilon, float(-found.min()), float(found.max()) - 1)
    if not outside <= SLACK:  # also when it is not a number
        raise TinyRobustError(
            f"Attack {attack!r} left its bounds: expected examples in [0, 1] and within {epsilon:g} of the image. "
            f"Received: {outside:g} outside."
        )
    low, high = np.maximum(x - np.float32(epsilon), 0), np.minimum(x + np.float32(epsilon), 1)
    return np.asarray(np.clip(found, low, high), dtype=np.float32)


def _distance(adversarial: Floats, x: Floats) -> Floats:
    return np.asarray(np.abs(adversarial - x).reshape(len(x), -1).max(axis=1), dtype=np.float32)


def _classes(target: Target, x: Floats) -> Ints:
    return np.asarray(np.argmax(target.predict(x), axis=1), dtype=np.int64)


def _clean_predictions(targets: dict[str, Target], x_test: npt.NDArray[np.uint8], tell: Progress) -> dict[str, Ints]:
    predictions = {}
    for done, (name, target) in enumerate(targets.items()):
        tell(f"clean accuracy: {name}", done, len(targets))
        predictions[name] = _classes(target, scale(x_test))
    return predictions


def _check_fit(targets: dict[str, Target], x_test: npt.NDArray[np.uint8], y_test: Ints) -> None:
    for name, target in targets.items():
        if x_test.dtype != np.uint8 or x_test.shape[1:] != target.input_shape:
            raise DataError(
                f"Expected uint8 images of shape {target.input_shape}: that is what {name} takes. "
                f"Received: {x_test.dtype} {x_test.shape[1:]}",
                hint="Color and size of the data must be those that the model was trained with.",
            )
        if len(y_test) != len(x_test) or not len(y_test) or y_test.min() < 0 or y_test.max() >= target.nb_classes:
            raise DataError(
                f"Expected {len(x_test)} labels (at least one) from 0 to {target.nb_classes - 1}, the classes of {name}. "
                f"Received: {len(y_test)} labels" + (f" from {y_test.min()} to {y_test.max()}" if len(y_test) else "")
            )
    if len({target.nb_classes for target in targets.values()}) > 1:
        counts = {name: target.nb_classes for name, target in targets.items()}
        raise ModelFileError(f"Expected the same classes in the network and the file. Received: {counts}")


def _warnings(targets: dict[str, Target], subset: Subset, outcomes: list[Outcome]) -> Iterator[str]:
    x = scale(subset.image)
    white = targets.get("keras")
    if isinstance(white, KerasTarget):
        yield from checks.zero_gradients(white, x, subset.label)
    else:
        yield checks.black_box_only()
    yield from checks.flat_scores(targets["int8"].predict(x), subset.label)
    yield from checks.iterative_is_weaker(outcomes)
    yield from checks.rising(outcomes)


def _result(outcome: Outcome) -> AttackResult:
    return AttackResult(
        target=outcome.target,
        attack=outcome.attack,
        crafted_on=outcome.crafted_on,
        norm="linf",
        epsilon=outcome.epsilon,
        parameters=outcome.parameters,
        robust=_share(outcome.robust),
        largest_distance=float(outcome.distance.max()),
        seconds=outcome.seconds,
        queries=outcome.queries,
    )


def _share(samples: npt.NDArray[Any]) -> Proportion:
    return wilson(int(np.count_nonzero(samples)), len(samples))
