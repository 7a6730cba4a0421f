"""teacher.json: how robust the teacher is whose robustness a network is to learn."""

import math
from typing import ClassVar

from pydantic import Field

from tinyrobust.records import Part, Record

TEACHER = "teacher.json"
_ROBUST = 1 / 3  # of the clean accuracy: a network trained on clean inputs keeps less, adversarially trained ones keep more


class TeacherRobustness(Part):
    """How it stands in one ball.

    Attributes:
        epsilon: Radius, L-inf, in input units ([0, 1] for images).
        accuracy: Share of the images that it is still right about, 0 to 1.
    """

    epsilon: float
    accuracy: float


class TeacherRecord(Record):
    """What was measured before the student trains. A warning, no evidence: it is one attack of few steps.

    Attributes:
        images: So many validation images.
        accuracy: Share of them that it is right about, 0 to 1.
        chance: What naming one class for every image would reach: the share of the most frequent one.
        steps: Of PGD, from a random point of the ball.
        robust: At every radius that an objective asks for.
    """

    SCHEMA: ClassVar[str] = "tinyrobust.teacher/1"
    images: int = Field(ge=1)
    accuracy: float
    chance: float
    steps: int
    robust: tuple[TeacherRobustness, ...]

    @property
    def in_words(self) -> str:
        """The figures in a line."""
        left = ", ".join(f"{one.accuracy:.1%} under PGD-{self.steps} at {one.epsilon:.4g}" for one in self.robust)
        return f"{self.accuracy:.1%} of {self.images} validation images right, {left}"

    @property
    def at_chance(self) -> bool:
        """Whether it is no better than naming one class, by two standard errors."""
        return self.accuracy <= self.chance + 2 * math.sqrt(self.chance * (1 - self.chance) / self.images)

    @property
    def warnings(self) -> list[str]:
        """Why a student may learn nothing of it, and what to do."""
        if self.at_chance:
            return [
                f"The teacher is at chance: {self.in_words}, where one class for all would reach {self.chance:.1%}. "
                "Train it longer (teacher_epochs), or at teacher_temperature = 1."
            ]
        weak = [one for one in self.robust if one.accuracy < _ROBUST * self.accuracy]
        if not weak:
            return []
        return [
            f"The teacher is not robust: {self.in_words}. A student cannot learn from it what it lacks. Give it "
            'teacher_objectives = [{ kind = "adversarial", perturbation = { kind = "pgd", epsilon = '
            f"{max(one.epsilon for one in weak):.4g} }} }}], or a robust network as teacher_file."
        ]
