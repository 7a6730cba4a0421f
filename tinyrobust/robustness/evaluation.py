"""The evaluation: a protocol's attacks on the targets of one model, and the record of what they found."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from tinyrobust.attacks.specs import AttackSpec
from tinyrobust.attacks.target import Target
from tinyrobust.data.arrays import Samples, stratified
from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.errors import RecipeError
from tinyrobust.progress import Progress
from tinyrobust.robustness import clean_checks, job_files, probes
from tinyrobust.robustness.convergence import run_on
from tinyrobust.robustness.crafting import Crafter
from tinyrobust.robustness.detection import detection
from tinyrobust.robustness.distance import Floats, Ints
from tinyrobust.robustness.job import EvaluationData, EvaluationJob, Execution
from tinyrobust.robustness.outcomes import Tally, save
from tinyrobust.robustness.preparation import prepared
from tinyrobust.robustness.robustness_record import RobustnessRecord
from tinyrobust.robustness.runner import Runner
from tinyrobust.robustness.shards import Shards
from tinyrobust.robustness.subject import EvaluationTargets
from tinyrobust.robustness.subset import Stored, Subset, inputs
from tinyrobust.robustness.summary import Clean, pictures, summary
from tinyrobust.robustness.targets.flashed import unconfirmed

# Bytes of float samples that clean accuracy is measured on at once, in whole batches of the targets.
_AT_ONCE, _BATCH = 64 * 2**20, 256


def evaluate(job: EvaluationJob) -> RobustnessRecord:
    """Attacks a model and writes `robustness.json` and `per_sample.npz`; of sound, `robustness-waveform.json` and so on.

    Clean accuracy is measured on the whole test set; a stratified subset is attacked. A sample that is wrong without attack
    counts as not robust. In the worst case a sample counts only when no attack broke it within the radius; for `all` it must
    stand on every target. The headline is the worst case for `all` at the headline epsilon: L-inf; of sound, a
    signal-to-noise ratio. Attacks that need gradients, or samples to learn on, are left out where there are none, and a network
    that is random at inference is attacked through the mean of several passes where the protocol wants it: the record says so.

    It can be killed at any time: what was done is kept in `<output>/attacks/`, batch by batch, and the same job goes on from
    there to the same figures.

    Raises:
        DataError: The test set does not fit the model.
        ModelFileError: The file cannot be used, or network and file do not fit together.
        RecipeError: The protocol has no attack for the targets at hand.
        RunFolderError: The folder holds pieces of another evaluation, or cannot be written.
    """
    model = Int8Model(job.subject.tflite, read_as=job.subject.reading)
    job = prepared(job, model)
    plan, data = job.plan, job.data
    targets = EvaluationTargets(job.subject, plan.seed, model)
    index = stratified(data.labels, min(plan.samples, len(data.labels)), plan.seed)
    image = data.samples[index]
    targets.fit(plan, image, data.labels[index])
    attacks = _runnable(job, targets)
    targets.notes += [*job.subject.remarks, *data.notes, *unconfirmed(), *_one_class(data), *_left_out(job, targets, attacks)]
    subset, clean = _clean(targets, data, index, image, job.execution.progress)
    if subset.sound:
        targets.notes += _of_sound(subset)
    crafter = Crafter(job, targets, subset)
    if learned := crafter.learn():
        targets.notes.append(learned.note)
    runner = Runner(crafter)
    with _shards(runner) as runner.shards:
        outcomes = list(runner.outcomes(attacks))
        converged = run_on(runner, attacks, outcomes)
        checks = [
            *clean_checks.all_clean(np.asarray(clean.confusion), data.classes, model),
            *probes.all_checks(runner, attacks, outcomes, converged),
        ]
    outcomes += converged.outcomes
    found = detection(runner, outcomes, clean.scores)
    record = summary(runner, attacks, outcomes, converged, clean, checks, found)
    output, suffix = job.execution.output, plan.suffix
    save(output / f"per_sample{suffix}.npz", subset, outcomes, runner.minimal, pictures(runner, outcomes))
    record.save(output / f"robustness{suffix}.json")
    return record


@contextlib.contextmanager
def _shards(runner: Runner) -> Iterator[Shards | None]:
    """Processes that make pieces, where there are to be several."""
    job, execution = runner.job, runner.job.execution
    if execution.jobs <= 1:
        yield None
        return
    # To them all samples are those that are attacked.
    data = replace(job.data, samples=runner.subset.image, labels=runner.subset.label)
    theirs = EvaluationJob(runner.targets.fitted_subject(), data, job.plan, Execution(execution.output))
    with Shards(execution.jobs, partial(job_files.write, theirs), execution.progress) as shards:
        yield shards


def _clean(
    targets: EvaluationTargets, data: EvaluationData, index: Ints, image: Stored, progress: Progress
) -> tuple[Subset, Clean]:
    """The attacked samples, and what the targets say without attack.

    On the attacked samples the file's verdicts are those of TensorFlow Lite Micro, as they are under attack.
    """
    right, scores, attacked, golden = {}, {}, {}, Tally()
    confusion = np.zeros((targets.classes, targets.classes), dtype=np.int64)
    for done, (name, target) in enumerate(targets.judged.items()):
        progress(f"clean accuracy: {name}", done, len(targets.judged))
        scores[name] = _scores(target, data.samples)
        predicted = np.argmax(scores[name], axis=1)
        right[name] = np.asarray(predicted == data.labels)
        if name == "int8":
            np.add.at(confusion, (data.labels, predicted), 1)
        attacked[name], checked, differing = targets.verdicts(name, inputs(image))
        golden.add(checked, differing)
    return Subset(index, image, data.labels[index], attacked), Clean(right, scores["int8"], golden, confusion.tolist())


def _scores(target: Target, samples: Samples) -> Floats:
    """A target's scores of every sample, [n, classes]."""
    batches = _AT_ONCE // (_BATCH * 4 * int(np.prod(samples.shape[1:])))
    rows = _BATCH * max(1, batches)
    return np.concatenate([target.predict(inputs(samples[at : at + rows])) for at in range(0, len(samples), rows)])


def _runnable(job: EvaluationJob, targets: EvaluationTargets) -> list[AttackSpec]:
    protocol, epsilons = job.plan.protocol, job.plan.epsilons
    for attack in protocol.attacks:
        if attack.norm not in epsilons:
            other = "sound" if attack.norm in ("snr", "shift") else "images and features"
            raise RecipeError(
                f"Expected attacks in {', '.join(epsilons)}. Received: {attack.name!r} of protocol {protocol.name!r} in "
                f"{attack.norm}, a norm of {other}",
                hint="Sound has protocols of its own: `tinyrobust list attacks` shows them.",
            )
    able = [attack for attack in protocol.attacks if job.data.training_samples or not attack.learns]
    attacks: list[AttackSpec] = [attack for attack in able if targets.judged_by(attack)]
    if not attacks:
        raise RecipeError(
            f"Expected an attack on {' or '.join(targets.judged)} in protocol {protocol.name!r}. "
            f"Received: attacks on {', '.join(sorted({attack.on for attack in protocol.attacks}))} only",
            hint="Without a Keras network, and for a file that no twin can be rebuilt from, only attacks on int8 can be run.",
        )
    return attacks


def _one_class(data: EvaluationData) -> list[str]:
    """A note where the labels are all the same."""
    only = np.unique(data.labels)
    if len(only) > 1:
        return []
    return [f"All test samples have the label {only[0]}: a file that names it for everything would be right and robust."]


def _left_out(job: EvaluationJob, targets: EvaluationTargets, attacks: Sequence[AttackSpec]) -> list[str]:
    run = {attack.name for attack in attacks}
    lacks = {
        attack.name: "other part of the data to learn on"
        if attack.learns and targets.judged_by(attack)
        else f"{'network' if attack.on == 'keras' else attack.on} to make examples on"
        for attack in job.plan.protocol.attacks
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
