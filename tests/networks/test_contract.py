"""What every network must do. One that is entered in `recipe/network.py` is tested here at once."""

import json
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pytest

from tinyrobust.choices import members
from tinyrobust.deploy import artefact
from tinyrobust.deploy.convert import convert
from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.deploy.matching import match
from tinyrobust.deploy.twin import build_twin
from tinyrobust.errors import DataError
from tinyrobust.graphs.folding import WEIGHT_LAYERS
from tinyrobust.graphs.freeze import freeze, without_rounding
from tinyrobust.networks.precision import LayerFactory
from tinyrobust.quantizers.activations import ActivationQuantizer, Pact
from tinyrobust.quantizers.layers import weight_layers
from tinyrobust.quantizers.weights import FixedPoint, Ternary
from tinyrobust.recipe.network import Network, NetworkTable, ScalableNetwork
from tinyrobust.recipe.precision import FLOAT, Precision

# Those that are built from nothing, in any shape; test_imported.py tests those that come as a file.
NETWORKS = {kind: table for kind, table in members(Network).items() if not table.trained}
CLASSES = 5
each = pytest.mark.parametrize("kind", NETWORKS)


def _small(kind: str) -> NetworkTable:
    network = NETWORKS[kind](kind=kind)
    return network.scaled(0.1) if isinstance(network, ScalableNetwork) else network


def _built(kind: str, activations: str, shape: tuple[int, int, int] | None = None) -> keras.Model:
    """Ternary, 8-bit at the end; batch norms (and learned bounds) are not at their initial values."""
    rules = ({"layers": "logits", "weights": "fixed-point"}, {"layers": ".*", "weights": "ternary"})
    layers = LayerFactory(Precision.model_validate({"rule": [{**rule, "activations": activations} for rule in rules]}), 7)
    network = _small(kind)
    keras.utils.set_random_seed(0)
    model = network.build(shape or network.size.input_shape, CLASSES, layers)
    layers.check_every_rule_is_used()
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([random.uniform(0.3, 1.5, weight.shape) for weight in layer.weights])
        elif hasattr(layer, "alpha"):
            layer.alpha.assign(random.uniform(2, 6))
    return model


def _pixels(model: keras.Model, n: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (n, *model.input_shape[1:]), np.uint8)


def _macs(model: keras.Model) -> int:
    """Every output takes the weights of its channel."""
    total = 0
    for layer in weight_layers(model):
        depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
        taps = math.prod(layer.latent_weights.shape[: 2 if depthwise else -1])
        total += taps * math.prod(layer.output.shape[1:])
    return total


@pytest.fixture(scope="module")
def smooth() -> dict[str, keras.Model]:
    """Every network with activations that are not rounded: what should be equal is equal to float precision."""
    return {kind: _built(kind, "float") for kind in NETWORKS}


@dataclass(frozen=True)
class Exported:
    """A network and its file."""

    model: keras.Model
    path: Path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Exported]:
    """Every network with activations that are rounded, and its file."""
    folder, made = tmp_path_factory.mktemp("networks"), {}
    for kind in NETWORKS:
        made[kind] = Exported(_built(kind, "relu6"), folder / f"{kind}.tflite")
        made[kind].path.write_bytes(convert(made[kind].model, _pixels(made[kind].model, 16)))
    return made


@each
def test_it_has_the_size_that_its_table_states(kind):
    network = NETWORKS[kind](kind=kind)
    model = network.build(network.size.input_shape, network.size.classes, LayerFactory(FLOAT, 7))
    assert (model.count_params(), _macs(model)) == (network.size.parameters, network.size.macs)


@each
def test_its_first_and_its_last_weights_are_called_alike_in_all_networks(kind, smooth):
    names = [layer.name for layer in weight_layers(smooth[kind])]
    assert (names[0], names[-1]) == ("stem", "logits")


@each
def test_images_that_are_too_small_are_refused(kind):
    network = _small(kind)
    layers = LayerFactory(FLOAT, 7)
    network.build((network.smallest, network.smallest, 1), CLASSES, layers)
    with pytest.raises(DataError, match=f"at least .* pixels for network.kind = '{kind}'. Received: {network.smallest - 1}x40"):
        network.build((network.smallest - 1, 40, 1), CLASSES, layers)


@each
@pytest.mark.parametrize("scale", [1, 2], ids=["its shape", "another shape"])
def test_inputs_become_logits(kind, scale):
    height, width, channels = _small(kind).size.input_shape
    model = _built(kind, "relu6", (scale * height, scale * width, scale * channels))
    logits = np.array(model(_pixels(model, 3) / np.float32(255)))
    assert logits.shape == (3, CLASSES)
    assert logits.std() > 0
    assert (logits < 0).any()  # no softmax, no rectifier at the end
    end = model.layers[-1]
    assert (end.name, isinstance(end, keras.layers.Dense)) == ("logits", True)
    assert end.activation in (None, keras.activations.linear)
    assert end.use_bias


@each
def test_every_layer_has_the_precision_of_its_rule(kind):
    model = _built(kind, "pact")
    quantizers = {layer.name: type(layer.weight_quantizer) for layer in weight_layers(model)}
    assert quantizers.pop("logits") is FixedPoint
    assert set(quantizers.values()) == {Ternary}
    assert {type(layer) for layer in model.layers}.isdisjoint((*WEIGHT_LAYERS, keras.layers.BatchNormalization))
    assert {type(layer) for layer in model.layers if isinstance(layer, ActivationQuantizer)} == {Pact}


@each
def test_the_same_seed_gives_the_same_weights(kind):
    for one, other in zip(_built(kind, "relu6").get_weights(), _built(kind, "relu6").get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@each
@pytest.mark.parametrize("copy", [freeze, without_rounding, build_twin])
def test_what_stands_for_it_answers_as_it_does(kind, copy, smooth):
    x = _pixels(smooth[kind], 4).astype(np.float32) / 255
    expected = np.asarray(smooth[kind](x, training=False))
    np.testing.assert_allclose(np.asarray(copy(smooth[kind])(x, training=False)), expected, atol=1e-5 * np.abs(expected).max())


@each
def test_its_file_answers_as_it_does(kind, exported):
    model, path = exported[kind].model, exported[kind].path
    file = artefact.read(path)
    matches = match(build_twin(model), file)
    for layer in weight_layers(model):
        if layer.name != "logits":
            assert set(np.unique(file.tensors[matches[layer.name].operator.inputs[1]].data)) <= {-127, 0, 127}
    x = _pixels(model, 16).astype(np.float32) / 255
    expected, answers = np.asarray(model(x, training=False)), Int8Model(path).predict(x)
    assert np.sqrt(np.mean((answers - expected) ** 2)) < 0.05 * np.sqrt(np.mean(expected**2))


def test_their_c_answers_as_tensorflow_lite_micro(exported, inputs_for, assert_exact):
    paths = [one.path for one in exported.values()]
    assert_exact(paths, [inputs_for(path, 4, 0) for path in paths])


@each
def test_a_teacher_is_another_width_or_refused(kind):
    network = NETWORKS[kind](kind=kind)
    if isinstance(network, ScalableNetwork):
        assert network.scaled(2.0) == NETWORKS[kind](kind=kind, width=2.0)
    else:
        with pytest.raises(ValueError, match=f"Expected a network that has a width.*kind = '{kind}'"):
            network.scaled(2.0)


_UNDER_JAX = """
import json, sys
import jax, keras, numpy as np
from tinyrobust.choices import members
from tinyrobust.networks.precision import LayerFactory
from tinyrobust.recipe.network import Network
from tinyrobust.recipe.precision import Precision

assert keras.backend.backend() == "jax"
settings = json.loads(sys.argv[1])
for kind, (network, precision, path) in settings.items():
    table = members(Network)[kind].model_validate(network)
    with np.load(path) as stored:
        x, *weights = (stored[name] for name in stored.files)
        model = table.build(x.shape[1:], int(sys.argv[2]), LayerFactory(Precision.model_validate(precision), 7))
        model.set_weights(weights)
    variables = [[one.value for one in some] for some in (model.trainable_variables, model.non_trainable_variables)]
    logits, _ = jax.jit(lambda variables, x: model.stateless_call(*variables, x, training=False))(variables, x)
    np.save(path + ".logits.npy", np.asarray(logits))
"""


def test_under_jax_they_answer_as_under_tensorflow(smooth, under_jax: dict[str, str], tmp_path: Path):
    settings, expected = {}, {}
    for kind, model in smooth.items():
        x = _pixels(model, 4).astype(np.float32) / 255
        expected[kind] = np.asarray(model(x, training=False))
        path = tmp_path / f"{kind}.npz"
        np.savez(path, x, *model.get_weights())
        rules = [{"layers": "logits", "weights": "fixed-point"}, {"layers": ".*", "weights": "ternary", "activations": "float"}]
        settings[kind] = (_small(kind).model_dump(mode="json"), {"rule": rules}, str(path))
    command = [sys.executable, "-c", _UNDER_JAX, json.dumps(settings), str(CLASSES)]
    done = subprocess.run(command, env=under_jax, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for kind, logits in expected.items():
        answers = np.load(tmp_path / f"{kind}.npz.logits.npy")
        np.testing.assert_allclose(answers, logits, atol=1e-3 * np.abs(logits).max(), err_msg=kind)
