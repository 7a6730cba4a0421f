"""What every attack states; the attacks themselves are in the files beside this one."""

import math
import pkgutil
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self, get_args

from pydantic import Field

from tinyrobust import toml
from tinyrobust.attacks.target import Target
from tinyrobust.errors import RecipeError
from tinyrobust.recipe.table import Table

if TYPE_CHECKING:
    from tinyrobust.attacks.base import BatchedAttack

# "snr": the L2 length of what was added, as a share of the clip's own; "shift": milliseconds that a clip was moved in time.
Norm = Literal["linf", "l2", "l1", "l0", "snr", "shift"]
BallNorm = Literal["linf", "l2", "l1", "snr"]
# Whose gradients or scores make the examples. "keras" is the network as it is; the next three are other views of
# it; "learned" is what a network learned from the file's answers.
ViewName = Literal["keras", "keras/T", "repaired", "bpda", "learned", "int8", "surrogate"]
WhiteView = Literal["keras", "keras/T", "repaired", "bpda", "learned", "surrogate"]
TargetName = Literal["keras", "int8"]
Radii = tuple[Annotated[float, Field(gt=0)], ...]


class AttackSpec(Table):
    """What every attack states: here and nowhere else its parameters, their defaults and their ranges.

    `on` is the target, or the view of one, whose gradients or scores make the examples. They are judged on the target itself
    and on every one in `transfer_to`.

    Attributes:
        implementation: The attack's class, as "module:attribute"; imported when the attack is built.
        gradients: Whether it uses gradients.
        minimal: Whether it looks for the nearest adversarial example at any distance: it runs once, and its distances are
            compared with every epsilon.
        learns: Whether it learns what it does on samples of another part, and then does it to all that are attacked.
        targetable: Whether it can be sent to a class, instead of away from one.
    """

    implementation: ClassVar[str]
    gradients: ClassVar[bool] = True
    minimal: ClassVar[bool] = False
    learns: ClassVar[bool] = False
    targetable: ClassVar[bool] = True
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    on: ViewName = "keras"
    transfer_to: tuple[TargetName, ...] = ()
    norm: Norm = "linf"
    epsilons: Radii = Field((), description="Radii of this attack; those of the settings in its norm when empty.")
    samples: int | None = Field(None, ge=1, description="For slow attacks: only the first so many of the attacked samples.")

    @classmethod
    def of(cls, **fields: object) -> Self:
        """The spec with these fields, in Python; it is named after its kind where it gets no name.

        Raises:
            RecipeError: A field is unknown or out of its range; every one is listed.
        """
        (kind,) = get_args(cls.model_fields["kind"].annotation)
        return toml.validated(cls, {"kind": kind, "name": kind, **fields}, f"The attack {kind!r}", RecipeError)

    @classmethod
    def parameter_names(cls) -> list[str]:
        """The fields that decide what the attack does, `norm` apart."""
        return [name for name in cls.model_fields if name not in AttackSpec.model_fields and name != "kind"]

    def parameters(self) -> dict[str, float | int | str | bool]:
        """Everything that decides what the attack does, for the record."""
        return self.model_dump(exclude=set(AttackSpec.model_fields), exclude_none=True)

    def longer(self, factor: int) -> Self | None:
        """The same attack with `factor` times the steps; None where it has no steps."""
        del factor
        return None

    def harder(self, factor: int = 5) -> Self | None:
        """The same attack with `factor` times the steps and one more restart; None where it has no steps."""
        del factor
        return None

    def build(
        self,
        estimator: Target,
        epsilon: float = math.inf,
        *,
        seed: int = 0,
        drop: bool = True,
        targeted: bool = False,
        batch_size: int = 256,
    ) -> "BatchedAttack[Self]":
        """The attack at one epsilon.

        Args:
            estimator: The target, an ART classifier.
            epsilon: The radius; for an attack that looks for the nearest example, the largest radius of interest.
            seed: Of its random draws.
            drop: Whether a sample may be left alone as soon as it is broken: not where the examples must transfer.
            targeted: Whether `y` of `generate` are the classes to reach rather than those to leave.
            batch_size: Samples that are attacked side by side.

        Raises:
            ModelFileError: The attack needs gradients, and the target has none.
            RecipeError: The attack cannot be run on this target, or not at this epsilon.
        """
        attack: BatchedAttack[Self] = pkgutil.resolve_name(self._implementation(estimator))(
            estimator, self, epsilon=epsilon, seed=seed, drop=drop, targeted=targeted, batch_size=batch_size
        )
        return attack

    def _implementation(self, estimator: Target) -> str:  # noqa: ARG002 - what it attacks may decide
        return self.implementation


class GradientSpec(AttackSpec):
    """An attack on gradients."""

    on: WhiteView = "keras"


class ScoreSpec(AttackSpec):
    """An attack on scores or decisions: a black box is enough."""

    gradients: ClassVar[bool] = False
