"""What every kind of attack states; the kinds themselves are in `kinds.py` and `kinds_sound.py`."""

import abc
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from tinyrobust.robustness.robustness_record import Norm

# Whose gradients or scores make the examples. "keras" is the network as it is; the next three are other views of it.
ViewName = Literal["keras", "keras/T", "repaired", "bpda", "int8", "surrogate"]
WhiteView = Literal["keras", "keras/T", "repaired", "bpda", "surrogate"]
TargetName = Literal["keras", "int8"]
BallNorm = Literal["linf", "l2", "l1", "snr"]
Radii = tuple[Annotated[float, Field(gt=0)], ...]


class AttackKind(BaseModel, abc.ABC):
    """What every attack states.

    `on` is the target, or the view of one, whose gradients or scores make the examples. They are judged on the target itself
    and on every one in `transfer_to`.

    Attributes:
        gradients: Whether it uses gradients.
        minimal: Whether it looks for the nearest adversarial example at any distance: it runs once, and its distances are
            compared with every epsilon.
        learns: Whether it learns what it does on samples of another part, and then does it to all that are attacked.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    gradients: ClassVar[bool] = True
    minimal: ClassVar[bool] = False
    learns: ClassVar[bool] = False
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    on: ViewName = "keras"
    transfer_to: tuple[TargetName, ...] = ()
    norm: Norm = "linf"
    epsilons: Radii = Field((), description="Radii of this attack; those of the settings in its norm when empty.")
    samples: int | None = Field(None, ge=1, description="For slow attacks: only the first so many of the attacked samples.")

    def parameters(self) -> dict[str, float | int | str | bool]:
        """Everything that decides what the attack does, for the record."""
        return self.model_dump(exclude={"name", "on", "transfer_to", "norm", "epsilons", "samples"}, exclude_none=True)

    def harder(self) -> Self | None:
        """The same attack with five times the steps and one more restart; None where it has no steps."""
        return None

    @abc.abstractmethod
    def build(self, estimator: Any, epsilon: float, *, seed: int, drop: bool) -> Any:
        """The attack at one epsilon.

        Args:
            estimator: The target.
            epsilon: The radius; for an attack that looks for the nearest example, the largest radius of interest.
            seed: Of its random draws.
            drop: Whether a sample may be left alone as soon as it is broken: not where the examples must transfer.
        """


class GradientKind(AttackKind):
    """An attack on gradients."""

    on: WhiteView = "keras"
