"""Small quantized neural networks for microcontrollers that are hard to fool, with honest evidence.

The command line and this module do the same:

    >>> import tinyrobust
    >>> run = tinyrobust.run("digits-stq")
    >>> run.robustness.headline.value, run.footprint.arena.value
    >>> tinyrobust.attack("somebodys.tflite", data="cifar10")
    >>> tinyrobust.footprint("somebodys.tflite")
    >>> tinyrobust.emulate("somebodys.tflite", board="mps2-an386").instructions
"""

import importlib
from typing import TYPE_CHECKING, Any

from tinyrobust._version import __version__

if TYPE_CHECKING:
    from tinyrobust.footprint.measure import footprint
    from tinyrobust.pipeline.attack import attack
    from tinyrobust.pipeline.corruptions import corrupt
    from tinyrobust.pipeline.emulate import emulate
    from tinyrobust.pipeline.run import export, report, run, train
    from tinyrobust.pipeline.verify import verify

__all__ = ["__version__", "attack", "corrupt", "emulate", "export", "footprint", "report", "run", "train", "verify"]

# Resolved on first use: `import tinyrobust` and `tinyrobust --help` do not wait for TensorFlow.
_WHERE = {
    "attack": "tinyrobust.pipeline.attack",
    "corrupt": "tinyrobust.pipeline.corruptions",
    "emulate": "tinyrobust.pipeline.emulate",
    "export": "tinyrobust.pipeline.run",
    "footprint": "tinyrobust.footprint.measure",
    "report": "tinyrobust.pipeline.run",
    "run": "tinyrobust.pipeline.run",
    "train": "tinyrobust.pipeline.run",
    "verify": "tinyrobust.pipeline.verify",
}


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'tinyrobust' has no attribute {name!r}")
