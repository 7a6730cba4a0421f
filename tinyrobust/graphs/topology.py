"""The graph of a network: which layer puts out a tensor, and which read it."""

from collections import Counter
from collections.abc import Iterator

import keras

OUTPUT = "the output"


def writer(tensor: keras.KerasTensor) -> keras.Operation:
    """The layer that puts out a symbolic tensor; a `keras.Operation` where it was computed by `keras.ops`."""
    return tensor._keras_history.operation


def readers(model: keras.Model) -> dict[str, list[str]]:
    """The names of the layers and operations that read each one's output; `OUTPUT` where the model puts it out.

    Args:
        model: A functional or sequential model.
    """
    read_by: dict[str, list[str]] = {layer.name: [] for layer in model.layers}
    for operation, inputs, _ in calls(model):
        for tensor in inputs:
            read_by.setdefault(writer(tensor).name, []).append(operation.name)
    for tensor in model.outputs:
        read_by.setdefault(writer(tensor).name, []).append(OUTPUT)
    return read_by


def uses(model: keras.Model) -> Counter[str]:
    """How often each layer and operation is called in the graph, by name; an input once.

    Args:
        model: A functional or sequential model.
    """
    return Counter(operation.name for operation, _, _ in calls(model))


def calls(model: keras.Model) -> Iterator[tuple[keras.Operation, list[keras.KerasTensor], list[keras.KerasTensor]]]:
    """Every call in the graph, from the inputs on: what is called, with which tensors, and what it puts out.

    Those of other models that the same layers belong to are not among them. An input reads nothing.
    """
    nodes = keras.Model(model.inputs, model.outputs, name=model.name)._nodes_by_depth
    for depth in sorted(nodes, reverse=True):
        for node in nodes[depth]:
            yield node.operation, [] if node.is_input else node.input_tensors, node.output_tensors
