"""`[[train.objective]]`: what a network is trained for. Objectives add up.

An objective is a table here and a class in `training/objectives/`.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from tinyrobust.recipe.model_file import ModelFile
from tinyrobust.recipe.perturbation import Fgsm, Perturbation, PerturbationTable, Pgd
from tinyrobust.recipe.table import Count, Share, Table, Width

Need = Literal["activations", "features", "teacher", "input-gradient", "front-end"]


class ObjectiveTable(Table):
    """What all objectives have.

    Attributes:
        objective: The class, `module:class`, imported when a network is trained.
    """

    objective: ClassVar[str]
    weight: float = Field(1.0, gt=0, description="Factor in the sum of all objectives.")

    @property
    def needs(self) -> frozenset[Need]:
        """What it needs beside inputs, labels and logits.

        - "activations": what the hidden layers put out in the forward pass that made the logits;
        - "features": what the network itself is given, which is not the inputs where those are sound;
        - "teacher": a network that is trained before, in the stage `teacher`;
        - "input-gradient": gradients with respect to the inputs;
        - "front-end": sound for inputs, and a front end with gradients before the network.
        """
        return frozenset()

    @property
    def perturbed_by(self) -> PerturbationTable | None:
        """How its inputs are changed; None where they are taken as they are."""
        found: PerturbationTable | None = getattr(self, "perturbation", None)
        return found


def needs(objectives: Sequence[ObjectiveTable]) -> frozenset[Need]:
    """What objectives need, together."""
    return frozenset[Need]().union(*(objective.needs for objective in objectives))


class CrossEntropy(ObjectiveTable):
    """Cross-entropy with the labels."""

    objective: ClassVar[str] = "tinyrobust.training.objectives.cross_entropy:CrossEntropy"
    kind: Literal["cross-entropy"]
    temperature: float = Field(1.0, gt=0, description="Logits are divided by it.")


class Teaching(NamedTuple):
    """How teachers are trained: equal ones are the same teachers.

    Attributes:
        teachers: How many.
        epochs: Of each; None: as many as the student's.
        width: Their `network.width`; None: the student's.
        objectives: What they are trained for.
        file: Of the weights of one that is trained already; the rest but the width is of no account then.
    """

    teachers: int
    epochs: int | None
    width: float | None
    objectives: tuple[ObjectiveTable, ...]
    file: ModelFile | None = None


class TaughtTable(ObjectiveTable):
    """What objectives have that learn from teachers: float networks of the recipe's family, trained before."""

    temperature: float = Field(gt=0, examples=[20.0], description="Of the soft labels.")
    teacher_epochs: Count | None = Field(None, description="Epochs of the teacher; as many as the student's when absent.")
    teacher_width: Width | None = Field(None, description="The teacher's network.width; the student's when absent.")
    teacher_temperature: float | None = Field(
        None,
        gt=0,
        description="Of the cross-entropy that the teacher is trained with. When absent, the student's for distillation, and 1 "
        "for ard and rslad: ordinary training.",
    )
    teachers: int = Field(1, ge=1, le=16, description="So many, of this recipe's seed and the next; their logits are averaged.")
    teacher_objectives: tuple["Objective", ...] | None = Field(
        None,
        min_length=1,
        description="What the teacher is trained for, instead of cross-entropy at teacher_temperature: adversarial, for a "
        "robust one.",
    )
    teacher_file: ModelFile | None = Field(
        None,
        description="The weights of a trained teacher: float_model.keras, teacher_model.keras (of one teacher) or, of a float "
        "network, model.keras of a run with the same [network], of teacher_width where that is given.",
    )

    @property
    def needs(self) -> frozenset[Need]:
        """See the base class."""
        return frozenset({"teacher", "features"})

    @property
    def teaching(self) -> Teaching:
        """How its teachers are trained."""
        labels = CrossEntropy(kind="cross-entropy", temperature=self.teacher_temperature or self.usual_teacher_temperature)
        return Teaching(
            self.teachers, self.teacher_epochs, self.teacher_width, self.teacher_objectives or (labels,), self.teacher_file
        )

    @property
    def usual_teacher_temperature(self) -> float:
        """Of the teacher's cross-entropy where no key says it."""
        return self.temperature

    @model_validator(mode="after")
    def _teachers_have_no_teachers(self) -> Self:
        if "teacher" in needs(self.teacher_objectives or ()):
            kinds = ", ".join(objective.kind for objective in self.teacher_objectives or ())
            raise ValueError(f"Expected teacher_objectives without teachers of their own. Received: {kinds}")
        domains = {one.perturbed_by.domain for one in self.teacher_objectives or () if one.perturbed_by}
        if len(domains) > 1:
            raise ValueError("Expected teacher_objectives on the network's input or on sound, not both. Received: both")
        return self

    @model_validator(mode="after")
    def _teachers_are_trained_in_one_way(self) -> Self:
        if self.teacher_objectives and self.teacher_temperature is not None:
            raise ValueError(
                "Expected teacher_temperature or teacher_objectives, not both: an objective of kind cross-entropy has its own "
                f"temperature. Received: teacher_temperature = {self.teacher_temperature:g}"
            )
        of_training = {
            "teacher_epochs": self.teacher_epochs,
            "teacher_temperature": self.teacher_temperature,
            "teacher_objectives": self.teacher_objectives,
            "teachers": self.teachers if self.teachers > 1 else None,
        }
        given = [key for key, value in of_training.items() if value is not None]
        if self.teacher_file and given:
            raise ValueError(
                "Expected nothing about the training of a teacher beside teacher_file: the file has one that is trained. "
                f"Received: {', '.join(given)}. Leave out either"
            )
        return self


class Distillation(TaughtTable):
    """The network learns the soft labels of a float teacher at temperature T, and is deployed at T = 1.

    With a temperature alone this is defensive distillation (Papernot et al. 2016): one teacher of the student's size, itself
    trained at T. Teachers that are wider, several, and trained at 1 make a small network better (Hinton et al. 2015).
    """

    objective: ClassVar[str] = "tinyrobust.training.objectives.distillation:Distillation"
    kind: Literal["distillation"]


class Adversarial(ObjectiveTable):
    """Cross-entropy on inputs that are changed against the network in every step."""

    objective: ClassVar[str] = "tinyrobust.training.objectives.adversarial:Adversarial"
    kind: Literal["adversarial"]
    perturbation: Perturbation = Field(examples=[Fgsm(kind="fgsm", epsilon=0.1)])

    @property
    def needs(self) -> frozenset[Need]:
        """See the base class."""
        sound: frozenset[Need] = frozenset({"front-end"} if self.perturbation.domain == "waveform" else ())
        return sound | {"input-gradient"}


class RobustTransferTable(TaughtTable):
    """What objectives have by which a network learns the robustness of its teacher, on inputs that are changed against it.

    The teacher must be robust itself: the stage `teacher-check` measures it before the student trains.
    """

    perturbation: Perturbation = Field(
        Pgd(kind="pgd", epsilon=8 / 255, steps=10),
        description="Of the student's inputs: images, or features of clips; sound (snr) is not supported.",
    )

    @property
    def needs(self) -> frozenset[Need]:
        """See the base class."""
        return super().needs | {"input-gradient"}

    @property
    def usual_teacher_temperature(self) -> float:
        """1: at a higher one its loss saturates when it is served, and its robustness is a mask."""
        return 1.0

    @property
    def epsilon(self) -> float:
        """The radius of the L-inf ball in which the teacher should be robust."""
        assert isinstance(self.perturbation, Fgsm | Pgd)
        return self.perturbation.epsilon

    @model_validator(mode="after")
    def _changes_what_the_teacher_sees(self) -> Self:
        if self.perturbation.kind not in ("fgsm", "pgd"):
            raise ValueError(
                "Expected a perturbation of what the network is given (fgsm, pgd): the teacher's robustness is measured there. "
                f"Received: perturbation.kind = {self.perturbation.kind!r}. Use kind = 'adversarial' with it, beside "
                "kind = 'distillation'"
            )
        return self


class Ard(RobustTransferTable):
    """Adversarially robust distillation (Goldblum et al. 2020): the teacher's soft labels of clean inputs, on attacked ones."""

    objective: ClassVar[str] = "tinyrobust.training.objectives.ard:Ard"
    kind: Literal["ard"]
    temperature: float = Field(30.0, gt=0, description="Of the soft labels.")
    alpha: Share = Field(
        1.0, description="Share of the soft labels; the rest is cross-entropy with the labels on clean inputs."
    )


class Rslad(RobustTransferTable):
    """Robust soft label adversarial distillation (Zi et al. 2021): no labels, the teacher's soft ones on both inputs."""

    objective: ClassVar[str] = "tinyrobust.training.objectives.rslad:Rslad"
    kind: Literal["rslad"]
    temperature: float = Field(1.0, gt=0, description="Of the soft labels; the method's is 1.")
    alpha: Share = Field(5 / 6, description="Share of the attacked inputs; the rest is of the clean ones.")


Objective = Annotated[CrossEntropy | Distillation | Adversarial | Ard | Rslad, Field(discriminator="kind")]

for _taught in (Distillation, Ard, Rslad):
    _taught.model_rebuild()  # their teachers' objectives are of the union that they are in

LABELS: tuple[Objective, ...] = (CrossEntropy(kind="cross-entropy"),)
