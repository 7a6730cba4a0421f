"""An evaluation's job in a folder: a JSON record, the networks as `.keras` files, the samples as `.npz`."""

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import keras
import numpy as np

from tinyrobust.attacks.target import InputRange
from tinyrobust.data.speech.frontend_record import FrontendRecord
from tinyrobust.deploy.reading import Reading
from tinyrobust.errors import TinyRobustError
from tinyrobust.quantizers import layers  # noqa: F401 - so that Keras knows them when it loads a network
from tinyrobust.records import Record
from tinyrobust.robustness.attack_plan import AttackPlan
from tinyrobust.robustness.distance import Ints
from tinyrobust.robustness.job import EvaluationData, EvaluationJob, Execution, Subject, members_of
from tinyrobust.robustness.subset import Stored

_RECORD, _SAMPLES, _TRAINING = "job.json", "samples.npz", "training.npz"


class JobRecord(Record):
    """What a worker must know of the evaluation; beside it lie the networks and the samples.

    Attributes:
        tflite: The file that is attacked.
        networks: How many there are.
        surrogate: Whether there is one.
        front_end: Where sound is attacked.
        input_range: As the evaluation found it.
        reading: What the outputs mean, where it is not the usual.
        temperature: As the evaluation found it.
        data: Name of the data set.
        fingerprint: Of the data.
        learns: Whether there are samples to learn on.
        plan: Of the evaluation.
        output: The evaluation's folder.
    """

    SCHEMA: ClassVar[str] = "tinyrobust.job/1"
    tflite: Path
    networks: int
    surrogate: bool
    front_end: FrontendRecord | None
    input_range: InputRange | None
    reading: Reading | None
    temperature: float | None
    data: str
    fingerprint: str
    learns: bool
    plan: AttackPlan
    output: Path


def write(job: EvaluationJob, folder: Path) -> None:
    """Writes everything of a job but how it is executed and what its reader is told, into `folder`.

    Raises:
        TinyRobustError: A network cannot be saved.
    """
    subject, data = job.subject, job.data
    for name, network in _named(subject):
        try:
            network.save(folder / f"{name}.keras")
        except Exception as error:  # whatever the layers of a stranger's network raise
            raise TinyRobustError(
                f"Expected a network that Keras can save, for several processes. Received: {error}", hint="Leave --jobs out."
            ) from error
    np.savez(folder / _SAMPLES, allow_pickle=False, x=data.samples[:], y=data.labels)
    if data.training_samples:
        np.savez(folder / _TRAINING, allow_pickle=False, x=data.training_samples[0][:], y=data.training_samples[1])
    JobRecord(
        tflite=subject.tflite.absolute(),
        networks=len(subject.networks),
        surrogate=subject.surrogate is not None,
        front_end=subject.front_end,
        input_range=subject.input_range,
        reading=subject.reading,
        temperature=subject.temperature,
        data=data.name,
        fingerprint=data.fingerprint,
        learns=data.training_samples is not None,
        plan=job.plan,
        output=job.execution.output.absolute(),
    ).save(folder / _RECORD)


def read(folder: Path) -> EvaluationJob:
    """The job that `write` left in a folder.

    Raises:
        RunFolderError: There is none.
    """
    record = JobRecord.load(folder / _RECORD)
    networks = [_network(folder, f"network{place}") for place in range(record.networks)]
    subject = Subject(
        members_of(record.tflite, *networks),
        surrogate=_network(folder, "surrogate") if record.surrogate else None,
        front_end=record.front_end,
        input_range=record.input_range,
        reading=record.reading,
        temperature=record.temperature,
    )
    data = EvaluationData(record.data, record.fingerprint, *_samples(folder / _SAMPLES))
    if record.learns:
        data = replace(data, training_samples=_samples(folder / _TRAINING))
    return EvaluationJob(subject, data, record.plan, Execution(record.output))


def _named(subject: Subject) -> list[tuple[str, keras.Model]]:
    named = [(f"network{place}", network) for place, network in enumerate(subject.networks)]
    return named if subject.surrogate is None else [*named, ("surrogate", subject.surrogate)]


def _network(folder: Path, name: str) -> keras.Model:
    return keras.models.load_model(folder / f"{name}.keras", compile=False)


def _samples(path: Path) -> tuple[Stored, Ints]:
    with np.load(path, allow_pickle=False) as stored:
        return stored["x"], stored["y"]
