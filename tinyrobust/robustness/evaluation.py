"""The evaluation: a protocol's attacks on the targets of one model, and the record of what they found."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import keras
import numpy as np
import numpy.typing as npt

from tinyrobust import recipe
from tinyrobust.data.arrays import scale, stratified
from tinyrobust.errors import DataError, RecipeError
from tinyrobust.progress import Progress, silent
from tinyrobust.robustness import probes, shard_worker
from tinyrobust.robustness.kinds import AttackKind
from tinyrobust.robustness.lineup import Lineup
from tinyrobust.robustness.outcomes import Ints, Subset, save
from tinyrobust.robustness.prepare import FEW, prepared
from tinyrobust.robustness.protocol import Protocol
from tinyrobust.robustness.record import RobustnessRecord
from tinyrobust.robustness.runner import Tally
from tinyrobust.robustness.shards import Shards
from tinyrobust.robustness.summary import Clean, pictures, record
from tinyrobust.robustness.targets import InputRange


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
    remarks: Sequence[str] = (),
    fresh: bool = False,
    jobs: int = 1,
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
        surrogate: A network trained apart, for attacks on "surrogate"; it takes images in [0, 1].
        temperature: That the network was distilled at; estimated from its logits when absent.
        input_range: What pixel values 0 and 255 become in the file's input units; recognised when absent.
        remarks: What a reader of the figures must know besides, for the record's notes.
        fresh: Throw away what another evaluation left in `output`, instead of refusing it.
        jobs: Processes that attack at the same time, each with its share of the cores and a TensorFlow of its own (about 1 GB);
            the figures do not depend on it.
        progress: Called as progress(label, done, total).

    Raises:
        DataError: The test set does not fit the model.
        ModelFileError: The file cannot be used, or the two models do not fit together.
        RecipeError: The protocol has no attack for the targets at hand.
        RunFolderError: The folder holds pieces of another evaluation, or cannot be written.
    """
    networks = [] if keras_model is None else [keras_model] if isinstance(keras_model, keras.Model) else list(keras_model)
    lineup = Lineup(tflite, networks, surrogate=surrogate, input_range=input_range, temperature=temperature, seed=seed)
    _check_data(lineup, x_test, y_test)
    index = stratified(y_test, min(settings.samples, len(y_test)), seed)
    few = index[:FEW]
    lineup.fit_to(scale(x_test[few]), y_test[few], settings.headline, expectation=protocol.expectation)
    attacks = _runnable(protocol, lineup)
    lineup.notes += [*remarks, *_left_out(protocol, attacks)]
    subset, clean = _clean(lineup, x_test, y_test, index, progress or silent)
    tell = progress or silent
    runner = prepared(lineup, subset, settings, protocol, seed, fingerprint, surrogate, output, fresh=fresh, tell=tell)

    def tasks(folder: Path) -> None:
        shard_worker.write(folder, runner, settings, protocol, fingerprint, surrogate, output)

    with Shards(jobs, tasks, tell) if jobs > 1 else contextlib.nullcontext() as runner.shards:
        outcomes = list(runner.outcomes(attacks))
        figures = probes.all_checks(runner, attacks, outcomes, protocol, settings.headline)
    about: dict[str, str] = {"model": tflite.name, "dataset": dataset_name, "dataset_fingerprint": fingerprint}
    about["protocol"] = protocol.name
    found_out = record(runner, attacks, outcomes, clean, figures, settings.headline, about)
    save(output / "per_sample.npz", subset, outcomes, runner.minimal, pictures(runner, outcomes, settings.headline))
    found_out.save(output / "robustness.json")
    return found_out


def _clean(lineup: Lineup, x_test: npt.NDArray[np.uint8], y_test: Ints, index: Ints, tell: Progress) -> tuple[Subset, Clean]:
    """The attacked samples, and what the targets say without attack.

    On the attacked samples the file's verdicts are those of TensorFlow Lite Micro, as they are under attack.
    """
    right, attacked, golden = {}, {}, Tally()
    x = scale(x_test)
    for done, (name, target) in enumerate(lineup.victims.items()):
        tell(f"clean accuracy: {name}", done, len(lineup.victims))
        right[name] = np.asarray(np.argmax(target.predict(x), axis=1) == y_test)
        attacked[name], checked, differing = lineup.verdicts(name, x[index])
        golden.add(checked, differing)
    return Subset(index, x_test[index], y_test[index], attacked), Clean(right, golden)


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


def _check_data(lineup: Lineup, x_test: npt.NDArray[Any], y_test: Ints) -> None:
    shape = tuple(lineup.flashed.input_shape)
    if x_test.dtype != np.uint8 or x_test.shape[1:] != shape:
        raise DataError(
            f"Expected uint8 images of shape {shape}: that is what the file takes. Received: {x_test.dtype} {x_test.shape[1:]}",
            hint="Color and size of the data must be those that the model was trained with.",
        )
    if y_test.dtype.kind not in "iu" or y_test.ndim != 1:
        raise DataError(f"Expected labels as integers [n]. Received: {y_test.dtype} {y_test.shape}")
    if len(y_test) != len(x_test) or not len(y_test) or y_test.min() < 0 or y_test.max() >= lineup.classes:
        raise DataError(
            f"Expected {len(x_test)} labels (at least one) from 0 to {lineup.classes - 1}, the classes of the file. "
            f"Received: {len(y_test)} labels" + (f" from {y_test.min()} to {y_test.max()}" if len(y_test) else "")
        )
