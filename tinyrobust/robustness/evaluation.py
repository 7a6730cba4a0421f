"""The evaluation: a protocol's attacks on the targets of one model, and the record of what they found."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tinyrobust import recipe
from tinyrobust._version import __version__
from tinyrobust.attacks.pgd import ProjectedGradient
from tinyrobust.data.arrays import scale, stratified
from tinyrobust.errors import DataError, RecipeError
from tinyrobust.progress import Progress, silent
from tinyrobust.robustness import checks, probes
from tinyrobust.robustness.kinds import AttackKind
from tinyrobust.robustness.lineup import Lineup
from tinyrobust.robustness.outcomes import Array, Floats, Ints, Outcome, Subset, save, strongest
from tinyrobust.robustness.pieces import Identity, Pieces, digest, network_digest
from tinyrobust.robustness.protocol import Protocol
from tinyrobust.robustness.record import Check, CleanAccuracy, Golden, Norm, RobustnessRecord
from tinyrobust.robustness.runner import Runner
from tinyrobust.robustness.statistics import share
from tinyrobust.robustness.summary import minimal_distances, result, worst_cases
from tinyrobust.robustness.targets import InputRange, StochasticTarget, doubled

_EXAMPLES = 8
_FEW = 64


def evaluate(
    *,
    keras_model: keras.Model | Sequence[keras.Model] | None,
    tflite: Path,
    dataset_name: str,
    fingerprint: str,
    x_test: npt.NDArray[np.uint8],
    y_test: Ints,
    settings: recipe.Robustness,
    protocol: Protocol,
    seed: int,
    output: Path,
    surrogate: keras.Model | None = None,
    temperature: float | None = None,
    input_range: InputRange | None = None,
    fresh: bool = False,
    progress: Progress | None = None,
) -> RobustnessRecord:
    """Attacks a model and writes `robustness.json` and `per_sample.npz`.

    Clean accuracy is measured on the whole test set; a stratified subset is attacked. A sample that is wrong without attack
    counts as not robust. In the worst case a sample counts only when no attack broke it within the radius; for `all` it must
    stand on every target. The headline is the worst case for `all` at the headline epsilon, L-inf.

    It can be killed at any time: what was done is kept in `<output>/attacks/`, batch by batch, and the same call goes on from
    there to the same figures.

    Args:
        keras_model: Logits, quantized weights frozen; the white box. Several: the members of an ensemble. None: a twin is
            rebuilt from the file where its operators allow it; else attacks that need gradients are left out, and the record
            says so. One that is random at inference is attacked through the mean of several passes where the protocol wants it.
        tflite: The file that is flashed.
        dataset_name: For the record.
        fingerprint: Of the data, for the record.
        x_test: Images, uint8 [n, h, w, c].
        y_test: Classes, int64 [n].
        settings: Epsilons (input units, [0, 1]), the headline and the number of samples.
        protocol: The attacks.
        seed: Fixes the subset and every attack.
        output: Folder for the two files and the pieces.
        surrogate: A network trained apart, for attacks on "surrogate".
        temperature: That the network was distilled at; estimated from its logits when absent.
        input_range: What pixel values 0 and 255 become in the file's input units; recognised when absent.
        fresh: Throw away what another evaluation left in `output`, instead of refusing it.
        progress: Called as progress(label, done, total).

    Raises:
        DataError: The test set does not fit the model.
        ModelFileError: The file cannot be used, or the two models do not fit together.
        RecipeError: The protocol has no attack for the targets at hand.
        RunFolderError: The folder holds pieces of another evaluation, or cannot be written.
    """
    tell = progress or silent
    networks = [] if keras_model is None else [keras_model] if isinstance(keras_model, keras.Model) else list(keras_model)
    index = stratified(y_test, min(settings.samples, len(y_test)), seed) if len(y_test) else np.zeros(0, np.int64)
    some = (
        scale(x_test[index[:_FEW]]) if x_test.dtype == np.uint8 and len(x_test) == len(y_test) else np.zeros((0, 1), np.float32)
    )
    passes, found = _passes(networks, some, y_test[index[:_FEW]], settings.headline, seed) if protocol.expectation else (1, [])
    lineup = Lineup(
        tflite,
        networks,
        surrogate=surrogate,
        input_range=input_range,
        temperature=temperature,
        passes=passes,
        seed=seed,
    )
    _check_fit(lineup, x_test, y_test)
    lineup.scaled(some)
    attacks = _runnable(protocol, lineup)
    radii: dict[Norm, tuple[float, ...]] = {
        "linf": settings.epsilons,
        "l2": settings.l2,
        "l1": settings.l1,
        "l0": settings.l0,
    }
    subset, clean, golden = _clean(lineup, x_test, y_test, index, tell)
    identity = Identity(
        version=__version__,
        model=lineup.flashed.model_file.sha256,
        networks={str(place): network_digest(model) for place, model in enumerate([*networks, *filter(None, [surrogate])])},
        data=fingerprint,
        samples=digest(subset.image, subset.label),
        settings=settings.model_dump(mode="json", exclude={"protocol"}),
        protocol=protocol.model_dump(mode="json"),
        targets={"temperature": lineup.temperature, "input_range": lineup.flashed.input_range, "passes": passes},
        seed=seed,
    )
    runner = Runner(
        lineup,
        subset,
        radii,
        seed,
        Pieces(output / "attacks", identity, fresh=fresh),
        cascade=protocol.cascade,
        grid=settings.grid,
        tell=tell,
    )
    outcomes = list(runner.outcomes(attacks))
    figures = list(_checks(runner, attacks, outcomes, protocol, settings.headline))
    norms: list[Norm] = [norm for norm in radii if any(attack.norm == norm for attack in attacks)]
    measured = {norm: sorted({e for a in attacks if a.norm == norm for e in runner.epsilons(a)}) for norm in norms}
    measured = {"linf": list(settings.epsilons), **measured}
    record = RobustnessRecord(
        model=tflite.name,
        model_sha256=lineup.flashed.model_file.sha256,
        dataset=dataset_name,
        dataset_fingerprint=fingerprint,
        protocol=protocol.name,
        seed=seed,
        epsilons=measured,
        headline_epsilon=settings.headline,
        samples=len(index),
        clean=[
            CleanAccuracy(target=name, test=share(clean[name] == y_test), attacked=share(subset.right(name)))
            for name in lineup.victims
        ],
        attacks=[result(outcome) for outcome in outcomes],
        worst=worst_cases(runner.minimal, measured),
        minimal=minimal_distances(runner.minimal, measured),
        headline=share(runner.minimal.survives("all", "linf", settings.headline)),
        golden=Golden(checked=golden[0] + runner.golden.checked, differing=golden[1] + runner.golden.differing),
        checks=figures,
        reliable=not any(check.raised for check in figures),
        notes=[*lineup.notes, *found, *_left_out(protocol, attacks)],
        seconds=runner.seconds,
    )
    save(output / "per_sample.npz", subset, outcomes, runner.minimal, _examples(runner, outcomes, settings.headline))
    record.save(output / "robustness.json")
    return record


def _passes(networks: Sequence[keras.Model], x: Floats, y: Ints, epsilon: float, seed: int) -> tuple[int, list[str]]:
    """How many passes make an answer of a network that is random at inference, and what to say about it.

    The number doubles until robust accuracy under a short PGD moves by less than a point.
    """
    if len(networks) != 1 or not len(x):
        return 1, []
    images = tf.constant(x)
    if np.array_equal(networks[0](images, training=False), networks[0](images, training=False)):
        return 1, []

    def accuracy(passes: int) -> float:
        target = StochasticTarget(networks[0], passes=passes, seed=seed)
        attack = ProjectedGradient(target, norm="linf", epsilon=epsilon, steps=10, seed=seed)
        return float(np.mean(np.argmax(target.predict(attack.generate(x, y)), axis=1) == y))

    found = doubled(accuracy)
    curve = ", ".join(f"{value:.1%} with {passes}" for passes, value in found.accuracies.items())
    settled = "" if found.settled else " It had not settled: more passes may break more."
    return max(2, found.passes), [f"Random at inference: answers are the mean of passes; PGD-10 leaves {curve}.{settled}"]


def _clean(
    lineup: Lineup, x_test: npt.NDArray[np.uint8], y_test: Ints, index: Ints, tell: Progress
) -> tuple[Subset, dict[str, Ints], tuple[int, int]]:
    """The attacked samples, what every target names on the whole test set, and how often the interpreters differed.

    On the attacked samples the file's verdicts are those of TensorFlow Lite Micro, as they are under attack.
    """
    clean, attacked, golden = {}, {}, (0, 0)
    x = scale(x_test)
    for done, (name, target) in enumerate(lineup.victims.items()):
        tell(f"clean accuracy: {name}", done, len(lineup.victims))
        clean[name] = np.asarray(np.argmax(target.predict(x), axis=1), dtype=np.int64)
        attacked[name], checked, differing = lineup.verdicts(name, x[index])
        golden = (golden[0] + checked, golden[1] + differing)
    return Subset(index, x_test[index], y_test[index], attacked), clean, golden


def _runnable(protocol: Protocol, lineup: Lineup) -> list[AttackKind]:
    attacks = [cast(AttackKind, attack) for attack in protocol.attacks if lineup.judged(attack)]
    if not attacks:
        raise RecipeError(
            f"Expected an attack on {' or '.join(lineup.victims)} in protocol {protocol.name!r}. "
            f"Received: attacks on {', '.join(sorted({attack.on for attack in protocol.attacks}))} only",
            hint="Without a Keras network, and for a file that no twin can be rebuilt from, only attacks on int8 can be run.",
        )
    return attacks


def _left_out(protocol: Protocol, attacks: Sequence[AttackKind]) -> list[str]:
    run = {attack.name for attack in attacks}
    return [
        f"Left out: {attack.name}, because there is no {'network' if attack.on == 'keras' else attack.on} to make examples on."
        for attack in protocol.attacks
        if attack.name not in run
    ]


def _checks(
    runner: Runner, attacks: Sequence[AttackKind], outcomes: list[Outcome], protocol: Protocol, headline: float
) -> list[Check]:
    x, lineup = scale(runner.subset.image), runner.lineup
    scores = {name: target.predict(x) for name, target in lineup.victims.items()}
    white = {outcome.target for outcome in outcomes if outcome.gradients}
    return [
        checks.black_box_only(outcomes, list(lineup.victims)),
        probes.gradients(runner, attacks),
        checks.softmax(scores, white - {"keras", "stochastic", "ensemble"}),
        checks.saturated_scores(scores["int8"], runner.subset.label, "int8" in white),
        probes.random_answers(runner),
        *probes.probes(runner, attacks, outcomes, headline),
        checks.black_box_wins(outcomes),
        checks.square_is_blind(outcomes, {name: runner.subset.right(name) for name in lineup.victims}),
        *([] if protocol.cascade else [checks.rising(outcomes)]),
        probes.second_look(runner, outcomes),
    ]


def _examples(runner: Runner, outcomes: Sequence[Outcome], headline: float) -> dict[str, Array]:
    """Pictures: samples that the strongest attack broke on the file at the headline epsilon; none where there are none."""
    best = strongest(outcomes, headline)
    subset = runner.subset
    rows, adversarial = runner.examples(best) if best else (np.zeros(0, np.int64), np.zeros((0, *subset.image.shape[1:])))
    rows, adversarial = rows[:_EXAMPLES], adversarial[:_EXAMPLES].astype(np.float32)
    return {
        "example/index": subset.index[rows],
        "example/label": subset.label[rows],
        "example/image": subset.image[rows],
        "example/adversarial": adversarial,
        "example/predicted": best.predicted[rows] if best else rows,
        "example/attack": np.asarray(best.attack if best else ""),
        "example/target": np.asarray("int8"),
        "example/epsilon": np.asarray(headline),
    }


def _check_fit(lineup: Lineup, x_test: npt.NDArray[Any], y_test: Ints) -> None:
    for name, target in lineup.victims.items():
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
