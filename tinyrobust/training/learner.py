"""The Keras model that is fitted: a network and the objectives that it is trained for."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TypedDict

import keras
from keras import ops

from tinyrobust.errors import MissingToolError
from tinyrobust.gradients import Tensor
from tinyrobust.quantizers.layers import weight_layers
from tinyrobust.recipe.train import Train
from tinyrobust.training import update
from tinyrobust.training.front_end import features_of
from tinyrobust.training.objectives import Batch, Objective
from tinyrobust.training.objectives.attacking import Attacking
from tinyrobust.training.objectives.ensemble import Sampled
from tinyrobust.training.update import Logs, PlainStep, UpdateRule


class Outputs(TypedDict, total=False):
    """What one forward pass gives: logits [n, classes], and of the rest what an objective needs; without a pass, no logits."""

    logits: Tensor
    features: Tensor
    activations: dict[str, Tensor]


class Learner(keras.Model):
    """A network under its objectives; Keras' `fit` drives it.

    The history gets a curve for every objective beside `loss` (their weighted sum plus the layers' penalties) and `accuracy`.
    Where objectives attack and none sees clean inputs, training makes no pass over these: `accuracy` is that on the examples
    of the first that attacks. `val_accuracy` is always that on clean images. Of an ensemble of draws, both are the ensemble's.

    Args:
        network: From images, or features, to logits.
        objectives: What it is trained for.
        front_end: What makes features of clips: in training the inputs are sound then, [n, 16000] in [0, 1].
        rule: What happens in a training step.

    Raises:
        MissingToolError: The rule is another than the plain step, and Keras does not run on TensorFlow.
    """

    def __init__(
        self,
        network: keras.Model,
        objectives: Sequence[Objective],
        front_end: keras.Layer | None = None,
        rule: UpdateRule | None = None,
    ) -> None:
        super().__init__(name="learner")
        self.network = network
        # A tuple of plain objects: Keras must not track (and save) a teacher as a part of the student.
        self._objectives = tuple(objectives)
        # These it must: their states are part of a checkpoint, and of the compiled step under JAX.
        self._generators = [objective.seed_generator for objective in objectives if objective.seed_generator]
        self._ramps = [one.perturbation.reach for one in objectives if isinstance(one, Attacking) and one.perturbation.ramp]
        self._curves = [keras.metrics.Mean(name=objective.name) for objective in objectives]
        self._accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
        attacks = any(isinstance(one, Attacking | Sampled) for one in objectives)
        self._passes_clean = not attacks or any(one.sees_clean for one in objectives)
        self._kept: tuple[Tensor | None, ...] | None = None
        needs = frozenset().union(*(objective.needs for objective in objectives))
        # Functions: Keras must not take the front end, which has no weights, or the network once more, for a part.
        self._front_end = partial(features_of, front_end) if front_end is not None else None
        self._forward = _forward(network, activations="activations" in needs)
        self._shows_features = "features" in needs
        self._teacher = _asking([objective.teacher for objective in objectives if objective.teacher is not None])
        self._rule = rule or PlainStep()
        backend = keras.backend.backend()
        if backend != "tensorflow" and not isinstance(self._rule, PlainStep):
            raise MissingToolError(
                f"Expected Keras on TensorFlow for update rules other than plain. Received: backend {backend!r}.",
                hint="Set KERAS_BACKEND=tensorflow before Python starts, or leave train.update out.",
            )

    def call(self, inputs: Tensor, training: bool | None = None) -> Outputs:
        """Images [n, h, w, c], clips or features to logits [n, classes], and what objectives need beside them."""
        features = self._front_end(inputs) if self._front_end else inputs
        outputs: Outputs = self._forward(features, training) if self._passes_clean or not training else {}
        return {**outputs, "features": features} if self._shows_features else outputs

    def train_step(self, *arguments: Tensor) -> Logs:
        """Called by Keras: with a batch under TensorFlow, with a state and a batch under JAX."""
        if keras.backend.backend() == "tensorflow":
            return self._rule.step(self, *arguments)
        logs: Logs = super().train_step(*arguments)  # with the new state, under JAX
        return logs

    def plain_step(self, batch: tuple[Tensor, Tensor]) -> Logs:
        """Keras' own training step, for update rules."""
        logs: Logs = super().train_step(batch)
        return logs

    def loss_of(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """The training loss of a batch at the weights as they are, for update rules; no curve shows it."""
        batch = self._batch(inputs, labels, self(inputs, training=True), training=True)
        return self._sum(self._values(batch)[0])

    def recorded_loss(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """As `loss_of`, and the curves show it: for update rules that take the gradient themselves, once a step."""
        loss = self.compute_loss(inputs, labels, self(inputs, training=True))
        (tracker,) = (metric for metric in self.metrics if metric.name == "loss")
        tracker.update_state(loss, sample_weight=ops.shape(inputs)[0])
        return loss

    @contextmanager
    def same_examples(self, inputs: Tensor, labels: Tensor) -> Iterator[None]:
        """Within, attacking objectives learn on examples that are made at once: for rules that look at a batch twice."""
        features = self._front_end(inputs) if self._front_end else inputs
        batch = self._batch(inputs, labels, {"features": features} if self._shows_features else {}, training=True)
        self._kept = tuple(one.examples(batch) if isinstance(one, Attacking) else None for one in self._objectives)
        try:
            yield
        finally:
            self._kept = None

    def compute_loss(
        self,
        x: Tensor = None,
        y: Tensor = None,
        y_pred: Outputs | None = None,
        sample_weight: Tensor = None,
        training: bool = True,
    ) -> Tensor:
        """The weighted sum of the objectives and of the layers' penalties."""
        del sample_weight
        assert y_pred is not None
        batch = self._batch(x, y, y_pred, training=training)
        values, logits = self._values(batch)
        for value, curve in zip(values, self._curves, strict=True):
            curve.update_state(value, sample_weight=ops.shape(logits)[0])  # as `loss`: the last batch may be smaller
        self._accuracy.update_state(batch.labels, logits)
        return self._sum(values)

    def compute_metrics(self, x: Tensor, y: Tensor, y_pred: Outputs, sample_weight: Tensor = None) -> Logs:
        """Called by Keras: all curves are those of `compute_loss`, which alone knows the logits of examples."""
        del x, y, y_pred, sample_weight
        logs: Logs = self.get_metrics_result()
        return logs

    def _values(self, batch: Batch) -> tuple[list[Tensor], Tensor]:
        """Of each objective, and the logits that accuracy is of: for the inputs, or else for the examples of the first.

        Those of an ensemble of draws go before.
        """
        values, logits = [], batch.logits
        for number, objective in enumerate(self._objectives):
            if isinstance(objective, Attacking):
                attacked = objective.logits(batch, self._kept[number] if self._kept else objective.examples(batch))
                values.append(objective.value(batch, attacked))
                logits = attacked if logits is None else logits
            elif isinstance(objective, Sampled):
                answers = objective.answers(batch)
                values.append(objective.value(batch, answers))
                logits = answers.together
            else:
                values.append(objective(batch))
        return values, logits

    def _batch(self, inputs: Tensor, labels: Tensor, outputs: Outputs, *, training: bool) -> Batch:
        features = outputs.get("features")
        # Of a teacher that was asked about all training inputs beforehand, the answers come with the labels.
        labels, asked = (labels["labels"], labels["teacher_logits"]) if isinstance(labels, dict) else (labels, None)
        batch = Batch(
            inputs=inputs,
            labels=labels,
            logits=outputs.get("logits"),
            network=self.network,
            training=training,
            features=features,
            activations=outputs.get("activations"),
            teacher_logits=self._teacher(features) if self._teacher and asked is None else asked,
        )
        return replace(batch, front_end=self._front_end) if self._front_end else batch

    def _sum(self, values: Sequence[Tensor]) -> Tensor:
        total = ops.convert_to_tensor(sum(self.losses, start=0.0), dtype="float32")
        for objective, value in zip(self._objectives, values, strict=True):
            total = total + objective.weight * value
        return total


def _forward(network: keras.Model, *, activations: bool) -> Callable[[Tensor, bool | None], Outputs]:
    """One pass through the network, from its input to logits and to what all hidden layers put out."""
    if not activations:
        return lambda inputs, training: {"logits": network(inputs, training=training)}
    hidden = [layer for layer in network.layers if layer.output is not network.output and layer.output is not network.input]
    whole = keras.Model(network.input, {"logits": network.output, "activations": {one.name: one.output for one in hidden}})
    return lambda inputs, training: whole(inputs, training=training)


def _asking(teachers: Sequence[keras.Model]) -> Callable[[Tensor], Tensor] | None:
    """From features to the logits of the teacher that all objectives have; None where none has any.

    Raises:
        ValueError: There are several: they would be one model.
    """
    if not teachers:
        return None
    if any(teacher is not teachers[0] for teacher in teachers):
        raise ValueError(f"Expected one teacher for all objectives. Received: {len(teachers)}, which are not the same")
    return lambda features: ops.stop_gradient(teachers[0](features, training=False))


def compiled(
    network: keras.Model,
    objectives: Sequence[Objective],
    settings: Train,
    steps: int,
    front_end: keras.Layer | None = None,
) -> Learner:
    """A learner that is ready to fit for `steps` optimizer steps in all."""
    learner = Learner(network, objectives, front_end, update.build(settings.update, steps))
    learner.compile(
        optimizer=_optimizer(network, settings, steps),
        # XLA on a CPU is slower for these networks than TensorFlow's own kernels; JAX always compiles.
        jit_compile=keras.backend.backend() == "jax",
    )
    learner.build((None, *network.input_shape[1:]))
    learner.optimizer.build(learner.trainable_variables)
    return learner


def _optimizer(network: keras.Model, settings: Train, steps: int) -> keras.optimizers.Optimizer:
    make = partial(keras.optimizers.SGD, momentum=0.9, nesterov=True) if settings.optimizer == "sgd" else keras.optimizers.AdamW
    if settings.averages:
        # With a momentum of 1 the optimizer holds an average and leaves it to whoever sets it: `ValidateAverage`.
        make = partial(make, use_ema=True, ema_momentum=settings.ema or 1.0)
    optimizer = make(_learning_rate(settings, steps), weight_decay=settings.weight_decay)
    latent = {id(layer.latent_weights) for layer in weight_layers(network)}
    optimizer.exclude_from_weight_decay([v for v in network.trainable_variables if id(v) not in latent])
    return optimizer


def _learning_rate(settings: Train, steps: int) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """One-cycle: a linear rise to the peak, then half a cosine to zero (Smith and Topin 2017, without the last annealing).

    Step: the peak, and from each of the shares `drops` of the steps on a tenth of what it was.
    """
    peak = settings.learning_rate
    if settings.schedule == "step" and settings.drops:
        last = [round(share * steps) - 1 for share in settings.drops]  # Keras' boundaries belong to the piece before
        rates = [peak / 10**number for number in range(len(last) + 1)]
        return keras.optimizers.schedules.PiecewiseConstantDecay(last, rates)
    if settings.schedule in ("step", "constant"):
        return peak
    rise = round(settings.warmup * steps) if settings.schedule == "one-cycle" else 0
    return keras.optimizers.schedules.CosineDecay(
        peak / 25 if rise else peak, max(1, steps - rise), warmup_target=peak if rise else None, warmup_steps=rise
    )
