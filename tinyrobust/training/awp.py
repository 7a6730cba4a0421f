"""Adversarial weight perturbation: the gradient is taken where the weights are worse."""

from typing import TYPE_CHECKING

import keras
from keras import ops

from tinyrobust.gradients import Tensor
from tinyrobust.quantizers.layers import weight_layers
from tinyrobust.recipe import update as tables
from tinyrobust.training.update import Logs

if TYPE_CHECKING:
    from tinyrobust.training.learner import Learner


class WeightPerturbation:
    """AWP (Wu et al. 2020, arXiv 2004.05884, eq. 8 and algorithm 1, with one step of the weights).

    A step, with L the training loss on examples that are made once, at the weights as they are:

    1. `v_l = gamma |w_l| g_l / |g_l|`, `g_l = grad_{w_l} L(w)`, for the latent weights w_l of every weight layer, with
    Euclidean
       norms; biases, scales and batch norm stay. A layer without a gradient is not moved.
    2. The gradient `grad L(w + v)` of everything that is trained.
    3. The weights are w again, to the bit, and the optimizer steps from there: decay and averages know nothing of v.

    Curves are those at w + v. Batch-norm statistics follow the pass at w + v alone. TensorFlow only.

    Args:
        table: Gamma, and the share of the steps before the first in which weights are moved.
        steps: Of the optimizer, in the whole training.
    """

    def __init__(self, table: tables.Awp, steps: int) -> None:
        self._gamma = table.gamma
        self._first = round(table.warmup * steps)

    def step(self, learner: "Learner", batch: tuple[Tensor, Tensor]) -> Logs:
        """See the protocol."""
        import tensorflow as tf  # here: a rule is imported before the learner says that it needs TensorFlow

        batch = batch[:2]  # `train_on_batch` gives sample weights, which are none, too
        weights = [layer.latent_weights for layer in weight_layers(learner.network)]
        trained = learner.trainable_variables
        before = [tf.identity(weight.value) for weight in weights]
        with learner.same_examples(*batch):
            moves = self._moves(learner, batch, weights)
            for weight, move in zip(weights, moves, strict=True):
                weight.assign_add(move)
            with tf.GradientTape() as tape:
                loss = learner.recorded_loss(*batch)
            slopes = tape.gradient(loss, [variable.value for variable in trained])
        for weight, old in zip(weights, before, strict=True):
            weight.assign(old)
        learner.optimizer.apply_gradients(zip(slopes, trained, strict=True))
        logs: Logs = learner.get_metrics_result()
        return logs

    def _moves(self, learner: "Learner", batch: tuple[Tensor, Tensor], weights: list[keras.Variable]) -> list[Tensor]:
        """How far each is moved; nowhere before the first step in which they are."""
        import tensorflow as tf

        def made() -> list[Tensor]:
            slopes = _slopes(learner, batch, weights)
            return [moved(weight.value, slope, self._gamma) for weight, slope in zip(weights, slopes, strict=True)]

        if not self._first:
            return made()
        early = learner.optimizer.iterations.value < self._first
        none: list[Tensor] = tf.cond(early, lambda: [tf.zeros_like(weight.value) for weight in weights], made)
        return none


def moved(weights: Tensor, slope: Tensor, gamma: float) -> Tensor:
    """`gamma |w| g / |g|`, of the shape of `weights`; zero where there is no gradient."""
    lengths = [ops.sqrt(ops.sum(ops.square(one))) for one in (weights, slope)]
    return gamma * lengths[0] * ops.divide_no_nan(slope, lengths[1])


def _slopes(learner: "Learner", batch: tuple[Tensor, Tensor], weights: list[keras.Variable]) -> list[Tensor]:
    """Of the training loss at the weights as they are, which leaves batch-norm statistics as they were."""
    import tensorflow as tf

    state = learner.network.non_trainable_weights
    before = [tf.identity(variable.value) for variable in state]
    values = [weight.value for weight in weights]
    with tf.GradientTape() as tape:
        loss = learner.loss_of(*batch)
    slopes: list[Tensor] = tape.gradient(loss, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    for variable, old in zip(state, before, strict=True):
        variable.assign(old)
    return slopes
