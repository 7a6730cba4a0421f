"""Somebody's Keras model as a network of ours: its graph, its weights, our layers."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from tinyrobust.graphs.topology import calls, writer
from tinyrobust.networks import keras_file
from tinyrobust.networks.affine import Affine, likely_range
from tinyrobust.networks.concatenations import check_concatenations
from tinyrobust.networks.keras_layers import WEIGHTED, Turner, Value, known_layers
from tinyrobust.networks.precision import LayerFactory
from tinyrobust.recipe.network import KerasFile, Shape

_INPUT = "input-range"
_COLORS = {1: "gray", 3: "rgb"}


def imported(settings: KerasFile, input_shape: Shape, classes: int, layers: LayerFactory) -> keras.Model:
    """The network of a `.keras` file, with its weights, in the recipe's precision.

    Rules match the layers' names in the file; besides, the first layer with weights answers to `stem`, the last to `logits`. A
    separable convolution becomes two layers, `<name>-depthwise` and `<name>-pointwise`. A rectifier has the activation format
    of the layer with weights before it. Where that is left in float, it keeps the bound that it has in the file, so that in
    float the network computes what the file's does. A rectifier without bound becomes one with a bound otherwise: training gets
    used to it, quantization after training does not.

    What changes no answer is not taken over: a softmax at the end, regularizers, constraints, frozen layers, compilation. The
    momentum of batch norms is ours. Models in the model are unfolded. Inputs in [0, 1] are scaled to the range that the file
    expects within the first layer, or, where that pads shifted inputs with zeros, by a depthwise 1x1 of its own.

    Args:
        settings: The recipe's `[network]`.
        input_shape: (height, width, channels) of the data; values in [0, 1].
        classes: Number of classes of the data.
        layers: Makes the layers in the recipe's precision.

    Returns:
        A functional model, [n, *input_shape] -> logits [n, classes].

    Raises:
        ModelFileError: The file cannot be read or needs code, holds what has no int8 operator, or does not fit the data.
    """
    path = Path(settings.path).expanduser()
    file = keras_file.read(path, settings.sha256, known_layers())
    return _Import(file, path, layers).network(settings.input_range, input_shape, classes)


class _Import:
    """Walks the file's graph and calls a layer of ours for each of its own."""

    def __init__(self, file: keras.Model, path: Path, layers: LayerFactory) -> None:
        self._file, self._path, self._layers = file, path, layers
        self._names: dict[int, str] = {}
        self._turner = Turner(path, layers, self._names)

    def network(self, input_range: tuple[float, float] | None, input_shape: Shape, classes: int) -> keras.Model:
        if len(self._file.inputs) != 1 or len(self._file.outputs) != 1:
            self._turner.refuse(
                "a network with one input and one output",
                f"{len(self._file.inputs)} and {len(self._file.outputs)}",
                "Make keras.Model(input, logits) of the part that classifies, and save that.",
            )
        self._check_shapes(self._file.inputs[0].shape[1:], input_shape, self._file.outputs[0].shape[1:], classes)
        weighted = self._name_all(self._file)
        if not weighted:
            self._turner.refuse("layers with weights", "none", "There is nothing to quantize.")
        self._layers.answers_to(self._part(weighted[0], "depthwise"), "stem")
        self._layers.answers_to(self._part(weighted[-1], "pointwise"), "logits")
        source = keras.Input(input_shape, name=writer(self._file.inputs[0]).name)
        values = self._walk(self._file, Value(source, self._at_the_input(input_range)))
        end = self._turner.plain(replace(values, scores=None))
        if end.tensor is source or len(end.tensor.shape) != 2 or end.tensor.shape[-1] != classes:
            self._turner.refuse(
                f"logits of shape [n, {classes}]", str(end.tensor.shape), "End in a Dense layer of one unit a class."
            )
        network = keras.Model(source, end.tensor, name=self._file.name)
        check_concatenations(network, self._path)
        return network

    def _check_shapes(self, shape: Sequence[int | None], data: Shape, outputs: Sequence[int | None], classes: int) -> None:
        if len(shape) != 3 or any(own not in (None, given) for own, given in zip(shape, data, strict=True)):
            size = [f"--set data.size={shape[0]}"] if len(shape) == 3 and shape[0] == shape[1] and shape[0] else []
            color = [f"--set data.color={_COLORS[shape[-1]]}"] if shape[-1] in _COLORS else []
            self._turner.refuse(
                f"a network for inputs of {data}, those of the recipe's data",
                f"one for {tuple(shape)}",
                f"Give the data the file's shape ({' '.join(size + color)}), or build the model for that of the data.",
            )
        if tuple(outputs) != (classes,):
            self._turner.refuse(
                f"an output of [n, {classes}], a value for each class of the recipe's data",
                f"{(None, *outputs)} of layer {self._file.layers[-1].name!r}",
                "Replace the last layer: keras.layers.Dense(classes)(model.layers[-2].output), and train it for a while.",
            )

    def _at_the_input(self, stated: tuple[float, float] | None) -> Affine:
        """What makes the file's inputs of [0, 1]: as stated, or as the scaling at the front of the file was made for."""
        front = _front(self._file)
        if front is not None:
            found = stated or likely_range(front)
            if found is None or not (start := Affine.onto(_INPUT, *found)).then(front).is_usual:
                self._turner.refuse(
                    "an input_range that fits the scaling at the front of the file",
                    f"{list(stated) if stated else 'none'}, and a scale of {np.abs(front.scale).max():.4g} there",
                    "Say what the pixel values 0 and 255 are in the file's input units: --input-range LOW HIGH.",
                )
            return start
        if stated is None:
            self._turner.refuse(
                "an input_range: what the pixel values 0 and 255 are in the file's input units",
                "none, and no Rescaling or Normalization layer at the front of the file that says it",
                "--input-range 0 1 for pixels divided by 255, 0 255 for pixels as they are, -1 1 for MobileNet's inputs.",
            )
        return Affine.onto(_INPUT, *stated)

    def _name_all(self, model: keras.Model) -> list[keras.Layer]:
        """Gives each layer its name here, that in the file or, where two models in it have the same, with the model's before.

        Returns:
            The layers with weights, in the order of the graph.

        Raises:
            ModelFileError: A layer is used several times, or is of a number type or order of axes that has no int8 operator.
        """
        weighted = []
        for layer, inputs, _ in calls(model):
            if not inputs or isinstance(layer, keras.layers.InputLayer):
                continue
            if id(layer) in self._names:
                hint = "Layers that share weights have no place in the file: make a copy of the layer for each use."
                self._turner.refuse("layers that are used once", f"{layer.name!r}, used several times", hint)
            taken = layer.name in self._names.values()
            self._names[id(layer)] = f"{model.name}-{layer.name}" if taken else layer.name
            if isinstance(layer, keras.Model):
                weighted += self._name_all(layer)
                continue
            policy = getattr(getattr(layer, "dtype_policy", None), "name", "float32")
            if policy != "float32":
                hint = "Save it in float32: set the policy back, build the model anew, copy the weights, save."
                self._turner.refuse("layers in float32", f"{layer.name!r} in {policy}", hint)
            if getattr(layer, "data_format", None) == "channels_first":
                hint = "Microcontrollers' kernels have the channels last: build it with data_format='channels_last'."
                self._turner.refuse("layers with the channels last", f"{layer.name!r}, channels_first", hint)
            weighted += [layer] if isinstance(layer, WEIGHTED) else []
        return weighted

    def _walk(self, model: keras.Model, value: Value) -> Value:
        """What a model of the file makes of a value."""
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            hint = "Write its layers into the model around it."
            self._turner.refuse("models with one input and one output in the model", f"{model.name!r}, with more", hint)
        known = {id(model.inputs[0]): value}
        for layer, inputs, made in calls(model):
            if not inputs or isinstance(layer, keras.layers.InputLayer):
                continue
            known[id(made[0])] = (
                self._walk(layer, known[id(inputs[0])])
                if isinstance(layer, keras.Model)
                else self._turner.turn(layer, [known[id(tensor)] for tensor in inputs])
            )
        return known[id(model.outputs[0])]

    def _part(self, layer: keras.Layer, part: str) -> str:
        """The name of a layer with weights; of a separable convolution, of one of its parts."""
        name = self._names[id(layer)]
        return f"{name}-{part}" if isinstance(layer, keras.layers.SeparableConv2D) else name


def _front(model: keras.Model) -> Affine | None:
    """What the layers at the front of a model do that scale and shift its input; None where there are none."""
    tensor, front = model.inputs[0], None
    own: Affine | None
    for layer, inputs, made in calls(model):
        if len(inputs) != 1 or inputs[0] is not tensor or isinstance(layer, keras.layers.InputLayer):
            continue
        if isinstance(layer, keras.layers.Rescaling | keras.layers.Normalization):
            own, tensor = Affine.of(layer), made[0]
        else:
            own = _front(layer) if isinstance(layer, keras.Model) else None
            tensor = None
        if own:
            front = front.then(own) if front else own
    return front
