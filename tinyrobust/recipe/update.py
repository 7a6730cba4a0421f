"""`train.update = { kind = "..." }`: what happens in a training step around the gradient and the optimizer.

An update rule is a table here and a class in `training/`.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tinyrobust.recipe.table import Table


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


# With a second member: Annotated[Plain | ..., Field(discriminator="kind")], which pydantic refuses for one alone.
Update = Annotated[Plain, Field()]
