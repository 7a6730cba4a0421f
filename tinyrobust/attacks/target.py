"""What attacks ask of a network: typed protocols. Imports no TensorFlow.

The targets of this package conform to `Target`, those with gradients to `WhiteBox`. ART's own classifiers have `predict`,
`clip_values`, `input_shape` and `nb_classes`, which is all that an attack without gradients calls.
"""

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import tensorflow as tf

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
# What 0 and 1 become in a network's own units, low and high: one number for all channels, or one per channel.
InputRange = tuple[float, float] | tuple[tuple[float, ...], tuple[float, ...]]
# A compiled function of tensors.
Graph = Callable[..., Any]


class Target(Protocol):
    """Something that is attacked: it answers with scores. Inputs are float32 [n, *input_shape] within `clip_values`."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one sample."""

    @property
    def nb_classes(self) -> int:
        """How many classes it names, 2 at least."""

    @property
    def clip_values(self) -> tuple[npt.ArrayLike, npt.ArrayLike]:
        """The lowest and the highest input; 0 and 1 for the targets of this package."""

    @property
    def input_range(self) -> InputRange:
        """What 0 and 1 become in the network's own units."""

    @property
    def deterministic(self) -> bool:
        """Whether the same inputs get the same scores every time; False where it answers at random."""

    @property
    def queries(self) -> int:
        """Samples whose scores were asked for so far."""

    @property
    def forward_passes(self) -> int:
        """Samples that have gone forward through a network so far."""

    @property
    def backward_passes(self) -> int:
        """Samples whose gradient has been computed so far; 0 for a black box."""

    def predict(self, x: FloatArray) -> FloatArray:
        """Scores [n, classes], larger for likelier classes: the logits of a network, the outputs of a file."""

    def forget(self) -> None:
        """Forgets answers and rewinds random draws: what follows does not depend on what was asked before."""


@runtime_checkable
class Differentiable(Protocol):
    """Logits as TensorFlow ops, so that a whole attack is one graph.

    Attributes:
        graphs: Compiled functions of attacks on this target, which live as long as it does: an attack at another epsilon is not
            traced again. None: `logits` cannot be traced into a `tf.function`, attacks run eagerly.
    """

    graphs: dict[Hashable, Graph] | None

    def logits(self, x: "tf.Tensor") -> "tf.Tensor":
        """Logits [n, classes] of float32 inputs [n, ...]; `tf.GradientTape` differentiates through it. It does not count."""

    def count(self, forward: int = 0, backward: int = 0) -> None:
        """Notes that so many samples have gone forward and backward through `logits`."""

    def redraw(self, restart: int) -> None:
        """Told by an attack before each of its runs, which restart it is (from 0): repaired slopes are other ones then."""


class WhiteBox(Target, Differentiable, Protocol):
    """A target with gradients."""

    def loss_gradient(self, x: FloatArray, y: npt.ArrayLike) -> FloatArray:
        """The gradient [n, ...] of each sample's cross-entropy; `y` are classes [n] or one-hot rows [n, classes]."""
