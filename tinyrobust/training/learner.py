"""The Keras model that is fitted: a network and the objectives that it is trained for."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from tinyrobust.quantizers.layers import weight_layers
from tinyrobust.recipe.train import Train
from tinyrobust.training.objectives import Batch, Objective, Tensor


class Learner(keras.Model):
    """A network under its objectives; Keras' `fit` drives it.

    The history gets a curve for every objective beside `loss` (their weighted sum plus the layers' penalties) and `accuracy`.
    """

    def __init__(self, network: keras.Model, objectives: Sequence[Objective]) -> None:
        super().__init__(name="learner")
        self.network = network
        # A tuple of plain objects: Keras must not track (and save) a teacher as a part of the student.
        self._objectives = tuple(objectives)
        # These it must: their states are part of a checkpoint, and of the compiled step under JAX.
        self._generators = [objective.seed_generator for objective in objectives if objective.seed_generator]
        self._curves = [keras.metrics.Mean(name=objective.name) for objective in objectives]

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        """Images [n, h, w, c] to logits [n, classes]."""
        return self.network(inputs, training=training)

    def compute_loss(
        self,
        x: Tensor = None,
        y: Tensor = None,
        y_pred: Tensor = None,
        sample_weight: Tensor = None,
        training: bool = True,
    ) -> Tensor:
        """The weighted sum of the objectives and of the layers' penalties."""
        del sample_weight
        batch = Batch(inputs=x, labels=y, logits=y_pred, network=self.network, training=training)
        total = ops.convert_to_tensor(sum(self.losses, start=0.0), dtype="float32")
        for objective, curve in zip(self._objectives, self._curves, strict=True):
            value = objective(batch)
            curve.update_state(value, sample_weight=ops.shape(y_pred)[0])  # as `loss` is: the last batch may be smaller
            total = total + objective.weight * value
        return total


def compiled(
    network: keras.Model,
    objectives: Sequence[Objective],
    settings: Train,
    steps: int,
    kind: Callable[[keras.Model, Sequence[Objective]], Learner] = Learner,
) -> Learner:
    """A learner, of that kind, that is ready to fit for `steps` optimizer steps in all."""
    learner = kind(network, objectives)
    learner.compile(
        optimizer=_optimizer(network, settings, steps),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        # XLA on a CPU is slower for these networks than TensorFlow's own kernels; JAX always compiles.
        jit_compile=keras.backend.backend() == "jax",
    )
    learner.build((None, *network.input_shape[1:]))
    learner.optimizer.build(learner.trainable_variables)
    return learner


def _optimizer(network: keras.Model, settings: Train, steps: int) -> keras.optimizers.Optimizer:
    average: dict[str, Any] = {"use_ema": True, "ema_momentum": settings.ema} if settings.ema else {}
    rate = _learning_rate(settings, steps)
    if settings.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, weight_decay=settings.weight_decay, **average)
    else:
        optimizer = keras.optimizers.AdamW(rate, weight_decay=settings.weight_decay, **average)
    latent = {id(layer.latent_weights) for layer in weight_layers(network)}
    optimizer.exclude_from_weight_decay([v for v in network.trainable_variables if id(v) not in latent])
    return optimizer


def _learning_rate(settings: Train, steps: int) -> Any:
    """One-cycle: a linear rise to the peak, then half a cosine to zero (Smith and Topin 2017, without the last annealing)."""
    peak = settings.learning_rate
    if settings.schedule == "constant":
        return peak
    rise = round(settings.warmup * steps) if settings.schedule == "one-cycle" else 0
    return keras.optimizers.schedules.CosineDecay(
        peak / 25 if rise else peak, max(1, steps - rise), warmup_target=peak if rise else None, warmup_steps=rise
    )
