"""Variables: what a streaming network keeps from one inference to the next (VAR_HANDLE and what reads and writes by it)."""

import numpy as np
from numpy.typing import NDArray

from tinyrobust.deploy.artefact import Artefact, Graph, Operator
from tinyrobust.deploy.cgen.operands import elsewhere
from tinyrobust.deploy.subgraphs import called
from tinyrobust.errors import ModelFileError

READ, ASSIGN, _HANDLE = "READ_VARIABLE", "ASSIGN_VARIABLE", "VAR_HANDLE"
STATE = (READ, ASSIGN, _HANDLE, "CALL_ONCE")


class Variables:
    """The variables of a file.

    Attributes:
        initial: What each holds before the first run, by its name, as far as the file says.
    """

    def __init__(self, artefact: Artefact) -> None:
        self._artefact, self._main = artefact, artefact.graphs[0]
        self._handles = _handles(self._main)
        self.initial: dict[str, NDArray[np.int8]] = {}
        for operator in self._main.operators:
            if operator.name == "CALL_ONCE":
                self._initialise(artefact.graphs[called(operator)[0]])

    def _initialise(self, graph: Graph) -> None:
        handles = _handles(graph)
        for operator in graph.operators:
            constant = graph.tensors[operator.inputs[1]] if operator.name == ASSIGN and len(operator.inputs) == 2 else None
            if constant is not None and constant.data is not None and constant.dtype == "int8":
                self.initial[self._named(operator, handles)] = constant.data.reshape(-1)
            elif operator.name != _HANDLE:
                raise self._refusal("variables that begin as int8 constants", f"{operator.name}, which CALL_ONCE runs")

    def named(self, operator: Operator) -> str:
        """The variable that an operator reads or writes.

        Raises:
            ModelFileError: It names none.
        """
        return self._named(operator, self._handles)

    def _named(self, operator: Operator, handles: dict[int, str]) -> str:
        wanted = 2 if operator.name == ASSIGN else 1
        if len(operator.inputs) != wanted or operator.inputs[0] not in handles:
            raise self._refusal(f"{operator.name} of a handle that VAR_HANDLE makes", f"tensors {list(operator.inputs)}")
        return handles[operator.inputs[0]]

    def _refusal(self, expected: str, received: str) -> ModelFileError:
        return ModelFileError(
            f"{self._artefact.path}: Expected {expected}. Received: {received}.", hint=elsewhere(self._artefact)
        )

    def outlives(self, read: Operator) -> bool:
        """Whether the variable still holds, at every operator that needs it, what `read` has read."""
        name, depending = self.named(read), {read.outputs[0]}
        later = self._main.operators[read.index + 1 :]
        overwritten = False
        for operator in later:
            if overwritten and depending.intersection(operator.inputs):
                return False
            if depending.intersection(operator.inputs[:2]):  # what is made of it may be no copy
                depending.update(operator.outputs)
            overwritten |= operator.name == ASSIGN and self.named(operator) == name
        return not (overwritten and depending.intersection(self._main.outputs))


def _handles(graph: Graph) -> dict[int, str]:
    """The variables' names by the tensors of their handles."""
    return {
        operator.outputs[0]: f"{operator.options.get('container', '')}/{operator.options.get('shared_name', '')}"
        for operator in graph.operators
        if operator.name == _HANDLE
    }
