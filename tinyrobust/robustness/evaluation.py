"""The evaluation: a protocol's attacks on the targets of one model, and the record of what they found."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import keras
import numpy as np

from tinyrobust.attacks.specs import AttackSpec
from tinyrobust.data.arrays import Samples, stratified
from tinyrobust.data.speech.frontend_record import FrontendRecord
from tinyrobust.errors import DataError, RecipeError
from tinyrobust.progress import Progress, silent
from tinyrobust.recipe.robustness import Robustness
from tinyrobust.robustness import probes, shard_worker
from tinyrobust.robustness.lineup import Lineup
from tinyrobust.robustness.outcomes import Ints, Subset, Tally, inputs, save
from tinyrobust.robustness.prepare import FEW, fit_to_few, prepared
from tinyrobust.robustness.protocol import Protocol
from tinyrobust.robustness.robustness_record import RobustnessRecord
from tinyrobust.robustness.scope import Scope, scope
from tinyrobust.robustness.shards import Shards
from tinyrobust.robustness.summary import Clean, pictures, record
from tinyrobust.robustness.targets import Hearing, InputRange
from tinyrobust.robustness.targets.flashed import unconfirmed

# Bytes of float samples that clean accuracy is measured on at once, in whole batches of the targets.
_AT_ONCE, _BATCH = 64 * 2**20, 256


def evaluate(
    *,
    keras_model: keras.Model | Sequence[keras.Model] | None,
    tflite: Path,
    dataset_name: str,
    fingerprint: str,
    x_test: Samples,
    y_test: Ints,
    settings: Robustness,
    protocol: Protocol,
    seed: int,
    output: Path,
    surrogate: keras.Model | None = None,
    temperature: float | None = None,
    input_range: InputRange | None = None,
    remarks: Sequence[str] = (),
    frontend: FrontendRecord | None = None,
    lesson: tuple[Samples, Ints] | None = None,
    fresh: bool = False,
    jobs: int = 1,
    progress: Progress | None = None,
) -> RobustnessRecord:
    """Attacks a model and writes `robustness.json` and `per_sample.npz`; of sound, `robustness-waveform.json` and so on.

    Clean accuracy is measured on the whole test set; a stratified subset is attacked. A sample that is wrong without attack
    counts as not robust. In the worst case a sample counts only when no attack broke it within the radius; for `all` it must
    stand on every target. The headline is the worst case for `all` at the headline epsilon: L-inf; of sound, a
    signal-to-noise ratio.

    It can be killed at any time: what was done is kept in `<output>/attacks/`, batch by batch, and the same call goes on from
    there to the same figures.

    Args:
        keras_model: Logits, quantized weights frozen; the white box. Several: the members of an ensemble. None: a twin is
            rebuilt from the file where its operators allow it; else attacks that need gradients are left out, and the record
            says so. One that is random at inference is attacked through the mean of several passes where the protocol wants it.
        tflite: The file that is flashed.
        dataset_name: For the record.
        fingerprint: Of the data, for the record.
        x_test: Images, uint8 [n, h, w, c], in memory or on disk; with a front end, clips, int16 [n, samples].
        y_test: Classes, int64 [n].
        settings: Epsilons (input units, [0, 1]), the headline and the number of samples; of sound, those in its `waveform`.
        protocol: The attacks.
        seed: Fixes the subset and every attack.
        output: Folder for the two files and the pieces.
        surrogate: A network trained apart, for attacks on "surrogate"; it takes images in [0, 1].
        temperature: That the network was distilled at; estimated from its logits when absent.
        input_range: What pixel values 0 and 255 become in the file's input units; recognised when absent.
        remarks: What a reader of the figures must know besides, for the record's notes.
        frontend: Of a spotter: sound is attacked, before its front end.
        lesson: Samples of another part and their classes, like x_test and y_test, for attacks that learn; these are left out
            when absent.
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
    asked, hearing = scope(settings, sound=frontend is not None), Hearing(frontend) if frontend else None
    networks = [] if keras_model is None else [keras_model] if isinstance(keras_model, keras.Model) else list(keras_model)
    lineup = Lineup(
        tflite, networks, surrogate=surrogate, input_range=input_range, temperature=temperature, seed=seed, hearing=hearing
    )
    _check_data(lineup, x_test, y_test)
    index = stratified(y_test, min(asked.samples, len(y_test)), seed)
    few = index[:FEW]
    fit_to_few(lineup, inputs(x_test[few]), y_test[few], asked, protocol)
    attacks = _runnable(protocol, lineup, asked, lesson is not None)
    lineup.notes += [*remarks, *unconfirmed(), *_left_out(protocol, lineup, attacks)]
    tell = progress or silent
    subset, clean = _clean(lineup, x_test, y_test, index, tell)
    if subset.sound:
        lineup.notes += _of_sound(subset)
    learned = (inputs(lesson[0][:]), lesson[1]) if lesson else None
    runner = prepared(
        lineup,
        subset,
        asked,
        protocol,
        seed,
        fingerprint,
        surrogate,
        output,
        frontend=frontend,
        lesson=learned,
        fresh=fresh,
        tell=tell,
    )

    def tasks(folder: Path) -> None:
        shard_worker.write(folder, runner, settings, protocol, fingerprint, surrogate, output, frontend)

    with Shards(jobs, tasks, tell) if jobs > 1 else contextlib.nullcontext() as runner.shards:
        outcomes = list(runner.outcomes(attacks))
        figures = probes.all_checks(runner, attacks, outcomes, protocol, asked)
    about: dict[str, str] = {"model": tflite.name, "dataset": dataset_name, "dataset_fingerprint": fingerprint}
    about["protocol"] = protocol.name
    found_out = record(runner, attacks, outcomes, clean, figures, asked, about)
    save(output / f"per_sample{asked.suffix}.npz", subset, outcomes, runner.minimal, pictures(runner, outcomes, asked))
    found_out.save(output / f"robustness{asked.suffix}.json")
    return found_out


def _clean(lineup: Lineup, x_test: Samples, y_test: Ints, index: Ints, tell: Progress) -> tuple[Subset, Clean]:
    """The attacked samples, and what the targets say without attack.

    On the attacked samples the file's verdicts are those of TensorFlow Lite Micro, as they are under attack.
    """
    right, attacked, golden = {}, {}, Tally()
    confusion = np.zeros((lineup.classes, lineup.classes), dtype=np.int64)
    for done, (name, target) in enumerate(lineup.victims.items()):
        tell(f"clean accuracy: {name}", done, len(lineup.victims))
        named = _named(target, x_test)
        right[name] = np.asarray(named == y_test)
        if name == "int8":
            np.add.at(confusion, (y_test, named), 1)
        attacked[name], checked, differing = lineup.verdicts(name, inputs(x_test[index]))
        golden.add(checked, differing)
    return Subset(index, x_test[index], y_test[index], attacked), Clean(right, golden, confusion.tolist())


def _named(target: Any, x_test: Samples) -> Ints:
    """The class that a target names for every sample [n]."""
    batches = _AT_ONCE // (_BATCH * 4 * int(np.prod(x_test.shape[1:])))
    rows = _BATCH * max(1, batches)
    parts = [np.argmax(target.predict(inputs(x_test[at : at + rows])), axis=1) for at in range(0, len(x_test), rows)]
    return np.concatenate(parts)


def _runnable(protocol: Protocol, lineup: Lineup, asked: Scope, lesson: bool) -> list[AttackSpec]:
    for attack in protocol.attacks:
        if attack.norm not in asked.radii:
            other = "sound" if attack.norm in ("snr", "shift") else "images and features"
            raise RecipeError(
                f"Expected attacks in {', '.join(asked.radii)}. Received: {attack.name!r} of protocol {protocol.name!r} in "
                f"{attack.norm}, a norm of {other}",
                hint="Sound has protocols of its own: `tinyrobust list attacks` shows them.",
            )
    able = [attack for attack in protocol.attacks if lesson or not attack.learns]
    attacks = [cast(AttackSpec, attack) for attack in able if lineup.judged(attack)]
    if not attacks:
        raise RecipeError(
            f"Expected an attack on {' or '.join(lineup.victims)} in protocol {protocol.name!r}. "
            f"Received: attacks on {', '.join(sorted({attack.on for attack in protocol.attacks}))} only",
            hint="Without a Keras network, and for a file that no twin can be rebuilt from, only attacks on int8 can be run.",
        )
    return attacks


def _left_out(protocol: Protocol, lineup: Lineup, attacks: Sequence[AttackSpec]) -> list[str]:
    run = {attack.name for attack in attacks}
    lacks = {
        attack.name: "other part of the data to learn on"
        if attack.learns and lineup.judged(attack)
        else f"{'network' if attack.on == 'keras' else attack.on} to make examples on"
        for attack in protocol.attacks
    }
    return [f"Left out: {name}, because there is no {lack}." for name, lack in lacks.items() if name not in run]


def _of_sound(subset: Subset) -> list[str]:
    """What must be known of attacks on sound."""
    notes = [
        "Sound is attacked: examples are 16-bit clips, judged on the file through the real front end, and on the network "
        "through the same front end in single precision.",
        "Epsilon in L-inf is a share of the 16-bit range (0.001 is 65 of 65,536 steps); an SNR is that of the clip to what was "
        "added, both over the whole second.",
    ]
    silent = int((~(subset.image != 0).any(axis=1)).sum())
    if silent:
        notes.append(f"{silent} of the attacked clips are digital silence: no SNR allows a change of them, so they stand.")
    return notes


def _check_data(lineup: Lineup, x_test: Samples, y_test: Ints) -> None:
    shape = tuple(lineup.flashed.input_shape)
    dtype, what = (np.int16, "int16 clips") if len(shape) == 1 else (np.uint8, "uint8 images")
    if x_test.dtype != dtype or x_test.shape[1:] != shape:
        raise DataError(
            f"Expected {what} of shape {shape}: that is what the file takes. Received: {x_test.dtype} {x_test.shape[1:]}",
            hint="Color and size of the data must be those that the model was trained with.",
        )
    if y_test.dtype.kind not in "iu" or y_test.ndim != 1:
        raise DataError(f"Expected labels as integers [n]. Received: {y_test.dtype} {y_test.shape}")
    if len(y_test) != len(x_test) or not len(y_test) or y_test.min() < 0 or y_test.max() >= lineup.classes:
        raise DataError(
            f"Expected {len(x_test)} labels (at least one) from 0 to {lineup.classes - 1}, the classes of the file. "
            f"Received: {len(y_test)} labels" + (f" from {y_test.min()} to {y_test.max()}" if len(y_test) else "")
        )
