"""Parity: does the file answer like the network that was trained? Measured on real images, arrow by arrow."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt

from tinyrobust.data.arrays import scale
from tinyrobust.deploy import artefact as artefacts
from tinyrobust.deploy import grids
from tinyrobust.deploy.artefact import Artefact
from tinyrobust.deploy.deploy_records import Agreement, KernelParity, LayerParity, ParityRecord, TernaryKernel
from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.deploy.matching import Match, along_channels, kernel, kernel_distances, match
from tinyrobust.deploy.twin import build_twin, outputs, source_layers
from tinyrobust.errors import ModelFileError, ParityError
from tinyrobust.formats import TERNARY
from tinyrobust.graphs.folding import WEIGHT_LAYERS
from tinyrobust.graphs.freeze import with_fixed_weights, without_rounding
from tinyrobust.progress import Progress, silent
from tinyrobust.quantizers.layers import weight_layers
from tinyrobust.recipe.export import Export

TWIN_TOLERANCE = 1e-4
# Rounding moves a weight by half a step; the rest is for scales that are kept in single precision.
KERNEL_TOLERANCE = 0.51
# What a scale in single precision explains of a distance, in steps: a weight that is so near is exact.
_EXACT = 1e-4

_LAYER_IMAGES = 32
_BATCH = 100


@dataclass(frozen=True, eq=False)
class Samples:
    """Real images that parity is measured on; none of the test set.

    Attributes:
        images: uint8 [n, h, w, c].
        labels: Their class indices, [n].
        source: Where they come from, in words.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    source: str


def measure(
    model: keras.Model,
    path: Path,
    samples: Samples,
    settings: Export,
    *,
    arena_bytes: int,
    progress: Progress = silent,
) -> ParityRecord:
    """Compares a QKeras model with its twin and with the `.tflite` that was made from it.

    Args:
        model: The trained network.
        path: The file.
        samples: At least one.
        settings: The tolerances.
        arena_bytes: What the file's activations need in RAM at once.
        progress: Called with how many images the file has classified.

    Raises:
        ModelFileError: The file is not one that `convert` made from this network's layers, or there are no images.
    """
    if len(samples.images) == 0:
        raise ModelFileError("Expected images to measure parity on. Received: none.")
    file = artefacts.read(path)
    x, labels = scale(samples.images), samples.labels
    twin = build_twin(model)
    matches = match(twin, file)
    answers, answers_int8 = _logits(with_fixed_weights(model), x).argmax(1), _classify(path, x, progress).argmax(1)
    accuracies = float(np.mean(answers == labels)), float(np.mean(answers_int8 == labels))
    layers = layer_errors(model, file, matches, grids.limits(twin), x[:_LAYER_IMAGES])
    kernels = kernel_errors(file, matches)
    worst_kernel = max(kernels, key=lambda one: one.largest_steps)
    return ParityRecord(
        n=len(samples.images),
        images=samples.source,
        twin_relative_error=twin_error(model, twin, x),
        twin_tolerance=TWIN_TOLERANCE,
        accuracy_qkeras=accuracies[0],
        accuracy_int8=accuracies[1],
        accuracy_drop_points=100 * (accuracies[0] - accuracies[1]),
        accuracy_drop_tolerance=settings.accuracy_drop,
        top1_agreement=float(np.mean(answers == answers_int8)),
        top1_tolerance=settings.agreement,
        kernel_error_steps=worst_kernel.largest_steps,
        kernel_error_tolerance=KERNEL_TOLERANCE,
        worst_kernel=worst_kernel.layer,
        kernels=kernels,
        ternary_kernels=ternary_kernels(model, file, matches),
        layers=layers,
        worst_layer=max(layers, key=lambda layer: layer.relative_error).layer,
        operators=sorted({operator.name for operator in file.operators}),
        arena_bytes=arena_bytes,
    )


def check(record: ParityRecord) -> None:
    """Refuses an export whose neighbours disagree.

    Raises:
        ParityError: Listing what broke, with figures and tolerances.
    """
    most = max((kernel.most_values_per_channel for kernel in record.ternary_kernels), default=0)
    texts: dict[Agreement, str] = {
        "twin": f"twin against QKeras: expected a relative error of at most {record.twin_tolerance:.0e}. "
        f"Received: {record.twin_relative_error:.2e}",
        "kernels": f"weights: expected each within {record.kernel_error_tolerance} steps of the twin's. "
        f"Received: {record.kernel_error_steps:.1f} steps in {record.worst_kernel!r}",
        "ternary": f"ternary kernels: expected at most {TERNARY.levels} values per channel. "
        f"Received: up to {most} in {', '.join(record.not_ternary)}",
        "accuracy": f"accuracy: expected int8 to lose at most {record.accuracy_drop_tolerance:g} points. "
        f"Received: {100 * record.accuracy_qkeras:.2f} % -> {100 * record.accuracy_int8:.2f} %",
        "top1": f"top-1 agreement: expected at least {100 * record.top1_tolerance:.2f} %. "
        f"Received: {100 * record.top1_agreement:.2f} %",
    }
    broken = [texts[agreement] for agreement, holds in record.holds.items() if not holds]
    if not broken:
        return
    error = max(layer.relative_error for layer in record.layers)
    raise ParityError(
        f"The exported file is not the trained network, measured on {record.n} images:\n  - " + "\n  - ".join(broken) + "\n"
        f"The worst layer is {record.worst_layer!r}: relative error {error:.1%}.",
        hint="A barely trained network decides many images by a hair: train it longer. If the worst layer is no rounded "
        "activation, its range comes from the calibration images: raise export.calibration_samples.",
    )


def twin_error(model: keras.Model, twin: keras.Model, x: npt.NDArray[np.float32]) -> float:
    """Largest difference between the twin's logits and those of the network without rounding, over the largest logit."""
    expected = _logits(without_rounding(model), x)
    return float(np.abs(_logits(twin, x) - expected).max() / np.abs(expected).max())


def kernel_errors(file: Artefact, matches: Mapping[str, Match]) -> list[KernelParity]:
    """How far the weights of every layer that has some are from the twin's, in the network's order."""
    errors = []
    for name, place in matches.items():
        if not isinstance(place.layer, WEIGHT_LAYERS) or place.operator is None:
            continue
        tensor, weights = file.tensors[place.operator.inputs[1]], kernel(place.layer)
        sizes = along_channels(tensor.scales.astype(np.float64), tensor) if tensor.quantized else 1.0
        steps = kernel_distances(place.layer, tensor)
        steps[steps < _EXACT] = 0
        errors.append(
            KernelParity(
                layer=name,
                largest_steps=float(steps.max()),
                mean_steps=float(steps.mean()),
                relative_error=float(np.linalg.norm(steps * sizes)) / (float(np.linalg.norm(weights)) or 1.0),
            )
        )
    return errors


def layer_errors(
    model: keras.Model,
    file: Artefact,
    matches: Mapping[str, Match],
    limits: Mapping[str, tuple[float, float]],
    x: npt.NDArray[np.float32],
) -> list[LayerParity]:
    """The relative RMS error of every layer that has a tensor of its own in the file, on images `x` (float, in [0, 1]).

    What lies beyond the `limits` of a layer makes no difference, and counts as the limit.
    """
    sources = source_layers(model)
    compared = {
        name: place.tensor for name, place in matches.items() if place.exact and place.operator is not None and name in sources
    }
    network = keras.Model(model.inputs[0], [model.get_layer(sources[name]).output for name in compared])
    expected = next(outputs(network, x))
    received = _intermediate(file, x, list(compared.values()))
    layers = []
    for name, reference, values in zip(compared, expected, received, strict=True):
        counted = np.clip(reference, *limits.get(name, (None, None)))
        error = _relative(values.reshape(reference.shape), counted)
        layers.append(LayerParity(layer=sources[name], relative_error=error))
    return layers


def ternary_kernels(model: keras.Model, file: Artefact, matches: Mapping[str, Match]) -> list[TernaryKernel]:
    """The values of every kernel whose quantizer ends in ternary weights."""
    kernels = []
    for layer in weight_layers(model):
        operator = matches[layer.name].operator
        if layer.weight_quantizer is None or layer.weight_quantizer.storage is not TERNARY or operator is None:
            continue
        tensor = file.tensors[operator.inputs[1]]
        channels = np.moveaxis(np.asarray(tensor.data), tensor.quantized_dimension, 0)
        most = max(len(np.unique(channel)) for channel in channels)
        kernels.append(TernaryKernel(tensor=tensor.name, channels=len(channels), most_values_per_channel=most))
    return kernels


def _logits(model: keras.Model, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.concatenate([batch[0] for batch in outputs(model, x)])


def _classify(path: Path, x: npt.NDArray[np.float32], progress: Progress) -> npt.NDArray[np.float32]:
    model = Int8Model(path)
    scores = []
    for start in range(0, len(x), _BATCH):
        scores.append(model.predict(x[start : start + _BATCH]))
        progress("parity", min(start + _BATCH, len(x)), len(x))
    return np.concatenate(scores)


def _intermediate(file: Artefact, x: npt.NDArray[np.float32], tensors: list[int]) -> list[npt.NDArray[np.float64]]:
    """What the file puts into `tensors` for every image, as real numbers."""
    model = Int8Model(file.path)
    described = [file.tensors[index] for index in tensors]
    return [
        (values.astype(np.float64).reshape(len(x), *tensor.shape[1:]) - tensor.zero_points[0]) * tensor.scales[0]
        for values, tensor in zip(model.tensors(model.quantized(x), tensors), described, strict=True)
    ]


def _relative(values: npt.NDArray[np.floating], reference: npt.NDArray[np.floating]) -> float:
    """RMS error over RMS value; the error itself where the value is zero everywhere."""
    error = np.sqrt(np.mean((values - reference) ** 2, dtype=np.float64))
    return float(error / (np.sqrt(np.mean(reference**2, dtype=np.float64)) or 1.0))
