"""Specs: a table for every attack that a protocol can list, with all its parameters. Imports neither TensorFlow nor ART.

To add an attack, add its table to one of these files and its name to the union at the end of that file. In Python,
`Pgd.of(steps=20).build(target, 0.1).generate(x, y)`.
"""

from typing import Annotated

from pydantic import Field

from tinyrobust.attacks.specs.base import AttackSpec, BallNorm, Norm
from tinyrobust.attacks.specs.black_box import BlackBox, Boundary, HopSkipJump, Noise, Square, Zoo
from tinyrobust.attacks.specs.gradient import Apgd, ApgdT, Fgsm, Gradient, Loss, Pgd
from tinyrobust.attacks.specs.nearest import CarliniWagner, DeepFool, Fab, Nearest
from tinyrobust.attacks.specs.sound import Shift, Sound, Universal

# The registry of the seam: pydantic tells the tables apart by their kind.
Attack = Annotated[Gradient | Nearest | BlackBox | Sound, Field(discriminator="kind")]

__all__ = [
    "Apgd",
    "ApgdT",
    "Attack",
    "AttackSpec",
    "BallNorm",
    "Boundary",
    "CarliniWagner",
    "DeepFool",
    "Fab",
    "Fgsm",
    "HopSkipJump",
    "Loss",
    "Noise",
    "Norm",
    "Pgd",
    "Shift",
    "Square",
    "Universal",
    "Zoo",
]
