"""Fast adversarial training: the network learns on examples made against it, one gradient step a batch."""

import keras
from keras import ops

from tinyrobust.gradients import value_and_gradient
from tinyrobust.training.objectives import Batch, CrossEntropy, Objective, Tensor


class FastAdversarial(Objective):
    """Cross-entropy on FGSM examples from a random start (Wong, Rice and Kolter 2020, arXiv 2001.03994, algorithm 3).

    forward: `d = U(-e, e); d = clip(d + s e sign(grad_d loss(x + d)), -e, e); loss(clip(x + d, 0, 1))`. The random start and a
    step beyond the radius (s = 1.25) are what keeps one-step training from collapsing to a network that only withstands one
    step; check with an attack of many steps. The gradient is that of the network as it is deployed (inference mode: every
    channel quantized, batch-norm statistics held); the loss, and so the update, sees it in training mode. Batch-norm statistics
    follow the clean and the attacked images, in turn.

    Args:
        epsilon: Radius e of the L-inf ball, in input units.
        step: Size s of the step as a multiple of the radius.
        label_smoothing: Share of the target spread evenly over the classes, in [0, 1); in the loss, not in the attack.
        seed: Fixes the random starts.
        weight: Factor in the sum.
    """

    name = "fast_adversarial"

    def __init__(
        self, epsilon: float, step: float = 1.25, label_smoothing: float = 0.0, seed: int = 0, weight: float = 1.0
    ) -> None:
        super().__init__(weight)
        self.epsilon = epsilon
        self.step = step
        self.seed_generator = keras.random.SeedGenerator(seed)
        self._cross_entropy = CrossEntropy(label_smoothing)

    def __call__(self, batch: Batch) -> Tensor:
        """See the class."""
        logits = batch.network(self.examples(batch), training=batch.training)
        return self._cross_entropy(Batch(batch.inputs, batch.labels, logits, batch.network, batch.training))

    def examples(self, batch: Batch) -> Tensor:
        """The images that the loss sees, [n, h, w, c] in [0, 1], `epsilon` from the batch's at most; gradients stop here."""
        x = ops.convert_to_tensor(batch.inputs)
        start = keras.random.uniform(ops.shape(x), -self.epsilon, self.epsilon, dtype=x.dtype, seed=self.seed_generator)

        def loss(images: Tensor) -> Tensor:
            logits = batch.network(images, training=False)
            return CrossEntropy()(Batch(images, batch.labels, logits, batch.network, training=False))

        _, gradient = value_and_gradient(loss, x + start)
        moved = ops.clip(start + self.step * self.epsilon * ops.sign(gradient), -self.epsilon, self.epsilon)
        return ops.stop_gradient(ops.clip(x + moved, 0.0, 1.0))
