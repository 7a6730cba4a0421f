"""Update rules: what happens in a training step around the gradient and the optimizer."""

import pkgutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from tinyrobust.gradients import Tensor
from tinyrobust.recipe.update import UpdateTable

if TYPE_CHECKING:
    from tinyrobust.training.learner import Learner

Logs = Mapping[str, Tensor]


class UpdateRule(Protocol):
    """Wraps the training step, for instance to take the gradient at other weights (AWP: Wu et al. 2020, arXiv 2004.05884).

    Rules run under TensorFlow. Under JAX, Keras keeps the state of a step outside of the model, where a rule cannot reach it:
    there only the plain step is supported.
    """

    def step(self, learner: "Learner", batch: tuple[Tensor, Tensor]) -> Logs:
        """One step of the optimizer, traced in a graph.

        Args:
            learner: What is fitted. `learner.plain_step(batch)` takes the step itself, `learner.loss_of(*batch)` is what it
                makes small, `learner.recorded_loss(*batch)` the same with its curves, for rules that call the optimizer
                themselves; `learner.network` holds the weights.
            batch: Inputs [n, ...] and class indices [n].

        Returns:
            The step's curves, as `plain_step` returns them.
        """


class PlainStep:
    """The gradient at the weights as they are, then the optimizer: Keras' own step."""

    def __init__(self, table: UpdateTable | None = None, steps: int = 0) -> None:
        del table, steps

    def step(self, learner: "Learner", batch: tuple[Tensor, Tensor]) -> Logs:
        """See the protocol."""
        return learner.plain_step(batch)


def build(table: UpdateTable, steps: int) -> UpdateRule:
    """The update rule of a table, for a training of so many optimizer steps in all."""
    rule: UpdateRule = pkgutil.resolve_name(table.rule)(table, steps)
    return rule
