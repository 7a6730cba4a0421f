"""Small Jacobians, layer by layer: what enters a layer changed changes the logits little."""

import re

import keras
from keras import ops

from tinyrobust.errors import TrainingError
from tinyrobust.gradients import Tensor
from tinyrobust.graphs.deployed import DeployedPass
from tinyrobust.recipe import objectives as tables
from tinyrobust.training.objectives.base import Batch, Objective, Supplies

_TINY = 1e-12


class Jacobian(Objective):
    """Half the squared Frobenius norms of the Jacobians dz/da_l, summed over layers l (Hoffman et al. 2019, arXiv 1908.02729).

    forward: `1/2 sum_l mean_i K |v_i^T dz_i/da_l,i|^2`, where z are the K logits, a_l is what the weight layer l reads (for the
    first the network's input; what several read counts once), and v_i is a random unit vector, drawn anew for every image and
    projection: over the draws, `E K |v^T J|^2 = |J|_F^2`. One product of v with the Jacobians gives
    those of all layers. What layers read, and not what they put out before their batch norm: a longer kernel makes the
    derivative with respect to the latter smaller, and changes nothing.

    Of the network as it is deployed: inference mode, quantized weights with their straight-through gradients, batch norm folded
    (`folding.deployed`). Every so many-th image of a batch is looked at: that estimates the same mean in less time, with more
    variance.

    Raises:
        TrainingError: No layer with weights has a name that matches; at the first call.
    """

    sees_clean = False

    def __init__(self, table: tables.Jacobian, supplies: Supplies) -> None:
        super().__init__(table, supplies)
        self.layers, self.projections, self.every = table.layers, table.projections, table.every
        self.seed_generator = keras.random.SeedGenerator(supplies.seed)

    def __call__(self, batch: Batch) -> Tensor:
        """See the class."""
        network, classes = DeployedPass(batch.network), batch.network.output_shape[-1]
        inputs = ops.repeat(ops.convert_to_tensor(batch.features)[:: self.every], self.projections, axis=0)
        directions = keras.random.normal((ops.shape(inputs)[0], classes), seed=self.seed_generator)
        directions /= ops.sqrt(ops.sum(ops.square(directions), axis=1, keepdims=True)) + _TINY
        products = network.products(inputs, directions, self._counted(network))
        return 0.5 * classes * sum(ops.mean(ops.sum(ops.square(one), axis=tuple(range(1, len(one.shape))))) for one in products)

    def _counted(self, network: DeployedPass) -> list[str]:
        """The names of the layers that put out what the layers that count read, each once."""
        read = dict.fromkeys(tensor for layer, tensor in network.reads.items() if re.fullmatch(self.layers, layer))
        if not read:
            raise TrainingError(
                f"Expected layers with weights that match {self.layers!r}. Received: {', '.join(network.reads)}.",
                hint="The expression in `layers` of the objective `jacobian` must match a whole name.",
            )
        return list(read)
