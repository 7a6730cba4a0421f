"""amplification.json: how much a network amplifies changes of its input, layer by layer."""

from typing import ClassVar

from pydantic import Field

from tinyrobust.records import Part, Record

AMPLIFICATION = "amplification.json"


class LayerAmplification(Part):
    """One layer with weights, and what it reads.

    Attributes:
        layer: Its name.
        jacobian: `|dz/da|_F`, where z are the logits and a is what the layer reads: root of the mean square over the images.
        spectral_norm: The largest singular value of the layer as a linear operator, on inputs of the size that it has.
        adversarial: `|a(x') - a(x)|_2 / |x' - x|_2` where x' is an adversarial example: mean over the images; 1 for the first
            layer. None: the attack changed nothing.
        random: The same where x' has random changes of the same size at every input value.
    """

    layer: str
    jacobian: float
    spectral_norm: float
    adversarial: float | None
    random: float | None


class AmplificationRecord(Record):
    """Of the network at inference: quantized weights, batch norm folded, activations rounded.

    Attributes:
        n: Images.
        images: Which.
        attack: What made the adversarial examples.
        epsilon: Its L-inf radius, in input units.
        layers: Every layer with weights, in the network's order.
        adversarial: See `LayerAmplification`, of the logits.
        random: Likewise.
        lipschitz_bound: The logits change at most so much more than the input, both in L2. It is the product of the spectral
            norms along a chain of layers; where branches are added, so are their bounds; where they are concatenated, it is
            the root of the sum of squares. Rounding is left out, and the norms are approached from below, so that it may be
            short of the bound by a little for every layer. None: an operation has no known bound.
    """

    SCHEMA: ClassVar[str] = "tinyrobust.amplification/1"
    n: int
    images: str
    attack: str
    epsilon: float
    layers: tuple[LayerAmplification, ...] = Field(min_length=1)
    adversarial: float | None
    random: float | None
    lipschitz_bound: float | None
