"""The record of an evaluation: what worker processes read is the job that was written."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinyrobust.deploy.reading import Anomaly
from tinyrobust.errors import RecipeError, RunFolderError
from tinyrobust.recipe.robustness import Robustness, Waveform
from tinyrobust.robustness import job_files, protocol
from tinyrobust.robustness.attack_plan import AttackPlan
from tinyrobust.robustness.identity import identity
from tinyrobust.robustness.job import EvaluationData, EvaluationJob, Execution, Member, Subject, members_of
from tinyrobust.robustness.subject import EvaluationTargets
from tinyrobust.robustness.subset import Subset

_SETTINGS = Robustness(epsilons=(0.1, 1 / 3), headline=0.1, waveform=Waveform(samples=9))


@pytest.fixture(scope="module")
def job(digits_net: Any, robust_net: Any, tmp_path_factory: pytest.TempPathFactory) -> EvaluationJob:
    """With everything that a job can have but a front end."""
    return EvaluationJob(
        Subject(
            members_of(digits_net.tflite, digits_net.model, robust_net.model),
            surrogate=robust_net.model,
            input_range=(0.0, 1.0),
        ),
        EvaluationData("digits", "abc", digits_net.x[:20], digits_net.y[:20], (digits_net.x[20:30], digits_net.y[20:30])),
        AttackPlan.of(_SETTINGS, 3, "features"),
        Execution(tmp_path_factory.mktemp("job"), jobs=2),
    )


def _identity(job: EvaluationJob) -> str:
    data = job.data
    targets = EvaluationTargets(job.subject, job.plan.seed)
    targets.fit(job.plan, data.samples[:], data.labels)
    return identity(job, targets, Subset(np.arange(len(data.labels)), data.samples[:], data.labels, {})).to_json()


def test_what_was_written_is_read(job: EvaluationJob, tmp_path: Path) -> None:
    job_files.write(job, tmp_path)
    again = job_files.read(tmp_path)
    assert again.plan == job.plan
    assert (again.subject.tflite, again.subject.input_range) == (job.subject.tflite, (0.0, 1.0))
    assert [member.artefact is None for member in again.subject.members] == [False, True]
    assert again.data.training_samples is not None
    assert job.data.training_samples is not None
    for before, after in zip(job.data.training_samples, again.data.training_samples, strict=True):
        np.testing.assert_array_equal(before, after)
    assert _identity(again) == _identity(job)


def test_what_the_outputs_mean_is_read_too(job: EvaluationJob, tmp_path: Path) -> None:
    reading = Anomaly(score="reconstruction", threshold=0.1, spread=1 / 3, normals=20)
    job_files.write(replace(job, subject=replace(job.subject, reading=reading)), tmp_path)
    assert job_files.read(tmp_path).subject.reading == reading


def test_another_seed_or_network_is_another_evaluation(job: EvaluationJob, robust_net: Any) -> None:
    before = _identity(job)
    assert _identity(replace(job, plan=AttackPlan.of(_SETTINGS, 4, "features"))) != before
    other = replace(job.subject, members=members_of(job.subject.tflite, robust_net.model, robust_net.model))
    assert _identity(replace(job, subject=other)) != before


def test_a_folder_without_a_job_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"job\.json"):
        job_files.read(tmp_path)


def test_only_the_first_member_has_an_artefact(job: EvaluationJob) -> None:
    file = job.subject.tflite
    for members in ((), (Member(None, None),), (Member(None, file), Member(None, file))):
        with pytest.raises(ValueError, match="Expected an artefact of the first member"):
            Subject(members)
    targets = EvaluationTargets(job.subject, 0)
    assert targets.artefacts == (targets.flashed, None)
    assert set(targets.judged) == {"ensemble", "int8"}


def test_a_plan_of_sound_and_one_of_features() -> None:
    features, sound = (AttackPlan.of(_SETTINGS, 1, domain) for domain in ("features", "waveform"))
    assert (features.samples, sound.samples) == (200, 9)
    assert (features.headline_norm, features.headline_epsilon) == ("linf", 0.1)
    assert (sound.headline_norm, sound.headline_epsilon) == ("snr", 0.1)
    assert set(features.epsilons) == {"linf", "l2", "l1", "l0"}
    assert set(sound.epsilons) == {"linf", "snr", "shift"}
    assert (features.suffix, sound.suffix) == ("", "-waveform")
    assert (features.protocol.name, sound.protocol.name) == ("quick", "waveform")
    with pytest.raises(RecipeError, match="Expected settings for attacks on sound"):
        AttackPlan(settings=Robustness(), protocol=protocol.load("waveform"), seed=1, domain="waveform")
