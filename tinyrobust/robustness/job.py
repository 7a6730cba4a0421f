"""One evaluation as one record: what is attacked, on what data, how hard, and where the results go."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import keras

from tinyrobust.attacks.target import InputRange
from tinyrobust.data.arrays import Samples
from tinyrobust.data.speech.frontend_record import FrontendRecord
from tinyrobust.deploy.reading import Reading
from tinyrobust.progress import Progress, silent
from tinyrobust.robustness.attack_plan import AttackPlan
from tinyrobust.robustness.distance import Ints
from tinyrobust.robustness.units import Units


@dataclass(frozen=True, eq=False)
class Member:
    """A network that answers, alone or in an ensemble, and the artefact that was made from it.

    Attributes:
        network: Logits, quantized weights frozen. None: a twin is rebuilt from the artefact where its operators allow it.
        artefact: The `.tflite` that is flashed. None: that of this member is not attacked.
    """

    network: keras.Model | None
    artefact: Path | None


def members_of(tflite: Path, *networks: keras.Model) -> tuple[Member, ...]:
    """A file with the network that it was made from, if that is known, and networks that answer together with it."""
    first, *others = networks or (None,)
    return (Member(first, tflite), *(Member(network, None) for network in others))


@dataclass(frozen=True, eq=False)
class Subject:
    """What is attacked.

    Attributes:
        members: The networks that answer together and their artefacts. Only the first has one, always: of an ensemble, too,
            the file of the first member alone is attacked.
        surrogate: A network trained apart, for attacks on "surrogate"; it takes images in [0, 1].
        front_end: Of a spotter whose sound is attacked, before its front end.
        input_range: What pixel values 0 and 255 become in the file's input units; decided from file and data when absent.
        units: What was decided of them with the data, where they are no pixels.
        reading: What the outputs of the artefact mean; absent: scores of classes, and one sigmoid is two of them.
        temperature: That the network was distilled at; estimated from its logits when absent.
        remarks: What a reader of the figures must know besides, for the record's notes.
    """

    members: tuple[Member, ...]
    surrogate: keras.Model | None = None
    front_end: FrontendRecord | None = None
    input_range: InputRange | None = None
    units: Units | None = None
    reading: Reading | None = None
    temperature: float | None = None
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        artefacts = [member.artefact for member in self.members]
        if not artefacts or artefacts[0] is None or any(artefacts[1:]):
            raise ValueError(f"Expected an artefact of the first member, and of it alone. Received: {artefacts}")

    @property
    def tflite(self) -> Path:
        """The artefact of the first member."""
        artefact = self.members[0].artefact
        assert artefact is not None
        return artefact

    @property
    def networks(self) -> tuple[keras.Model, ...]:
        """Those that are known, in the order of the members."""
        return tuple(member.network for member in self.members if member.network is not None)

    def without_networks(self) -> Self:
        """The artefact alone."""
        return replace(self, members=members_of(self.tflite), surrogate=None)


@dataclass(frozen=True, eq=False)
class EvaluationData:
    """On what it is attacked.

    Attributes:
        name: Of the data set, for the record.
        fingerprint: Of the data set, for the record.
        samples: The test part: images or features, uint8, or float32 in [0, 1], [n, h, w, c], in memory or on disk; with a
            front end, clips, int16 [n, samples].
        labels: Its classes, int64 [n], as the model counts them.
        training_samples: Samples of another part and their classes, likewise, for attacks that learn; these are left out when
            absent.
        classes: How many classes the data have; not known when absent.
        unit: Of what an epsilon is a share, in words, where the samples are no pixels.
        per_unit: So much of [0, 1] is an L-inf radius of one in that unit: 1, but for standard deviations.
        notes: What a reader of the figures must know of them, for the record.
    """

    name: str
    fingerprint: str
    samples: Samples
    labels: Ints
    training_samples: tuple[Samples, Ints] | None = None
    classes: int | None = None
    unit: str = ""
    per_unit: float = 1.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Execution:
    """Where the results go, and what works on them.

    Attributes:
        output: Folder for the record, `per_sample.npz` and the pieces.
        fresh: Throw away what another evaluation left in `output`, instead of refusing it.
        jobs: Processes that attack at the same time, each with its share of the cores and a TensorFlow of its own (about 1 GB);
            the figures do not depend on it.
        progress: Called as progress(label, done, total).
    """

    output: Path
    fresh: bool = False
    jobs: int = 1
    progress: Progress = field(default=silent, repr=False)


@dataclass(frozen=True, eq=False)
class EvaluationJob:
    """One evaluation of one model.

    Attributes:
        subject: What is attacked.
        data: On what.
        plan: How hard.
        execution: Where.
    """

    subject: Subject
    data: EvaluationData
    plan: AttackPlan
    execution: Execution
