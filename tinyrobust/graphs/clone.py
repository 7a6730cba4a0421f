"""Copies of a network in which other layers stand for some of its own: frozen, in plain layers, with other slopes."""

import inspect
from collections.abc import Callable, Sequence

import keras
import numpy as np

Row = Sequence[keras.Layer]


def clone(
    model: keras.Model,
    replaced: Callable[[keras.Layer], Row],
    weights: Callable[[keras.Layer], Sequence[np.ndarray]] = lambda layer: layer.get_weights(),
    inputs: keras.KerasTensor | None = None,
) -> keras.Model:
    """The same graph of new layers, which cannot be trained.

    Args:
        model: A functional or sequential model.
        replaced: Gives the new layers that stand for one of the model's, in a row from its input to its output. None: what
            reads that layer then reads its input. Asked once for every layer but inputs.
        weights: Gives what is written into the new layer that has the name of one of the model's and weights; those of the
            latter when left out.
        inputs: The symbolic input of the new model; one like the model's when left out.

    Returns:
        A functional model without compilation settings.
    """
    if len(model.inputs) == len(model.outputs) == 1:
        # `call_function` below is for functional models only; compilation settings would be copied.
        model = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    rows: dict[str, Row] = {}

    def copy(layer: keras.Layer) -> Row:
        rows[layer.name] = replaced(layer)
        return rows[layer.name]  # Keras hands on to `call` what it gets here

    def call(row: Row, *args: object, **kwargs: object) -> object:
        if not row:
            return args[0]
        # A norm may have been called with a mask, which a convolution in its place does not take.
        taken = inspect.signature(row[0].call).parameters
        value = row[0](*args, **{name: given for name, given in kwargs.items() if name in taken})
        for layer in row[1:]:
            value = layer(value)
        return value

    new = keras.models.clone_model(model, input_tensors=inputs, clone_function=copy, call_function=call)
    for layer in model.layers:
        for one in rows.get(layer.name, ()):
            if one.name == layer.name and one.weights:
                one.set_weights(weights(layer))
    new.trainable = False
    return new


def same(layer: keras.Layer, **changes: object) -> keras.Layer:
    """A new layer like `layer`, with its name; `changes` are other arguments of its constructor."""
    return type(layer).from_config({**layer.get_config(), **changes})
