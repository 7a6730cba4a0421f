"""Corruptions of images: what they do to pixels, and what a file makes of them."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from typer.testing import CliRunner

from tinyrobust.cli.app import app
from tinyrobust.data.arrays import scale, stratified
from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.errors import DataError, MissingToolError, RecipeError, RunFolderError
from tinyrobust.recipe.robustness import Robustness
from tinyrobust.robustness import protocol
from tinyrobust.robustness.attack_plan import AttackPlan
from tinyrobust.robustness.corruption import check_images, corrupted, library
from tinyrobust.robustness.corruption_evaluation import evaluate_corruptions, mean_share
from tinyrobust.robustness.corruption_record import CorruptionRecord
from tinyrobust.robustness.evaluation import evaluate
from tinyrobust.robustness.job import EvaluationData, EvaluationJob, Execution, Subject, members_of
from tinyrobust.robustness.protocol import Corruption, Protocol

pytest.importorskip("imagecorruptions", reason="the extra `corruptions` does not work here", exc_type=ImportError)

_KINDS = {corruption.kind: corruption for corruption in protocol.load("corruptions").corruptions}
_MINE = Protocol(
    name="mine",
    description="",
    corruption=(Corruption(kind="contrast", severities=(1, 5)), Corruption(kind="gaussian-noise", severities=(3,))),
)


@pytest.fixture(scope="module")
def job(converted: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> EvaluationJob:
    """A network that names the colour with the largest mean, and 40 images in which one is a little stronger."""
    random, labels = np.random.default_rng(0), np.arange(40) % 3
    pixels = random.integers(60, 190, (40, 32, 32, 3))
    pixels[np.arange(40), :, :, labels] += random.integers(4, 24, (40, 1, 1))
    image = keras.Input((32, 32, 3))
    dense = keras.layers.Dense(3)
    network = keras.Model(image, dense(keras.layers.GlobalAveragePooling2D()(image)))
    dense.set_weights([10 * np.eye(3, dtype=np.float32), np.zeros(3, np.float32)])
    calibration = np.concatenate([pixels[:20] / 255, np.zeros((1, 32, 32, 3)), np.ones((1, 32, 32, 3))])
    data = EvaluationData("colours", "abc", pixels.astype(np.uint8), labels.astype(np.int64))
    plan = AttackPlan(settings=Robustness(samples=24), protocol=_MINE, seed=3)
    subject = Subject(members_of(converted(network, calibration, name="colours"), network))
    return EvaluationJob(subject, data, plan, Execution(tmp_path_factory.mktemp("corruptions")))


@pytest.fixture(scope="module")
def record(job: EvaluationJob) -> CorruptionRecord:
    return evaluate_corruptions(job)


def _into(job: EvaluationJob, folder: Path, **changes: Any) -> EvaluationJob:
    return replace(job, execution=replace(job.execution, output=folder), **changes)


def test_contrast_brings_pixels_nearer_to_their_mean() -> None:
    """ImageNet-C: mean + c (x - mean), c = 0.4, 0.3, 0.2, 0.1, 0.05. Rounded down to whole pixels."""
    board = np.where(np.indices((32, 32)).sum(axis=0) % 2, 200, 100).astype(np.uint8)[np.newaxis, ..., np.newaxis]
    for severity, factor in enumerate((0.4, 0.3, 0.2, 0.1, 0.05), start=1):
        changed = corrupted(board, "contrast", severity, np.zeros(1, np.int64), 0)
        assert changed.shape == board.shape
        np.testing.assert_allclose(changed[0, :2, 0, 0], [150 - 50 * factor, 150 + 50 * factor], atol=1)


def test_noise_on_gray_has_two_thirds_of_its_deviation() -> None:
    """Of severity 1, 0.08; the luma of three independent draws has sqrt(0.299^2 + 0.587^2 + 0.114^2) = 0.669 of it."""
    images = np.full((2, 64, 64, 3), 128, np.uint8)
    index = np.arange(2)
    color, gray = (corrupted(x, "gaussian-noise", 1, index, 0).astype(float) for x in (images, images[..., :1]))
    # 8,192 draws and more: the standard error of a deviation is below one in a hundred of it.
    assert color.std() == pytest.approx(0.08 * 255, rel=0.04)
    assert gray.std() == pytest.approx(0.669 * 0.08 * 255, rel=0.04)


@pytest.mark.parametrize("kind", _KINDS)
def test_what_is_drawn_depends_on_the_image_and_on_nothing_else(kind: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 33, 40, 3), dtype=np.uint8)
    index, before = np.array([7, 2, 9]), np.random.get_state()[1].copy()  # noqa: NPY002
    every = corrupted(images, kind, 3, index, 5)
    assert every.shape == images.shape
    assert (every != images).any(axis=(1, 2, 3)).all()
    np.testing.assert_array_equal(corrupted(images[[2, 0]], kind, 3, index[[2, 0]], 5), every[[2, 0]])
    assert (np.random.get_state()[1] == before).all(), "the caller's generator was left changed"  # noqa: NPY002


@pytest.mark.parametrize("kind", ["gaussian-noise", "shot-noise", "impulse-noise", "motion-blur"])
def test_another_place_seed_or_severity_draws_anew(kind: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    others = ((0, 0, 2), (1, 0, 2), (0, 1, 2), (0, 0, 3))
    drawn = [corrupted(image, kind, severity, np.array([place]), seed) for place, seed, severity in others]
    assert len({one.tobytes() for one in drawn}) == len(others)


def test_every_row_is_what_the_file_says_of_the_corrupted_images(record: CorruptionRecord, job: EvaluationJob) -> None:
    assert [(row.target, row.corruption, row.severity) for row in record.rows] == [
        (target, *way) for target in ("keras", "int8") for way in (("contrast", 1), ("contrast", 5), ("gaussian-noise", 3))
    ]
    index = stratified(job.data.labels, 24, 3)
    file = Int8Model(job.subject.tflite)
    shares = {}
    for kind, severity in (("contrast", 1), ("contrast", 5), ("gaussian-noise", 3)):
        images = corrupted(np.asarray(job.data.samples)[index], kind, severity, index, 3)
        right = file.predict(scale(images)).argmax(axis=1) == job.data.labels[index]
        row = record.accuracy("int8", kind, severity)
        assert row is not None
        assert (row.count, row.n) == (right.sum(), 24)
        shares[kind, severity] = right.mean()
    mean = record.means[1]
    assert mean.target == "int8"
    assert mean.by_corruption["contrast"].value == pytest.approx((shares["contrast", 1] + shares["contrast", 5]) / 2)
    # Every corruption counts once, however many severities it has.
    assert mean.mean.value == pytest.approx(np.mean([each.value for each in mean.by_corruption.values()]))
    assert mean.mean.low < mean.mean.value < mean.mean.high


def test_attacks_and_corruptions_are_of_the_same_images_and_leave_each_other_alone(
    record: CorruptionRecord, job: EvaluationJob, tmp_path: Path
) -> None:
    fgsm = Protocol(name="one", description="", attack=({"name": "fgsm", "kind": "fgsm", "transfer_to": ["int8"]},))
    attacked = evaluate(_into(job, tmp_path, plan=job.plan.model_copy(update={"protocol": fgsm})))
    before = (tmp_path / "robustness.json").read_bytes()
    again = evaluate_corruptions(_into(job, tmp_path))
    assert (tmp_path / "robustness.json").read_bytes() == before
    assert {row.attack for row in attacked.attacks} == {"fgsm"}
    # Not corrupted is not attacked: the same accuracy.
    assert [mean.clean for mean in again.means] == [clean.attacked for clean in attacked.clean]
    assert again.model_dump(exclude={"seconds"}) == record.model_dump(exclude={"seconds"})


def test_an_interrupted_evaluation_goes_on_to_the_same_figures(record: CorruptionRecord, job: EvaluationJob) -> None:
    folder = job.execution.output
    assert CorruptionRecord.load(folder / "corruptions.json") == record
    kept, lost = (folder / "corruptions" / f"{name}.npz" for name in ("contrast-1", "contrast-5"))
    lost.unlink()
    before = kept.stat().st_mtime_ns
    told: list[tuple[str, int, int]] = []
    again = evaluate_corruptions(replace(job, execution=replace(job.execution, progress=lambda *news: told.append(news))))
    assert again.model_dump(exclude={"seconds"}) == record.model_dump(exclude={"seconds"})
    assert (kept.stat().st_mtime_ns, lost.is_file()) == (before, True)
    assert told[0] == ("corruptions: contrast, severity 1", 0, 3)
    assert told[-1] == ("corruptions: done", 3, 3)
    with pytest.raises(RunFolderError, match="pieces of another evaluation"):
        evaluate_corruptions(replace(job, plan=job.plan.model_copy(update={"seed": 4})))


def test_without_a_network_the_file_alone_answers(record: CorruptionRecord, job: EvaluationJob, tmp_path: Path) -> None:
    alone = evaluate_corruptions(_into(job, tmp_path, subject=Subject(members_of(job.subject.tflite))))
    assert [mean.target for mean in alone.means] == ["int8"]
    assert alone.means[0] == record.means[1]
    assert not any("twin" in note for note in alone.notes)


def test_the_interval_of_a_mean_is_that_of_drawing_images_again() -> None:
    """Of n shares with deviation s it is about 1.96 s / sqrt(n) on both sides; of equal ones it is Wilson's."""
    shares = np.repeat([0.2, 0.6, 1.0], 100)
    found = mean_share(shares)
    assert found.value == pytest.approx(0.6)
    assert found.n == 300
    half = 1.96 * shares.std() / np.sqrt(300)
    # 2,000 draws: a percentile is off by a few hundredths of the half width.
    assert (found.low, found.high) == pytest.approx((0.6 - half, 0.6 + half), abs=0.15 * half)
    sure = mean_share(np.ones(100))
    assert sure.high == 1
    assert sure.low == pytest.approx(0.963, abs=5e-4)


@pytest.mark.parametrize(
    ("samples", "unit", "expected"),
    [
        (np.zeros((2, 28, 28, 1), np.uint8), "", r"at least 32x32 pixels. Received: 28x28 of mine"),
        (np.zeros((2, 64, 31, 3), np.uint8), "", "Received: 64x31"),
        (np.zeros((2, 49, 40, 2), np.uint8), "", r"Expected images of 8-bit pixels.*Received: uint8 \(49, 40, 2\)"),
        (np.zeros((2, 128, 3), np.uint8), "", r"Received: uint8 \(128, 3\)"),
        (np.zeros((2, 32, 32, 1), np.float32), "", "Received: float32"),
        (np.zeros((2, 32, 32, 1), np.uint8), "of each feature's range", "no pixels"),
    ],
)
def test_what_is_no_image_or_too_small_is_refused(samples: np.ndarray, unit: str, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        check_images(samples, "mine", unit)


def test_a_missing_package_is_named_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imagecorruptions", None)  # as Python does where a module cannot be imported
    with pytest.raises(MissingToolError, match=r"pip install 'tinyrobust\[corruptions\]'"):
        library()


def test_a_protocol_of_corruptions_claims_no_robustness() -> None:
    with pytest.raises(RecipeError, match=r"Expected a protocol of attacks.*--protocol corruptions"):
        AttackPlan.of(Robustness(protocol="corruptions"), 3, "features")
    with pytest.raises(RecipeError, match="Received: 'quick', of attacks"):
        protocol.of_corruptions("quick")


@pytest.fixture(scope="module")
def typed(job: EvaluationJob, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """`typed(*options)`: what `tinyrobust attack` answers about the file alone, with the images as anybody's `.npz`."""
    folder = tmp_path_factory.mktemp("typed")
    np.savez(folder / "colours.npz", x_test=np.asarray(job.data.samples[:]), y_test=job.data.labels)
    lines = ('description = "mine"', "[[corruption]]", 'kind = "contrast"', "severities = [1, 5]", "[[corruption]]")
    (folder / "mine.toml").write_text("\n".join((*lines, 'kind = "gaussian-noise"', "severities = [3]")))
    words = ("--data", folder / "colours.npz", "--protocol", folder / "mine.toml", "--samples", 24, "--seed", 3)

    def invoke(*options: str) -> Any:
        command = ["attack", job.subject.tflite, *words, "--output", folder / "out", *options]
        return CliRunner().invoke(app, [str(word) for word in command])

    return invoke


def test_the_command_prints_a_table_and_the_same_as_json(typed: Callable[..., Any], record: CorruptionRecord) -> None:
    people, machines = typed(), typed("--json")
    assert people.exit_code == machines.exit_code == 0, people.output
    found = CorruptionRecord.model_validate_json(machines.stdout)
    assert found.means == [record.means[1]]
    assert [row for row in record.rows if row.target == "int8"] == found.rows
    text = " ".join(people.output.split())
    mean = found.means[0].mean
    assert f"Mean corruption accuracy of int8: {100 * mean.value:.1f} % (n = 24, {100 * mean.low:.1f} to" in text
    assert f"gaussian-noise {100 * found.rows[2].accuracy.value:.1f} " in text
    assert "stronger than CIFAR-10-C's" in text


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--epsilon", "0.1", "--grid"), "--epsilon, --grid"),
        (("--temperature", "2"), "--temperature"),
        (("--domain", "waveform"), "--domain waveform"),
    ],
)
def test_options_that_only_attacks_have_are_refused(typed: Callable[..., Any], options: tuple[str, ...], named: str) -> None:
    answer = typed(*options)
    assert isinstance(answer.exception, RecipeError)
    assert f"Received: {named}" in str(answer.exception)
