"""How much a network amplifies changes: Jacobians, spectral norms, and errors on their way through the layers."""

from collections.abc import Mapping

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tinyrobust.attacks.repair import Temperature
from tinyrobust.attacks.specs import Pgd
from tinyrobust.graphs.deployed import DeployedPass
from tinyrobust.graphs.freeze import freeze
from tinyrobust.progress import Progress, silent
from tinyrobust.robustness.amplification_record import AmplificationRecord, LayerAmplification
from tinyrobust.robustness.operators import lipschitz_bound, spectral_norm
from tinyrobust.robustness.targets import KerasTarget

Floats = npt.NDArray[np.float32]
IMAGES = 64
_STEPS = 10
_BATCH = 32
_LOGITS = ""


def measure(
    network: keras.Model,
    x: Floats,
    y: npt.NDArray[np.int64],
    *,
    images: str,
    epsilon: float,
    seed: int,
    temperature: float | None = None,
    progress: Progress = silent,
) -> AmplificationRecord:
    """How much a trained network amplifies changes of its inputs.

    Jacobians are exact: one pass back for every class. The adversarial examples are those of PGD of ten steps, without a random
    start (Madry et al. 2018); errors are followed through the layers as in Defensive Quantization (Lin et al. 2019, arXiv
    1904.08444, on error amplification).

    Args:
        network: As trained.
        x: Inputs in [0, 1], [n, ...].
        y: Class indices [n].
        images: Which they are, in words.
        epsilon: The L-inf radius of the adversarial examples.
        seed: Of the random changes.
        temperature: Of a network distilled at it: the attack is on logits / T, where its gradients do not vanish.
        progress: Called for every layer.
    """
    frozen = freeze(network)
    deployed = DeployedPass(frozen)
    jacobians = jacobian_norms(deployed, x, int(frozen.output.shape[-1]))
    target = KerasTarget(frozen, transform=Temperature(temperature) if temperature else None)
    attack = Pgd.of(steps=_STEPS, random_starts=0).build(target, epsilon, drop=False)
    adversarial = np.asarray(attack.generate(x, y))
    noisy = randomly_signed(x, adversarial, np.random.default_rng(seed))
    along = [error_amplification(frozen, deployed.reads, x, changed) for changed in (adversarial, noisy)]
    norms: dict[str, float] = {}
    for number, name in enumerate(deployed.reads):
        progress(f"amplification: {name}", number, len(deployed.reads))
        norms[name] = spectral_norm(frozen.get_layer(name))
    progress("amplification: measured", len(deployed.reads), len(deployed.reads))
    return AmplificationRecord(
        n=len(x),
        images=images,
        attack=f"PGD, {_STEPS} steps",
        epsilon=epsilon,
        layers=tuple(
            LayerAmplification(
                layer=name,
                jacobian=jacobians[read],
                spectral_norm=norms[name],
                adversarial=along[0][name],
                random=along[1][name],
            )
            for name, read in deployed.reads.items()
        ),
        adversarial=along[0][_LOGITS],
        random=along[1][_LOGITS],
        lipschitz_bound=lipschitz_bound(frozen, norms),
    )


def jacobian_norms(network: DeployedPass, x: Floats, classes: int) -> dict[str, float]:
    """`|dz/da|_F`, the root of its mean square over the inputs, of every a that a layer with weights reads.

    Args:
        network: The network.
        x: Inputs [n, ...].
        classes: How many logits z.

    Returns:
        By the name of the layer that puts out a.
    """
    tensors = list(dict.fromkeys(network.reads.values()))

    @tf.function
    def squares(inputs: tf.Tensor, directions: tf.Tensor) -> tf.Tensor:
        return tf.stack([tf.reduce_sum(one**2) for one in network.products(inputs, directions, tensors)])

    total = np.zeros(len(tensors))
    for batch in _batches(x):
        for label in range(classes):
            total += squares(tf.constant(batch), tf.one_hot([label] * len(batch), classes)).numpy()
    return dict(zip(tensors, np.sqrt(total / len(x)).tolist(), strict=True))


def error_amplification(network: keras.Model, reads: Mapping[str, str], x: Floats, changed: Floats) -> dict[str, float | None]:
    """`|a(x') - a(x)|_2 / |x' - x|_2`, mean over the inputs that are changed at all; None where none is.

    Args:
        network: From inputs to logits.
        reads: By the names of layers: the name of the layer that puts out the a that each reads.
        x: Inputs [n, ...].
        changed: x', of the same shape.

    Returns:
        By the names of layers; of the logits by the empty name.
    """
    inside = keras.Model(network.input, [*(network.get_layer(read).output for read in reads.values()), network.output])
    moved = np.flatnonzero((changed != x).reshape(len(x), -1).any(axis=1))
    if not len(moved):
        return dict.fromkeys((*reads, _LOGITS))
    lengths = []
    for rows in _batches(moved):
        ends = zip(*(inside.predict_on_batch(one[rows]) for one in (changed, x)), strict=True)
        lengths.append([_length(after - before) / _length(changed[rows] - x[rows]) for after, before in ends])
    means = np.concatenate(lengths, axis=1).mean(axis=1).tolist()
    return dict(zip((*reads, _LOGITS), means, strict=True))


def randomly_signed(x: Floats, changed: Floats, random: np.random.Generator) -> Floats:
    """Inputs with changes of the same size at every value, and random signs where both lead to a value in [0, 1]."""
    change = changed - x
    turned = x + change * random.choice(np.array([-1, 1], np.float32), size=x.shape)
    return np.where((turned >= 0) & (turned <= 1), turned, changed)


def _batches(rows: npt.NDArray[np.generic]) -> list[npt.NDArray[np.generic]]:
    return np.array_split(rows, range(_BATCH, len(rows), _BATCH))


def _length(rows: Floats) -> npt.NDArray[np.float64]:
    return np.asarray(np.linalg.norm(rows.reshape(len(rows), -1).astype(np.float64), axis=1))
