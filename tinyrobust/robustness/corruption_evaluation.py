"""The evaluation of a protocol of corruptions: how often every target is right about images that a camera spoils."""

import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata

import numpy as np

from tinyrobust.data.arrays import stratified
from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.robustness.corruption import PACKAGE, check_images, corrupted, library
from tinyrobust.robustness.corruption_record import (
    CORRUPTIONS,
    CorruptionMean,
    CorruptionRecord,
    CorruptionRow,
    MeanShare,
)
from tinyrobust.robustness.distance import Bools, Floats, Ints
from tinyrobust.robustness.identity import identity
from tinyrobust.robustness.job import EvaluationJob
from tinyrobust.robustness.pieces import Piece, Pieces
from tinyrobust.robustness.preparation import prepared
from tinyrobust.robustness.protocol import Corruption
from tinyrobust.robustness.robustness_record import Golden, Proportion
from tinyrobust.robustness.statistics import share, wilson
from tinyrobust.robustness.subject import EvaluationTargets
from tinyrobust.robustness.subset import Stored, Subset, inputs
from tinyrobust.robustness.targets.flashed import unconfirmed

_DRAWS = 2000  # of the images, for an interval
_SMALL = 64  # pixels: below, severities made for photographs of 224 are said to be strong

Right = Mapping[str, Bools]
"""By corruption, whether a target is right: [severities, n]."""


def evaluate_corruptions(job: EvaluationJob) -> CorruptionRecord:
    """Corrupts a stratified subset of the test images, as a protocol of corruptions says, and writes `corruptions.json`.

    The images are those that an evaluation of attacks with the same seed and number of samples attacks. The file's verdicts
    are the fast interpreter's, as for clean accuracy on a whole test set. What was done is kept in `<output>/corruptions/`, and
    the same job goes on from there.

    Raises:
        DataError: The samples are no images, or too small, or do not fit the model.
        MissingToolError: The extra `corruptions` is not installed.
        ModelFileError: The file cannot be used, or network and file do not fit together.
        RunFolderError: The folder holds pieces of another evaluation, or cannot be written.
    """
    library()
    check_images(job.data.samples, job.data.name, job.data.unit)
    model = Int8Model(job.subject.tflite, read_as=job.subject.reading)
    job = prepared(job, model)
    targets = EvaluationTargets(job.subject, job.plan.seed, model, twin=False)
    subset, golden = _subset(job, targets)
    pieces = list(_pieces(job, targets, subset))
    record = _record(job, targets, subset, golden, pieces)
    record.save(job.execution.output / CORRUPTIONS)
    return record


def _subset(job: EvaluationJob, targets: EvaluationTargets) -> tuple[Subset, Golden]:
    """The images with what the targets name without corruption, and how often the golden names another class for the file."""
    data, plan = job.data, job.plan
    index = stratified(data.labels, min(plan.samples, len(data.labels)), plan.seed)
    image, label = data.samples[index], data.labels[index]
    targets.fit(plan, image, label)
    clean = _named(targets, image)
    again = targets.flashed.recheck(inputs(image), clean["int8"])
    return Subset(index, image, label, clean), Golden(checked=again.checked, differing=again.differing)


def _named(targets: EvaluationTargets, image: Stored) -> dict[str, Ints]:
    """The classes [n] that each target names. Its memory is emptied: no image is asked about twice."""
    x = inputs(image)
    named = {name: np.asarray(target.predict(x).argmax(axis=1), np.int64) for name, target in targets.judged.items()}
    targets.forget()
    return named


def _pieces(job: EvaluationJob, targets: EvaluationTargets, subset: Subset) -> Iterator[Piece]:
    """What the targets name under each corruption at each severity, in order; made, or kept from before."""
    kept = Pieces(job.execution.output / "corruptions", identity(job, targets, subset), fresh=job.execution.fresh)
    steps = [(corruption.kind, severity) for corruption in job.plan.protocol.corruptions for severity in corruption.severities]
    for done, (kind, severity) in enumerate(steps):
        job.execution.progress(f"corruptions: {kind}, severity {severity}", done, len(steps))
        piece = kept.get(f"{kind}-{severity}")
        if piece is None:
            start = time.perf_counter()
            image = corrupted(np.asarray(subset.image, np.uint8), kind, severity, subset.index, job.plan.seed)
            piece = {f"predicted/{name}": classes for name, classes in _named(targets, image).items()}
            piece["seconds"] = np.asarray(time.perf_counter() - start)
            kept.put(f"{kind}-{severity}", piece)
        yield piece
    job.execution.progress("corruptions: done", len(steps), len(steps))


def _record(
    job: EvaluationJob, targets: EvaluationTargets, subset: Subset, golden: Golden, pieces: Sequence[Piece]
) -> CorruptionRecord:
    corruptions = job.plan.protocol.corruptions
    right = {name: _right(name, corruptions, pieces, subset.label) for name in targets.judged}
    rows = [
        CorruptionRow(target=name, corruption=corruption.kind, severity=severity, accuracy=share(hits))
        for name in targets.judged
        for corruption in corruptions
        for severity, hits in zip(corruption.severities, right[name][corruption.kind], strict=True)
    ]
    return CorruptionRecord(
        model=job.subject.tflite.name,
        model_sha256=targets.flashed.model_file.sha256,
        dataset=job.data.name,
        dataset_fingerprint=job.data.fingerprint,
        protocol=job.plan.protocol.name,
        seed=job.plan.seed,
        samples=len(subset.index),
        units=job.subject.units.words if job.subject.units else "",
        severities=sorted({severity for corruption in corruptions for severity in corruption.severities}),
        means=[_in_short(name, share(subset.right(name)), of) for name, of in right.items()],
        rows=rows,
        golden=golden,
        package=f"{PACKAGE} {metadata.version(PACKAGE)}",
        notes=[*targets.notes, *job.subject.remarks, *job.data.notes, *_notes(subset, golden)],
        seconds=sum(float(piece["seconds"]) for piece in pieces),
    )


def _right(target: str, corruptions: Sequence[Corruption], pieces: Sequence[Piece], label: Ints) -> Right:
    answers = (piece[f"predicted/{target}"] == label for piece in pieces)  # in the order of corruptions and severities
    return {corruption.kind: np.stack([next(answers) for _ in corruption.severities]) for corruption in corruptions}


def _in_short(target: str, clean: Proportion, right: Right) -> CorruptionMean:
    each = {kind: hits.mean(axis=0) for kind, hits in right.items()}
    return CorruptionMean(
        target=target,
        clean=clean,
        mean=mean_share(np.mean(list(each.values()), axis=0)),
        by_corruption={kind: mean_share(shares) for kind, shares in each.items()},
    )


def mean_share(shares: Floats) -> MeanShare:
    """The mean of shares [n] in [0, 1], one an image, with the interval of drawing the images again (see `MeanShare`)."""
    n, value = len(shares), float(np.mean(shares))
    if np.all(shares == shares[0]):
        alike = wilson(round(n * value), n)
        low, high = min(alike.low, value), max(alike.high, value)
    else:
        random = np.random.default_rng(0)
        means = [shares[random.integers(n, size=n)].mean() for _ in range(_DRAWS)]
        low, high = (float(end) for end in np.percentile(means, (2.5, 97.5)))
    return MeanShare(value=value, n=n, low=low, high=high)


def _notes(subset: Subset, golden: Golden) -> list[str]:
    """What a reader of the figures must know of corruptions."""
    height, width, channels = subset.image.shape[1:]
    notes = [
        "Nobody searched here: corruptions are drawn, so the figures are no robustness against an attacker. All rows are about "
        "the same images; the interval of a mean is that of drawing the images again.",
        "Severities have the constants of ImageNet-C, made for photographs of 224x224 pixels.",
    ]
    if min(height, width) < _SMALL:
        notes[-1] += (
            f" On {height}x{width} they are stronger than CIFAR-10-C's (Gaussian noise of severity 5: 0.38, there 0.10, as a "
            "standard deviation): the figures are not to be compared with those on CIFAR-10-C."
        )
    if channels == 1:
        notes.append(
            "Gray images were corrupted as three equal channels and made gray again: noise drawn for each channel has 0.67 of "
            "its standard deviation then."
        )
    if golden.checked:
        notes.append(
            f"The file's verdicts are the fast interpreter's: on the images as they are TensorFlow Lite Micro names another "
            f"class for {golden.differing} of {golden.checked}."
        )
    return [*notes, *unconfirmed()]
