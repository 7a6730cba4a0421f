"""Batch norms that no weight layer can swallow, all the way: network, twin, int8 file, generated C."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from tinyrobust.deploy import artefact
from tinyrobust.deploy.convert import convert
from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.deploy.matching import kernel_error, match
from tinyrobust.deploy.parity import KERNEL_TOLERANCE, layer_errors
from tinyrobust.deploy.rebuild import rebuild
from tinyrobust.deploy.twin import build_twin, source_layers
from tinyrobust.errors import ModelFileError
from tinyrobust.graphs.freeze import without_rounding
from tinyrobust.networks.precision import LayerFactory
from tinyrobust.quantizers.norm import FusedBatchNormalization
from tinyrobust.recipe.precision import Precision

_RULES = [{"layers": "logits", "weights": "fixed-point"}, {"layers": ".*", "weights": "ternary"}]


def _preactivation(x: keras.KerasTensor, layers: LayerFactory) -> keras.KerasTensor:
    """A block of He et al. 2016 (arXiv 1603.05027, figure 1b): norm, rectifier, convolution, twice; the shortcut is bare."""
    x = layers.conv("stem", 8, 3)(x)
    y = layers.relu("before1")(layers.norm("before1")(x))
    y = layers.conv("conv1", 8, 3)(y)
    y = layers.relu("before2")(layers.norm("before2")(y))
    x = keras.layers.Add(name="add")([x, layers.conv("conv2", 8, 3)(y)])
    return layers.relu("end")(layers.norm("end")(x))


def _after_an_add(x: keras.KerasTensor, layers: LayerFactory) -> keras.KerasTensor:
    x = layers.relu("stem")(layers.norm("stem")(layers.conv("stem", 8, 3)(x)))
    x = keras.layers.Add(name="add")([x, layers.conv("conv", 8, 3)(x)])
    return layers.relu("end")(layers.norm("end")(x))


def _of_the_input(x: keras.KerasTensor, layers: LayerFactory) -> keras.KerasTensor:
    return layers.relu("stem")(layers.conv("stem", 8, 3)(layers.norm("image")(x)))


def _read_by_others(x: keras.KerasTensor, layers: LayerFactory) -> keras.KerasTensor:
    x = layers.conv("stem", 8, 3)(x)
    return keras.layers.Add(name="add")([x, layers.norm("stem")(x)])


def _flat(x: keras.KerasTensor, layers: LayerFactory) -> keras.KerasTensor:
    """Norms of rows of features: of pixels, behind a rectifier, and between two."""
    x = layers.norm("row")(keras.layers.Flatten(name="row")(x))
    x = layers.norm("hidden")(layers.relu("hidden")(layers.dense("hidden", 12)(x)))
    x = layers.relu("wide")(layers.dense("wide", 12)(x))
    return layers.relu("again")(layers.norm("again")(x))


def _sum_of_rows(x: keras.KerasTensor, layers: LayerFactory) -> keras.KerasTensor:
    x = layers.dense("wide", 12)(keras.layers.Flatten(name="row")(x))
    return keras.layers.Add(name="add")([x, layers.norm("wide")(x)])


def _sequence(x: keras.KerasTensor, layers: LayerFactory) -> keras.KerasTensor:
    """A norm of [steps, channels]."""
    x = layers.relu("stem")(layers.conv("stem", 8, 3)(x))
    return layers.norm("sequence")(keras.layers.Reshape((64, 8), name="steps")(x))


# The norms that stay, and the operators of the file without those of the stem and the end.
_BUILDERS: dict[str, tuple[Callable[[keras.KerasTensor, LayerFactory], keras.KerasTensor], set[str]]] = {
    "pre-activation": (_preactivation, {"before1-bn", "end-bn"}),
    "after an add": (_after_an_add, {"end-bn"}),
    "of the input": (_of_the_input, {"image-bn"}),
    "read by others": (_read_by_others, {"stem-bn"}),
    "flat": (_flat, {"row-bn", "hidden-bn", "again-bn"}),
    "sequence": (_sequence, {"sequence-bn"}),
}


@dataclass(frozen=True)
class _Net:
    model: keras.Model
    stay: set[str]
    path: Path


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.round(load_digits().images[:200, ..., np.newaxis] * (255 / 16)).astype(np.uint8)


@pytest.fixture(scope="module")
def nets(pixels: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> dict[str, _Net]:
    """Untrained networks whose batch norms are not at their initial values, and their files."""
    folder, made = tmp_path_factory.mktemp("affine"), {}
    for name, (build, stay) in _BUILDERS.items():
        keras.utils.set_random_seed(0)
        layers, random = LayerFactory(Precision.model_validate({"rule": _RULES}), 7), np.random.default_rng(0)
        image = keras.Input((8, 8, 1), name="image")
        x = build(image, layers)
        x = keras.layers.Flatten(name="flatten")(x) if len(x.shape) > 2 else x
        model = keras.Model(image, layers.dense("logits", 10, bias=True)(x), name="net")
        for layer in model.layers:
            if isinstance(layer, FusedBatchNormalization):
                layer.set_weights([random.uniform(0.5, 1.5, weight.shape) for weight in layer.weights])
                layer.gamma.assign(layer.gamma * random.choice([-1, 1], layer.gamma.shape))
        path = folder / f"{name.replace(' ', '-')}.tflite"
        path.write_bytes(convert(model, pixels))
        made[name] = _Net(model, stay, path)
    return made


each = pytest.mark.parametrize("name", _BUILDERS)


@each
def test_the_twin_equals_the_network(name, nets, pixels) -> None:
    model, x = nets[name].model, pixels[:50] / np.float32(255)
    expected = np.asarray(without_rounding(model)(x, training=False))
    twin = build_twin(model)
    assert np.abs(np.asarray(twin(x)) - expected).max() <= 1e-5 * np.abs(expected).max()
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in twin.layers)
    stay = {layer.name for layer in model.layers if isinstance(layer, FusedBatchNormalization)} & set(source_layers(model))
    assert stay - set(source_layers(model).values()) == set()
    depthwise = {layer.name for layer in twin.layers if isinstance(layer, keras.layers.DepthwiseConv2D)}
    assert depthwise == nets[name].stay


@each
def test_each_norm_is_one_int8_operator_with_parity(name, nets, pixels) -> None:
    net, x = nets[name], pixels[:50] / np.float32(255)
    file = artefact.read(net.path)
    matches = match(build_twin(net.model), file)
    operators = [operator for operator in file.operators if operator.name == "DEPTHWISE_CONV_2D"]
    assert sorted(operator.index for operator in operators) == sorted(matches[norm].operator.index for norm in net.stay)
    for norm in net.stay:
        kernel = file.tensors[matches[norm].operator.inputs[1]]
        assert set(np.abs(np.unique(kernel.data)).tolist()) == {127}  # exact: one weight a channel, one scale a channel
        assert kernel_error(matches[norm].layer, kernel) < KERNEL_TOLERANCE
    assert max(layer.relative_error for layer in layer_errors(net.model, file, matches, {}, x)) < 0.06
    expected = np.asarray(net.model(x, training=False))
    answers = Int8Model(net.path).predict(x)
    assert np.sqrt(np.mean((answers - expected) ** 2)) < 0.05 * np.sqrt(np.mean(expected**2))


@each
def test_the_file_has_a_differentiable_twin(name, nets, pixels) -> None:
    x = pixels[:50] / np.float32(255)
    answers = Int8Model(nets[name].path).predict(x)
    rebuilt = np.asarray(rebuild(nets[name].path)(x, training=False))
    assert np.sqrt(np.mean((rebuilt - answers) ** 2)) < 0.02 * np.sqrt(np.mean(answers**2))


def test_the_generated_c_equals_the_golden(nets, pixels, inputs_for, assert_exact) -> None:
    models = [net.path for net in nets.values()]
    real = (pixels[:50].astype(np.int16) - 128).astype(np.int8).reshape(50, -1)
    assert_exact(models, [np.concatenate([real, inputs_for(model, 30, 1)]) for model in models])


def test_a_sum_of_rows_that_loses_its_batch_is_refused(pixels):
    """The converter drops the batch axis of one summand, which no kernel of ours expects."""
    layers = LayerFactory(Precision.model_validate({"rule": _RULES}), 7)
    image = keras.Input((8, 8, 1), name="image")
    model = keras.Model(image, layers.dense("logits", 10, bias=True)(_sum_of_rows(image, layers)), name="net")
    with pytest.raises(ModelFileError, match=r"Expected a batch of 1 behind layer 'wide-bn.*'"):
        convert(model, pixels)
