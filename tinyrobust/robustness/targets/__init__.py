"""Evaluation targets: what is attacked. Each is an ART estimator on inputs in [0, 1] and conforms to `attacks.target.Target`.

| target | logits are | gradients are |
|---|---|---|
| `KerasTarget` | the network's | its own; `transform` and `repaired` mend vanishing ones |
| `StochasticTarget` | the mean over k random passes | of that mean (EOT) |
| `EnsembleTarget` | the mean of the members, of logits or of probabilities | of that mean |
| `BpdaTarget` | those of a `.tflite` | those of a network that answers like it: its own, or a surrogate's |
| `Int8Target` | the outputs of a `.tflite` | none: a black box |

The input range of each is stated (`input_range`: what 0 and 1 become in the network's own units), so that an epsilon means the
same everywhere.
"""

from tinyrobust.attacks.target import InputRange
from tinyrobust.robustness.ranges import normalised
from tinyrobust.robustness.targets.bpda import BpdaTarget
from tinyrobust.robustness.targets.ensemble import EnsembleTarget
from tinyrobust.robustness.targets.flashed import Int8Target, Recheck, int8
from tinyrobust.robustness.targets.front_end import SoundFrontEnd
from tinyrobust.robustness.targets.network import KerasTarget
from tinyrobust.robustness.targets.stochastic import Passes, StochasticTarget, doubled

__all__ = [
    "BpdaTarget",
    "EnsembleTarget",
    "InputRange",
    "Int8Target",
    "KerasTarget",
    "Passes",
    "Recheck",
    "SoundFrontEnd",
    "StochasticTarget",
    "doubled",
    "int8",
    "normalised",
]
