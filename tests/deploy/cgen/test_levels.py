"""Levels of weights and activations below 8 bits, counted where they are: in the file, in the interpreters and in the C."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops
from sklearn.datasets import load_digits

from tinyrobust import formats
from tinyrobust.choices import members
from tinyrobust.deploy import artefact
from tinyrobust.deploy.cgen.generate import generate
from tinyrobust.deploy.convert import convert
from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.deploy.matching import match
from tinyrobust.deploy.twin import build_twin
from tinyrobust.footprint.measure import footprint
from tinyrobust.graphs.freeze import without_rounding
from tinyrobust.quantizers.activations import ActivationQuantizer
from tinyrobust.quantizers.base import WeightQuantizer
from tinyrobust.quantizers.layers import QuantConv2D, QuantDense, QuantDepthwiseConv2D
from tinyrobust.quantizers.weights import Binary, FixedPoint, Ternary
from tinyrobust.recipe.activations import Activations, QuantizedActivations

KINDS = sorted(kind for kind, table in members(Activations).items() if issubclass(table, QuantizedActivations))


class Odd(WeightQuantizer):
    """The levels -1, -1/3, 1/3 and 1 times the largest magnitude, as DoReFa has them at two bits."""

    bits = 2
    storage = formats.INT2

    def levels(self, latent, training):
        del training
        peak = ops.max(ops.abs(latent), self.reduced(latent), keepdims=True)
        return peak * (2 * ops.round((latent / peak + 1) * 1.5) - 3) / 3


@dataclass(frozen=True)
class Net:
    """A network whose activations have 7 to 1 bits, one after the other, and its file."""

    model: keras.Model
    path: Path
    images: np.ndarray

    @property
    def activations(self) -> list[ActivationQuantizer]:
        return [layer for layer in self.model.layers if isinstance(layer, ActivationQuantizer)]

    @property
    def tensors(self) -> list[int]:
        """Where the activations are in the file."""
        matches = match(build_twin(self.model), artefact.read(self.path))
        return [matches[layer.name].tensor for layer in self.activations]


def _built(kind: str, images: np.ndarray) -> keras.Model:
    """Every encoding of weights, a residual addition and both kinds of average pooling; batch norms spread the values."""
    keras.utils.set_random_seed(1)
    table, same = members(Activations)[kind], {"padding": "same", "use_bias": False}
    pairs = []

    def active(x, bits, *shortcut):
        norm = keras.layers.BatchNormalization(name=f"norm{bits}")
        activation = table(kind=kind, bits=bits).build(f"act{bits}")
        pairs.append((norm, activation))
        x = norm(x)
        return activation(keras.layers.Add()([x, *shortcut]) if shortcut else x)

    image = keras.Input((8, 8, 1), name="image")
    x = active(QuantConv2D(12, 3, kernel_quantizer=FixedPoint(8), name="conv7", **same)(image), 7)
    x = active(QuantConv2D(12, 3, kernel_quantizer=Odd(), name="conv6", **same)(x), 6)
    x = active(QuantConv2D(12, 3, kernel_quantizer=FixedPoint(3), name="conv5", **same)(x), 5, x)
    x = keras.layers.AveragePooling2D(2, name="pool")(x)
    x = active(QuantConv2D(16, 3, kernel_quantizer=FixedPoint(4), name="conv4", **same)(x), 4)
    x = active(QuantConv2D(16, 3, kernel_quantizer=Ternary(), name="conv3", **same)(x), 3)
    x = active(QuantDepthwiseConv2D(3, depthwise_quantizer=Binary((-2, -1)), name="conv2", **same)(x), 2)
    x = keras.layers.AveragePooling2D(4, name="mean")(keras.layers.Dropout(0.1)(x))
    x = active(QuantDense(64, use_bias=False, kernel_quantizer=Binary(), name="conv1")(keras.layers.Flatten()(x)), 1)
    model = keras.Model(image, x)
    for norm, activation in pairs:
        if hasattr(activation, "alpha"):
            activation.alpha.assign(1 + activation.bits / 4)
        values = np.asarray(keras.Model(image, norm.input)(images / np.float32(255)))
        mean, variance = (moment(values.reshape(-1, values.shape[-1]), axis=0) for moment in (np.mean, np.var))
        whole = np.full_like(mean, activation.upper)
        norm.set_weights([0.4 * whole, 0.5 * whole, mean, variance])
    return model


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.round(load_digits().images[:400, ..., np.newaxis] * (255 / 16)).astype(np.uint8)


@pytest.fixture(scope="module", params=KINDS)
def net(request, images, tmp_path_factory) -> Net:
    model = _built(request.param, images)
    path = tmp_path_factory.mktemp("levels") / "few.tflite"
    path.write_bytes(convert(model, images[:200]))
    return Net(model, path, images)


_TENSORS = """
import sys
import numpy as np
from tflite_micro import runtime
path, inputs, result, *tensors = sys.argv[1:]
keep = runtime.InterpreterConfig.kPreserveAllTensors
interpreter = runtime.Interpreter.from_file(path, arena_size=4_000_000, intrepreter_config=keep)
rows = []
for row in np.load(inputs):
    interpreter.set_input(row[np.newaxis], 0)
    interpreter.invoke()
    rows.append([interpreter.GetTensor(int(index), 0)["tensor_data"].reshape(-1) for index in tensors])
np.savez(result, *[np.stack(column) for column in zip(*rows)])
"""


def _of_tflm(net: Net, inputs: np.ndarray, folder: Path) -> list[np.ndarray]:
    np.save(folder / "inputs.npy", inputs)
    files = [str(one) for one in (net.path, folder / "inputs.npy", folder / "tensors.npz")]
    command = [sys.executable, "-c", _TENSORS, *files, *map(str, net.tensors)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-1000:]
    values = np.load(folder / "tensors.npz")
    return [values[name] for name in values.files]


def test_activations_have_the_levels_of_their_bits_and_no_others(net, tmp_path):
    """In LiteRT and in TensorFlow Lite Micro, on real images; and they are those of the network."""
    pytest.importorskip("tflite_micro", reason="the extra `mcu` is not installed (Linux x86-64 only)")
    x = net.images.astype(np.float32) / 255
    file = Int8Model(net.path)
    inputs = file.quantized(x)
    theirs, golden = file.tensors(inputs, net.tensors), _of_tflm(net, inputs, tmp_path)
    expected = keras.Model(net.model.inputs[0], [layer.output for layer in net.activations])(x)
    for layer, value, of_litert, of_tflm in zip(net.activations, expected, theirs, golden, strict=True):
        levels = np.rint(np.asarray(value) / (layer.upper / layer.steps)).astype(int)
        assert set(np.unique(levels)) == set(range(2**layer.bits)), "the network should use them all"
        for found in (of_litert, of_tflm):
            deployed = found.astype(int).reshape(levels.shape) - (127 - layer.steps)
            assert set(np.unique(deployed)) == set(range(2**layer.bits)), layer.name
            # A value near the border of two levels may fall on the other one, and moves others behind it.
            assert np.mean(deployed != levels) < {7: 0.01, 1: 0.3}.get(layer.bits, 0.1), layer.name


def test_weights_have_their_levels_exactly(net):
    file = artefact.read(net.path)
    twin = build_twin(net.model)
    found = {}
    for name, place in match(twin, file).items():
        if name.startswith("conv"):
            tensor = file.tensors[place.operator.inputs[1]]
            found[name] = formats.recognise(tensor.data, tensor.quantized_dimension).name
            quantizer = net.model.get_layer(name).weight_quantizer
            if quantizer.bits < 8:
                assert len(np.unique(tensor.data)) <= quantizer.storage.levels
    kinds = {7: "int8", 6: "int2", 5: "int3", 4: "int4", 3: "ternary", 2: "binary", 1: "binary"}
    assert found == {f"conv{bits}": kind for bits, kind in kinds.items()}


def test_the_c_has_the_goldens_answers(net, assert_exact, tmp_path):
    model = tmp_path / "few.tflite"
    model.write_bytes(net.path.read_bytes())
    inputs = Int8Model(model).quantized(net.images[:60].astype(np.float32) / 255)
    assert_exact([model], [inputs.reshape(60, -1)])


def test_the_c_stores_the_bits_that_footprint_counts(net, tmp_path):
    made = generate(artefact.read(net.path), "few", tmp_path)
    notes = [note for note in made.layers if note.weights]
    counted = [layer.weight_bytes_packed for layer in footprint(net.path).layers if layer.weight_count]
    assert {note.weights for note in notes} == {encoding.name for encoding in formats.ENCODINGS} - {"crumb"}
    assert not any(note.portable for note in notes)
    encodings = {encoding.name: encoding for encoding in formats.ENCODINGS}
    for note, packed in zip(notes, counted, strict=True):
        if note.weights == "trit":
            assert note.weight_bytes == pytest.approx(0.8 * packed, rel=0.02)
        elif note.kernel == "tr_fast_conv_binary":  # rows of sixteen bits are padded to threes, and it reads past the end
            assert note.weight_bytes == packed * 18 / 16 + 3
        elif note.weights != "int8":
            assert note.weight_bytes == packed + encodings[note.weights].table_bytes


def test_the_twin_averages_as_the_network_does(net, images):
    x = images[:16] / np.float32(255)
    expected = np.asarray(without_rounding(net.model)(x))
    np.testing.assert_allclose(np.asarray(build_twin(net.model)(x)), expected, atol=1e-5 * np.abs(expected).max())
    file = artefact.read(net.path)
    names = [operator.name for operator in file.operators]
    assert "MEAN" in names
    assert "AVERAGE_POOL_2D" not in names
