"""Draws of a network that is random at inference, as the members of an ensemble: all of an image's in one batch."""

from typing import NamedTuple

import keras
from keras import ops

from tinyrobust.gradients import Tensor
from tinyrobust.graphs.topology import writer
from tinyrobust.quantizers.layers import weight_layers
from tinyrobust.quantizers.stochastic import StochasticQuantizer, mutual_information


class Answers(NamedTuple):
    """What the members say.

    Attributes:
        logits: [members, n, classes].
        features: The probability that a final feature is 1, [members, n, features]; None where none is made binary.
    """

    logits: Tensor
    features: Tensor | None

    @property
    def together(self) -> Tensor:
        """The logarithms of the mean of the members' probabilities, [n, classes]: logits of the ensemble."""
        # The logarithm of the mean, without leaving logarithms: probabilities underflow.
        return ops.logsumexp(ops.log_softmax(self.logits), axis=0) - ops.log(float(self.logits.shape[0]))

    @property
    def information(self) -> Tensor:
        """The mutual information of members and final features, [n], in nats a feature."""
        assert self.features is not None
        return mutual_information(self.features)


class Members:
    """A network, asked several times about every image in one pass: of so many times the batch.

    Args:
        network: Functional or sequential, with one input and one output.
        count: Members, M.

    Attributes:
        final: The quantizer of the final features; None: there is none.
    """

    def __init__(self, network: keras.Model, count: int) -> None:
        self.count, self.final = count, final_quantizer(network)
        outputs = {"logits": network.output}
        if self.final is not None:
            outputs["features"] = self.final.input
        self._graph = keras.Model(network.input, outputs)

    def __call__(self, inputs: Tensor, training: bool = False) -> Answers:
        """What the members make of inputs [n, ...], each by draws of its own."""
        repeated = ops.tile(inputs, (self.count, *[1] * (len(inputs.shape) - 1)))
        found = self._graph(repeated, training=training)
        logits, features = found["logits"], None
        if self.final is not None:
            features = self._split(self.final.upper(found["features"]))
        return Answers(self._split(logits), features)

    def _split(self, rows: Tensor) -> Tensor:
        """[members n, ...] -> [members, n, values]."""
        return ops.reshape(rows, (self.count, -1, rows.shape[-1]))


def final_quantizer(network: keras.Model) -> StochasticQuantizer | None:
    """The quantizer that draws what the last layer with weights reads; None: another layer puts that out."""
    layers = weight_layers(network)
    before = writer(layers[-1].input) if layers else None
    return before if isinstance(before, StochasticQuantizer) else None
