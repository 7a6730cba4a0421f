"""The contract of every weight and activation format that a recipe can name: a new entry is tested the moment it is entered.

`learned-step` is entered here alone. Its quantizer declares a variable that is trained and one that is not: no code of the
package knows of it, and everything must work with it as with the others. All of it runs under JAX, too (`test_jax.py`).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import keras
import numpy as np
import pytest
from keras import ops

from tinyrobust import formats
from tinyrobust.choices import members
from tinyrobust.gradients import value_and_gradient
from tinyrobust.quantizers.base import AddWeight, State, Tensor, WeightQuantizer
from tinyrobust.quantizers.layers import QuantConv2D, QuantDense, QuantDepthwiseConv2D, weight_layers
from tinyrobust.recipe import weights
from tinyrobust.recipe.activations import ActivationFormat, Activations
from tinyrobust.recipe.objectives import LABELS
from tinyrobust.recipe.train import Train
from tinyrobust.recipe.weights import WeightFormat, Weights
from tinyrobust.training import checkpoints
from tinyrobust.training.callbacks import Schedules
from tinyrobust.training.learner import Learner, compiled
from tinyrobust.training.objectives import Supplies, build_objectives


@keras.saving.register_keras_serializable("tests")
class LearnedStep(WeightQuantizer):
    """Multiples of one step from -7 to 7; the step is learned (as Esser et al. 2020 do), and steps of training are counted."""

    bits = 4
    storage = formats.INT4

    def create(self, add_weight: AddWeight, shape: tuple[int, ...]) -> Mapping[str, State]:
        del shape
        step = keras.initializers.Constant(0.2)
        return {
            "step": add_weight(shape=(), initializer=step, name="step"),
            "count": add_weight(shape=(), initializer="zeros", trainable=False, name="count"),
        }

    def levels(self, latent: Tensor, training: bool) -> Tensor:
        if training:
            self.state["count"].assign(self.state["count"] + 1)
        return self.state["step"] * ops.round(ops.clip(latent / self.state["step"], -7, 7))

    def quantize(self, latent: Tensor, training: bool) -> Tensor:
        scaled = ops.clip(latent / self.state["step"], -7, 7)
        rounded = scaled + ops.stop_gradient(ops.round(scaled) - scaled)
        return self.levels(latent, training) * 0 + self.state["step"] * rounded


class LearnedStepTable(WeightFormat):
    """What a recipe would say."""

    quantizer = None
    kind: Literal["learned-step"]

    @property
    def storage(self) -> formats.Format:
        return formats.INT4

    def build(self, channel_axes: tuple[int, ...], seed: int) -> object:
        del seed
        return LearnedStep(channel_axes)


_WEIGHTS = {kind: table(kind=kind) for kind, table in {**members(Weights), "learned-step": LearnedStepTable}.items()}
_WEIGHTS |= {
    "dorefa-2-bits": weights.Dorefa(kind="dorefa", bits=2),
    "lsq-1-bit-channel": weights.Lsq(kind="lsq", bits=1, group="channel"),
}
_ACTIVATIONS = {kind: table(kind=kind) for kind, table in members(Activations).items()}
_ACTIVATIONS |= {f"{kind}-1-bit": table(kind=kind, bits=1) for kind, table in members(Activations).items() if kind != "float"}

_every_weight_format = pytest.mark.parametrize("table", _WEIGHTS.values(), ids=_WEIGHTS)
_every_activation_format = pytest.mark.parametrize("table", _ACTIVATIONS.values(), ids=_ACTIVATIONS)

_RANDOM = np.random.default_rng(0)
_X = _RANDOM.uniform(size=(16, 6, 6, 2)).astype(np.float32)
_Y = _RANDOM.integers(0, 4, 16)
_STEPS = 8


def _network(table: WeightFormat) -> keras.Model:
    """One layer of each kind."""
    keras.utils.set_random_seed(0)
    image = keras.Input((6, 6, 2))
    x = QuantConv2D(8, 3, kernel_quantizer=table.build((-1,), 5), name="conv")(image)
    x = QuantDepthwiseConv2D(3, depthwise_quantizer=table.build((-2, -1), 6), name="depthwise")(x)
    x = keras.layers.Flatten()(keras.layers.ReLU()(x))
    network = keras.Model(image, QuantDense(4, kernel_quantizer=table.build((-1,), 7), name="logits")(x))
    random = np.random.default_rng(1)
    for layer in weight_layers(network):
        layer.latent_weights.assign(random.normal(scale=0.5, size=layer.latent_weights.shape))
    return network


def _learner(network: keras.Model) -> Learner:
    settings = Train(epochs=1, learning_rate=0.01, schedule="constant", weight_decay=0.1)
    return compiled(network, build_objectives(LABELS, Supplies()), settings, _STEPS)


def _step(learner: Learner) -> list[float]:
    """A step of the optimizer on always the same batch, halfway through every schedule."""
    schedules = Schedules(learner.network, _STEPS, 1)
    schedules.set_model(learner)
    schedules.on_train_batch_begin(_STEPS // 4)
    return [float(one) for one in learner.train_on_batch(_X, _Y)]


def _quantizers(network: keras.Model) -> list[WeightQuantizer]:
    return [layer.weight_quantizer for layer in weight_layers(network) if layer.weight_quantizer]


@pytest.fixture(scope="module", params=_WEIGHTS.values(), ids=_WEIGHTS)
def resumed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Learner, Learner, np.ndarray]:
    """Two learners after three steps: one by itself, one from a checkpoint after two; and the values before training."""
    path = tmp_path_factory.mktemp("checkpoint") / "two.npz"
    through, again = _learner(_network(request.param)), _learner(_network(request.param))
    before = [ops.convert_to_numpy(variable) for variable in through.trainable_variables]
    _step(through)
    _step(through)
    checkpoints.save(through, path)
    checkpoints.load(again, path)
    assert _step(again) == _step(through)
    return through, again, before


def test_training_goes_on_exactly_from_a_checkpoint(resumed):
    through, again, _ = resumed
    for variable, other in zip(through.variables, again.variables, strict=True):
        np.testing.assert_array_equal(variable, other, err_msg=variable.path)


def test_every_trainable_variable_is_trained_and_only_latent_weights_decay(resumed):
    learner, _, before = resumed
    latent = {id(layer.latent_weights) for layer in weight_layers(learner.network)}
    for variable, old in zip(learner.trainable_variables, before, strict=True):
        assert np.any(ops.convert_to_numpy(variable) != old), variable.path
        assert bool(learner.optimizer._use_weight_decay(variable)) == (id(variable) in latent), variable.path


def test_a_seed_generator_draws_and_a_count_counts(resumed):
    """What changes at every step of training does so in compiled steps."""
    learner, _, _ = resumed
    for quantizer in _quantizers(learner.network):
        for name, declared in quantizer.state.items():
            if isinstance(declared, keras.random.SeedGenerator):
                assert int(ops.convert_to_numpy(declared.state)[1]) == 3
            elif name == "count":
                assert float(ops.convert_to_numpy(declared)) == 3


@pytest.mark.parametrize("way", ["keras-file", "weights-file"])
@_every_weight_format
def test_saved_and_loaded_it_goes_on_where_it_was(table: WeightFormat, way: str, tmp_path: Path):
    network = _network(table)
    network(_X, training=True)
    for variable in network.variables:
        if variable.trainable:
            variable.assign(variable + 0.1)  # as if learned: no value is the initial one
    if way == "keras-file":
        network.save(tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras", compile=False)
        assert [layer.get_config() for layer in again.layers] == [layer.get_config() for layer in network.layers]
    else:
        network.save_weights(tmp_path / "model.weights.h5")
        again = _network(table)
        again.load_weights(tmp_path / "model.weights.h5")
    for variable, other in zip(network.variables, again.variables, strict=True):
        np.testing.assert_array_equal(variable, other, err_msg=variable.path)
    np.testing.assert_array_equal(network(_X), again(_X))
    assert [ops.convert_to_numpy(again(_X, training=True)).tolist() for _ in range(2)] == [
        ops.convert_to_numpy(network(_X, training=True)).tolist() for _ in range(2)
    ]


@_every_weight_format
def test_inference_is_a_function_of_the_weights(table: WeightFormat):
    network = _network(table)
    first = ops.convert_to_numpy(network(_X))
    assert np.isfinite(ops.convert_to_numpy(network(_X, training=True))).all()
    np.testing.assert_array_equal(network(_X), first)
    if isinstance(table, weights.Dorefa) and table.bits > 1:
        return  # the hyperbolic tangent is applied again
    for layer in weight_layers(network):
        layer.latent_weights.assign(layer.quantized_weights())
    np.testing.assert_allclose(network(_X), first, rtol=1e-4, atol=1e-4)  # quantizing twice changes nothing


@_every_weight_format
def test_the_configuration_makes_it_again(table: WeightFormat):
    quantizer = table.build((-2, -1), 9)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(quantizer))
    assert type(again) is type(quantizer)
    if isinstance(quantizer, WeightQuantizer):
        assert again.get_config() == quantizer.get_config()
        assert again.channel_axes == (-2, -1)


@_every_weight_format
def test_the_weights_end_in_the_format_that_the_table_says(table: WeightFormat):
    for layer in weight_layers(_network(table)):
        quantizer, kernel = layer.weight_quantizer, layer.quantized_weights()
        depthwise = isinstance(layer, QuantDepthwiseConv2D)
        channels = kernel.reshape(-1, kernel.shape[-2] * kernel.shape[-1] if depthwise else kernel.shape[-1])
        stored = np.rint(channels / (np.abs(channels).max(axis=0) / 127)).astype(np.int8)
        assert formats.recognise(stored, 1).bits <= table.storage.bits
        if channels.shape[0] > 9:  # nine weights of a depthwise channel may be of fewer levels by chance
            assert formats.recognise(stored, 1) is table.storage
        if quantizer is not None:
            assert quantizer.storage is table.storage
            assert max(len(np.unique(channel)) for channel in channels.T) <= table.storage.levels


@_every_weight_format
def test_the_schedule_reaches_what_is_declared(table: WeightFormat):
    network = _network(table)
    schedules = Schedules(network, 10, 10)
    schedules.set_model(_learner(network))
    for start, value in table.phases:
        schedules.on_epoch_begin(int(10 * start))
        schedules.on_train_batch_begin(round(100 * start) - 10 * int(10 * start))
        for quantizer in _quantizers(network):
            assert quantizer.schedule is not None
            name = quantizer.schedule.variable
            assert float(ops.convert_to_numpy(quantizer.state[name])) == schedules.values[name] == value
    assert bool(table.phases) == any(quantizer.schedule for quantizer in _quantizers(network))


@_every_weight_format
def test_a_quantizer_with_state_belongs_to_one_layer(table: WeightFormat):
    quantizer = table.build((-1,), 1)
    layers = [QuantDense(2, kernel_quantizer=quantizer, name=name) for name in ("first", "second")]
    layers[0].build((None, 3))
    if isinstance(quantizer, WeightQuantizer) and quantizer.state:
        with pytest.raises(ValueError, match="Expected a quantizer of its own for layer 'second'"):
            layers[1].build((None, 3))
    else:
        layers[1].build((None, 3))


def test_names_that_the_layer_uses_are_refused():
    class Greedy(LearnedStep):
        def create(self, add_weight: AddWeight, shape: tuple[int, ...]) -> Mapping[str, State]:
            del shape
            return {"bias": add_weight(shape=(), name="another")}

    with pytest.raises(ValueError, match=r"declares no kernel and no bias\. Received: {'bias'}"):
        QuantDense(2, kernel_quantizer=Greedy()).build((None, 3))


# Activations

_INPUTS = np.linspace(-3, 9, 4801).astype(np.float32)[:, np.newaxis]


def _activation(table: ActivationFormat) -> keras.Model:
    return keras.Sequential([keras.Input((1,)), table.build("relu")])


@_every_activation_format
def test_activations_are_levels_of_the_grid(table: ActivationFormat):
    (layer,) = _activation(table).layers
    values = np.unique(ops.convert_to_numpy(layer(_INPUTS)))
    assert layer.steps == 2**layer.bits - 1
    assert values.min() == 0
    assert values.max() == pytest.approx(layer.upper, rel=1e-6)
    if layer.rounding:
        assert len(values) == layer.steps + 1
        np.testing.assert_allclose(values, np.arange(layer.steps + 1) * layer.upper / layer.steps, rtol=1e-5)
        assert layer.on_grid
    else:
        assert len(values) > 2000


@_every_activation_format
def test_without_rounding_it_is_the_plain_layer_of_the_twin(table: ActivationFormat):
    (layer,) = _activation(table).layers
    smooth, plain = layer.unrounded(), layer.plain()
    values = ops.convert_to_numpy(smooth(_INPUTS))
    np.testing.assert_allclose(plain(_INPUTS), values, rtol=1e-6)
    assert np.abs(ops.convert_to_numpy(layer(_INPUTS)) - values).max() <= layer.upper / layer.steps / 2 * 1.001
    assert {smooth.name, plain.name, layer.name} == {"relu"}
    assert type(plain).__module__.startswith("keras.")
    # Where the grid's largest level is the bound, it may be left out; else it may not.
    unbounded = ops.convert_to_numpy(layer.plain(bounded=False)(_INPUTS))
    assert unbounded.max() == pytest.approx(layer.upper) or layer.on_grid


@_every_activation_format
def test_rounded_activations_have_the_slopes_of_the_rectifier(table: ActivationFormat):
    (layer,) = _activation(table).layers
    inputs = layer.upper / 6 * np.array([[-1.0], [0.5], [3.013], [5.99], [6.5]], np.float32)
    _, gradient = value_and_gradient(lambda x: ops.sum(layer(x)), inputs)
    np.testing.assert_array_equal(ops.convert_to_numpy(gradient), [[0], [1], [1], [1], [0]])


@_every_activation_format
def test_a_learned_bound_is_trained_saved_and_loaded(table: ActivationFormat, tmp_path: Path):
    model = _activation(table)
    before = [ops.convert_to_numpy(variable) for variable in model.trainable_variables]
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    if before:  # Keras warns of a model that has nothing to learn
        model.train_on_batch(_INPUTS, np.zeros_like(_INPUTS))
    assert all(np.any(ops.convert_to_numpy(v) != old) for v, old in zip(model.trainable_variables, before, strict=True))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", compile=False)
    assert [layer.get_config() for layer in again.layers] == [layer.get_config() for layer in model.layers]
    assert again.layers[0].upper == model.layers[0].upper
    np.testing.assert_array_equal(again(_INPUTS), model(_INPUTS))
