"""What an evaluation measures: in which domain, at which radii, with which headline."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tinyrobust.attacks.specs import Norm
from tinyrobust.errors import RecipeError
from tinyrobust.recipe.robustness import Robustness, Waveform, noise_ratio
from tinyrobust.robustness.robustness_record import Domain


@dataclass(frozen=True)
class Scope:
    """The settings of an evaluation, whichever its domain.

    Attributes:
        domain: What is attacked.
        radii: By norm, rising, for attacks that have none of their own.
        norm: Of the headline.
        headline: The epsilon of the headline.
        samples: How many are attacked.
        grid: Whether examples are tried rounded to the sensor's 8 bits too.
        asked: The settings as the recipe has them, for the identity of an evaluation.
    """

    domain: Domain
    radii: Mapping[Norm, tuple[float, ...]]
    norm: Norm
    headline: float
    samples: int
    grid: bool
    asked: dict[str, Any]

    @property
    def suffix(self) -> str:
        """What the files of the evaluation have in their names."""
        return "-waveform" if self.domain == "waveform" else ""


def scope(settings: Robustness, *, sound: bool) -> Scope:
    """The scope that a recipe asks for.

    Raises:
        RecipeError: Sound is to be attacked, but there are no settings for it.
    """
    if not sound:
        radii: dict[Norm, tuple[float, ...]] = {
            "linf": settings.epsilons,
            "l2": settings.l2,
            "l1": settings.l1,
            "l0": settings.l0,
        }
        asked = settings.model_dump(mode="json", exclude={"protocol", "waveform"})
        return Scope("features", radii, "linf", settings.headline, settings.samples, settings.grid, asked)
    if settings.waveform is None:
        raise RecipeError("Expected settings for attacks on sound, [robustness.waveform]. Received: none")
    return _of_sound(settings.waveform)


def _of_sound(settings: Waveform) -> Scope:
    radii: dict[Norm, tuple[float, ...]] = {
        "linf": settings.epsilons,
        "snr": tuple(noise_ratio(db) for db in settings.snr_db),
        "shift": tuple(float(ms) for ms in settings.shift_ms),
    }
    asked = settings.model_dump(mode="json", exclude={"protocol"})
    return Scope("waveform", radii, "snr", noise_ratio(settings.headline_snr_db), settings.samples, False, asked)
