"""`train.update = { kind = "..." }`: what happens in a training step around the gradient and the optimizer.

An update rule is a table here and a class in `training/`.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tinyrobust.recipe.table import Share, Table


class UpdateTable(Table):
    """What all update rules have.

    Attributes:
        rule: The class, `module:class`, imported when a network is trained.
    """

    rule: ClassVar[str]


class Plain(UpdateTable):
    """The gradient at the weights as they are, then the optimizer."""

    rule: ClassVar[str] = "tinyrobust.training.update:PlainStep"
    kind: Literal["plain"]


class Awp(UpdateTable):
    """The gradient at weights that are moved against the network (adversarial weight perturbation, Wu et al. 2020)."""

    rule: ClassVar[str] = "tinyrobust.training.awp:WeightPerturbation"
    kind: Literal["awp"]
    gamma: float = Field(
        5e-3, ge=0, le=1, description="How far each layer's latent weights are moved, as a share of their norm."
    )
    warmup: Share = Field(0.0, description="Share of the steps before the first in which they are moved.")


Update = Annotated[Plain | Awp, Field(discriminator="kind")]
