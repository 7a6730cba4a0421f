"""How hard a model is attacked: attacks, radii, number of samples and seed of one evaluation."""

from collections.abc import Mapping
from typing import Self

from pydantic import JsonValue, model_validator

from tinyrobust.attacks.specs import AttackSpec, Norm
from tinyrobust.errors import RecipeError
from tinyrobust.recipe.robustness import Robustness, Waveform, noise_ratio
from tinyrobust.records import Part
from tinyrobust.robustness.protocol import Protocol, of_attacks
from tinyrobust.robustness.robustness_record import Domain


class AttackPlan(Part):
    """The attacks of an evaluation and their radii, of features and of sound alike.

    Attributes:
        settings: The recipe's table; of sound, its `waveform` counts.
        protocol: The attacks.
        seed: Fixes the attacked samples and every attack.
        domain: What is attacked.

    Raises:
        RecipeError: Sound is to be attacked, but there are no settings for it.
    """

    settings: Robustness
    protocol: Protocol
    seed: int
    domain: Domain = "features"

    @classmethod
    def of(cls, settings: Robustness, seed: int, domain: Domain) -> Self:
        """The plan that a recipe's table asks for, with the protocol that it names.

        Raises:
            RecipeError: There is no such protocol of attacks, or there are no settings for sound.
        """
        sound = settings.waveform if domain == "waveform" else None
        protocol = of_attacks((sound or settings).protocol)
        return cls(settings=settings, protocol=protocol, seed=seed, domain=domain)

    @model_validator(mode="after")
    def _sound_has_settings(self) -> Self:
        if self.domain == "waveform" and self.settings.waveform is None:
            raise RecipeError("Expected settings for attacks on sound, [robustness.waveform]. Received: none")
        return self

    @property
    def epsilons(self) -> Mapping[Norm, tuple[float, ...]]:
        """Radii by norm, rising, for attacks that have none of their own."""
        if sound := self._sound:
            return {
                "linf": sound.epsilons,
                "snr": tuple(noise_ratio(db) for db in sound.snr_db),
                "shift": tuple(float(ms) for ms in sound.shift_ms),
            }
        return {"linf": self.settings.epsilons, "l2": self.settings.l2, "l1": self.settings.l1, "l0": self.settings.l0}

    def epsilons_of(self, attack: AttackSpec) -> tuple[float, ...]:
        """The radii of an attack: its own, or those of its norm."""
        return attack.epsilons or self.epsilons[attack.norm]

    @property
    def headline_norm(self) -> Norm:
        """In which the headline's epsilon is a radius."""
        return "snr" if self._sound else "linf"

    @property
    def headline_epsilon(self) -> float:
        """The epsilon of the headline."""
        sound = self._sound
        return noise_ratio(sound.headline_snr_db) if sound else self.settings.headline

    @property
    def samples(self) -> int:
        """How many samples are attacked at most."""
        return (self._sound or self.settings).samples

    @property
    def grid(self) -> bool:
        """Whether examples are tried rounded to the sensor's 8 bits too; those of sound are 16-bit samples anyway."""
        return self.settings.grid and not self._sound

    @property
    def suffix(self) -> str:
        """What the files of the evaluation have in their names."""
        return "-waveform" if self._sound else ""

    @property
    def decisive_settings(self) -> dict[str, JsonValue]:
        """What decides the figures besides the protocol, for the identity of an evaluation."""
        if sound := self._sound:
            return sound.model_dump(mode="json", exclude={"protocol"})
        return self.settings.model_dump(mode="json", exclude={"protocol", "corruptions", "waveform", "members"})

    @property
    def _sound(self) -> Waveform | None:
        return self.settings.waveform if self.domain == "waveform" else None
