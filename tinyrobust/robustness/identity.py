"""What the pieces of an evaluation belong to: everything that decides its figures, computed from the job."""

import hashlib
from typing import ClassVar

import keras
import numpy as np
from pydantic import JsonValue

from tinyrobust._version import __version__
from tinyrobust.attacks.target import InputRange
from tinyrobust.deploy.reading import Reading
from tinyrobust.records import Part, Record
from tinyrobust.robustness.distance import Array
from tinyrobust.robustness.job import EvaluationJob
from tinyrobust.robustness.subject import EvaluationTargets
from tinyrobust.robustness.subset import Subset


class TargetsIdentity(Part):
    """How the targets are made."""

    temperature: float | None
    input_range: InputRange
    reading: Reading
    passes: int
    front_end: dict[str, JsonValue] | None


class Identity(Record):
    """Everything that decides what an evaluation finds.

    Attributes:
        version: Of tinyrobust.
        model: SHA-256 of the file that is attacked.
        networks: SHA-256 of each Keras network given with it: its structure and weights.
        data: Fingerprint of the data set.
        samples: SHA-256 of the attacked images and their labels.
        settings: Epsilons, number of samples and so on.
        protocol: All attacks with their parameters.
        targets: How the targets are made.
        seed: Of every random draw.
    """

    SCHEMA: ClassVar[str] = "tinyrobust.evaluation/3"
    version: str
    model: str
    networks: dict[str, str]
    data: str
    samples: str
    settings: dict[str, JsonValue]
    protocol: dict[str, JsonValue]
    targets: TargetsIdentity
    seed: int


def identity(job: EvaluationJob, targets: EvaluationTargets, subset: Subset) -> Identity:
    """The identity of an evaluation: the same one for the worker processes that make its pieces.

    Args:
        job: The evaluation.
        targets: Fitted to the attacked samples.
        subset: The attacked samples.
    """
    subject, plan = targets.subject, job.plan
    networks = {str(place): network_digest(network) for place, network in enumerate(subject.networks)}
    if subject.surrogate is not None:
        networks["surrogate"] = network_digest(subject.surrogate)
    front_end = subject.front_end
    return Identity(
        version=__version__,
        model=targets.flashed.model_file.sha256,
        networks=networks,
        data=job.data.fingerprint,
        samples=digest(subset.image, subset.label),
        settings=plan.decisive_settings,
        # How far an attack is run on, and which corruptions there are, decides which pieces there are, not what is in them.
        protocol=plan.protocol.model_dump(mode="json", exclude={"convergence", "corruptions"}),
        targets=TargetsIdentity(
            temperature=targets.temperature,
            input_range=targets.flashed.input_range,
            reading=targets.flashed.model_file.reading,
            passes=targets.passes,
            front_end=front_end and front_end.model_dump(mode="json", include={"settings", "low", "high"}),
        ),
        seed=plan.seed,
    )


def digest(*arrays: Array) -> str:
    """SHA-256 of arrays: type, shape and content, in hex."""
    sha256 = hashlib.sha256()
    for array in arrays:
        sha256.update(f"{array.dtype} {array.shape} ".encode())
        sha256.update(np.ascontiguousarray(array).tobytes())
    return sha256.hexdigest()


def network_digest(model: keras.Model) -> str:
    """SHA-256 of a network's structure and weights, in hex; the same after saving and loading."""
    shapes = " ".join(f"{type(layer).__name__}:{layer.name}" for layer in model.layers)
    return digest(np.frombuffer(shapes.encode(), np.uint8), *model.get_weights())
