"""`[[train.objective]]`: what a network is trained for. Objectives add up.

An objective is a table here and a class in `training/objectives/`.
"""

from typing import Annotated, ClassVar, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from tinyrobust.recipe.ensembles import Adp, Ensemble
from tinyrobust.recipe.model_file import ModelFile
from tinyrobust.recipe.objective_table import Need, ObjectiveTable, check_together, needs
from tinyrobust.recipe.perturbation import Fgsm, NFgsm, Perturbation, PerturbationTable, Pgd
from tinyrobust.recipe.table import Count, Expression, Share, Width


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

    @property
    def temperature(self) -> float:
        """That its logits are divided by in training; 1 where it is trained for more than the labels."""
        match self.objectives:
            case (CrossEntropy(temperature=temperature),):
                return temperature
        return 1.0


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
        check_together(self.teacher_objectives or ())
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


class AttackingTable(ObjectiveTable):
    """What objectives have that change inputs against the network in every step."""

    perturbation: Perturbation = Field(
        examples=[Fgsm(kind="fgsm", epsilon=0.1)], description="How the inputs are changed that it learns on."
    )

    @property
    def needs(self) -> frozenset[Need]:
        """See the base class."""
        sound: frozenset[Need] = frozenset({"front-end"} if self.perturbation.domain == "waveform" else ())
        return sound | {"input-gradient"}

    @property
    def perturbed_by(self) -> PerturbationTable:
        """See the base class."""
        return self.perturbation


class Adversarial(AttackingTable):
    """Cross-entropy on inputs that are changed against the network in every step."""

    objective: ClassVar[str] = "tinyrobust.training.objectives.adversarial:Adversarial"
    kind: Literal["adversarial"]
    clean_statistics: bool = Field(
        True,
        description="Batch norm follows clean and attacked inputs, in turn. false: the examples alone, as published recipes of "
        "fast training have it; a step of fgsm is two passes then, not three.",
    )


class Trades(AttackingTable):
    """Cross-entropy on inputs as they are, and beta times how far the answers near them differ (Zhang et al. 2019)."""

    objective: ClassVar[str] = "tinyrobust.training.objectives.trades:Trades"
    kind: Literal["trades"]
    beta: float = Field(6.0, ge=0, description="Weight of the divergence; 0: cross-entropy alone. The authors' 1 / lambda.")
    perturbation: Perturbation = Field(
        Pgd(kind="pgd", epsilon=8 / 255, steps=10, start="gaussian"),
        description="How the inputs are found whose answers differ most; from the input itself there is no gradient.",
    )


class RobustTransferTable(TaughtTable, AttackingTable):
    """What objectives have by which a network learns the robustness of its teacher, on inputs that are changed against it.

    The teacher must be robust itself: the stage `teacher-check` measures it before the student trains.
    """

    perturbation: Perturbation = Field(
        Pgd(kind="pgd", epsilon=8 / 255, steps=10),
        description="Of what the student is given, in an L-inf ball: there the teacher is measured.",
    )

    @property
    def needs(self) -> frozenset[Need]:
        """See the base class."""
        return frozenset({"teacher", "features", "input-gradient"})

    @property
    def usual_teacher_temperature(self) -> float:
        """1: at a higher one its loss saturates when it is served, and its robustness is a mask."""
        return 1.0

    @property
    def epsilon(self) -> float:
        """The radius of the L-inf ball in which the teacher should be robust."""
        assert isinstance(self.perturbation, Fgsm | NFgsm | Pgd)
        return self.perturbation.epsilon

    @model_validator(mode="after")
    def _changes_what_the_teacher_sees(self) -> Self:
        if self.perturbation.kind not in ("fgsm", "n-fgsm", "pgd"):
            raise ValueError(
                "Expected a perturbation of what the network is given, in L-inf (fgsm, n-fgsm, pgd): the teacher's robustness "
                f"is measured there. Received: perturbation.kind = {self.perturbation.kind!r}. Use kind = 'adversarial' with "
                "it, beside kind = 'distillation'"
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
    perturbation: Perturbation = Field(Pgd(kind="pgd", epsilon=8 / 255, steps=10, start="gaussian"), description="As of ard.")


class Jacobian(ObjectiveTable):
    """Half the squared Frobenius norms of the Jacobians from what layers with weights read to the logits, estimated at random.

    A penalty: beside an objective that learns the labels. `weight` is the lambda of the literature.
    """

    objective: ClassVar[str] = "tinyrobust.training.objectives.jacobian:Jacobian"
    penalty: ClassVar[bool] = True
    kind: Literal["jacobian"]
    layers: Expression = Field(".*", description="Layers with weights whose inputs count: their whole names must match.")
    projections: int = Field(1, ge=1, le=64, description="Random directions among the logits, for every image looked at.")
    every: Count = Field(4, description="Every so many-th image of a batch is looked at; 1: all.")

    @property
    def needs(self) -> frozenset[Need]:
        """See the base class."""
        return frozenset({"features", "input-gradient"})


class DefensiveQuantization(ObjectiveTable):
    """Half the squared distances from orthogonality of the weights as they are deployed: no layer can amplify a change.

    A penalty: beside an objective that learns the labels. `weight` is the beta of the paper, which has 3e-4 and 6e-4.
    """

    objective: ClassVar[str] = "tinyrobust.training.objectives.defensive_quantization:DefensiveQuantization"
    penalty: ClassVar[bool] = True
    kind: Literal["defensive-quantization"]


Objective = Annotated[
    CrossEntropy | Distillation | Adversarial | Trades | Ard | Rslad | Jacobian | DefensiveQuantization | Ensemble | Adp,
    Field(discriminator="kind"),
]

for _taught in (Distillation, Ard, Rslad):
    _taught.model_rebuild()  # their teachers' objectives are of the union that they are in

LABELS: tuple[Objective, ...] = (CrossEntropy(kind="cross-entropy"),)
