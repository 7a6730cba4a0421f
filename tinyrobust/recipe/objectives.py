"""`[[train.objective]]`: what a network is trained for. Objectives add up.

An objective is a table here and a class in `training/objectives/`.
"""

from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import Field

from tinyrobust.recipe.perturbation import Fgsm, Perturbation, Pgd
from tinyrobust.recipe.table import Count, Expression, Table, Width

Need = Literal["activations", "features", "teacher", "input-gradient", "front-end"]


class ObjectiveTable(Table):
    """What all objectives have.

    Attributes:
        objective: The class, `module:class`, imported when a network is trained.
        penalty: Whether it teaches nothing, and can only stand beside an objective that does.
    """

    objective: ClassVar[str]
    penalty: ClassVar[bool] = False
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
        temperature: That they are trained at.
    """

    teachers: int
    epochs: int | None
    width: float | None
    temperature: float


class TaughtTable(ObjectiveTable):
    """What objectives have that learn from teachers: float networks of the recipe's family, trained before."""

    temperature: float = Field(gt=0, examples=[20.0], description="Of the soft labels.")
    teacher_epochs: Count | None = Field(None, description="Epochs of the teacher; as many as the student's when absent.")
    teacher_width: Width | None = Field(None, description="The teacher's network.width; the student's when absent.")
    teacher_temperature: float | None = Field(
        None, gt=0, description="That the teacher is trained at; the student's when absent, 1 for ordinary training."
    )
    teachers: int = Field(1, ge=1, le=16, description="So many, of this recipe's seed and the next; their logits are averaged.")

    @property
    def needs(self) -> frozenset[Need]:
        """See the base class."""
        return frozenset({"teacher", "features"})

    @property
    def teaching(self) -> Teaching:
        """How its teachers are trained."""
        temperature = self.teacher_temperature or self.temperature
        return Teaching(self.teachers, self.teacher_epochs, self.teacher_width, temperature)


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


class Adversarial(AttackingTable):
    """Cross-entropy on inputs that are changed against the network in every step."""

    objective: ClassVar[str] = "tinyrobust.training.objectives.adversarial:Adversarial"
    kind: Literal["adversarial"]
    clean_statistics: bool = Field(
        False, description="Batch norm follows the inputs as they are, too: half as much again as a step of fgsm costs without."
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
    CrossEntropy | Distillation | Adversarial | Trades | Jacobian | DefensiveQuantization, Field(discriminator="kind")
]

LABELS: tuple[Objective, ...] = (CrossEntropy(kind="cross-entropy"),)
