"""What objectives are and what they see."""

import abc
import pkgutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import keras

from tinyrobust.gradients import Tensor
from tinyrobust.recipe.objective_table import Need, ObjectiveTable


def _as_they_are(inputs: Tensor) -> Tensor:
    return inputs


@dataclass(frozen=True)
class Batch:
    """What an objective sees.

    Attributes:
        inputs: Float images [n, h, w, c] in [0, 1]; where a network learns from sound, clips [n, 16000] in [0, 1].
        labels: Class indices [n].
        logits: The network's outputs [n, classes]; None in training where objectives attack and none `sees_clean`.
        network: The network itself, for objectives that call it again or look inside.
        training: False when the value is only monitored, on validation images (or features).
        features: What the network was given, where an objective needs "features", else None.
        activations: What the hidden layers put out, by layer name, where an objective needs "activations", else None.
        teacher_logits: The teacher's outputs [n, classes] for the features, where an objective needs a "teacher", else None.
            One pass serves all objectives of a step; nothing is differentiated through it.
        front_end: From inputs to what the network is given; images, and features, it leaves as they are.
    """

    inputs: Tensor
    labels: Tensor
    logits: Tensor
    network: keras.Model
    training: bool
    features: Tensor | None = None
    activations: Mapping[str, Tensor] | None = None
    teacher_logits: Tensor | None = None
    front_end: Callable[[Tensor], Tensor] = _as_they_are

    def logits_of(self, inputs: Tensor, *, training: bool) -> Tensor:
        """The network's outputs [n, classes] for other inputs of the same kind."""
        return self.network(self.front_end(inputs), training=training)


@dataclass(frozen=True)
class Supplies:
    """What objectives are built with beside their own tables.

    Attributes:
        seed: Fixes random draws.
        label_smoothing: Share of the target spread evenly over the classes, in [0, 1).
        teacher: A trained network with logits, for objectives that need a "teacher".
    """

    seed: int = 0
    label_smoothing: float = 0.0
    teacher: keras.Model | None = None


class Objective(abc.ABC):
    """A term of the training loss, built from its table.

    Attributes:
        name: Of its curve in the history.
        weight: Factor in the sum.
        needs: See `ObjectiveTable.needs`: batches have features and activations only where an objective needs them.
        sees_clean: Whether it looks at what the network makes of the inputs as they are (`Batch.logits`, `Batch.activations`).
            Where others attack and none does, the learner leaves out that pass: a step of FGSM costs two passes, not three,
            batch-norm statistics are those of examples, and accuracy in training is that on them.
        teacher: The network that an objective learns from, which the learner asks; it is neither trained nor stored.
        seed_generator: Of an objective that draws at random: the learner stores its state, so that a resumed run draws on.

    Args:
        table: The objective's settings.
        supplies: What is not its own.
    """

    name: str = "objective"
    weight: float = 1.0
    needs: frozenset[Need] = frozenset()
    sees_clean: bool = True
    teacher: keras.Model | None = None
    seed_generator: keras.random.SeedGenerator | None = None

    def __init__(self, table: ObjectiveTable, supplies: Supplies) -> None:
        del supplies
        self.weight = table.weight
        self.needs = table.needs

    @abc.abstractmethod
    def __call__(self, batch: Batch) -> Tensor:
        """The mean over the batch, a scalar; what the optimizer makes small."""


def build_objectives(tables: Sequence[ObjectiveTable], supplies: Supplies) -> list[Objective]:
    """The objectives of these tables, in order, each with a name of its own: `adversarial`, `adversarial_2`, ...

    The first draws by the seed of `supplies`, every further one by the next seed.
    """
    seen: Counter[str] = Counter()
    objectives: list[Objective] = []
    for number, table in enumerate(tables):
        objective = pkgutil.resolve_name(table.objective)(table, replace(supplies, seed=supplies.seed + number))
        name = str(table.model_dump()["kind"]).replace("-", "_")
        seen[name] += 1
        objective.name = name if seen[name] == 1 else f"{name}_{seen[name]}"
        objectives.append(objective)
    return objectives
