"""The search of a bit budget: a format for every layer that the rules leave open, from the trained float network."""

from collections.abc import Callable

import keras

from tinyrobust.data.arrays import Dataset
from tinyrobust.progress import Progress
from tinyrobust.quantizers.layers import weight_layers
from tinyrobust.recipe import Recipe
from tinyrobust.training.after import take_weights
from tinyrobust.training.budget import Sizes, allocate, sizes_of
from tinyrobust.training.precision_record import LayerPrecision, PrecisionRecord
from tinyrobust.training.sensitivity import Kernels, sensitivities


def choose(
    network: Callable[[Recipe], keras.Model], trained: keras.Model, dataset: Dataset, recipe: Recipe, progress: Progress
) -> PrecisionRecord:
    """Chooses the formats with which the network fits the recipe's budget and the measure suffers least.

    Sensitivities of layers are taken to add up: that is an assumption, good where each is small, and what makes the choice an
    integer program (as in HAWQ-V3, Yao et al. 2021, arXiv 2011.10680).

    Args:
        network: Builds the untrained network of a recipe.
        trained: The recipe's network in float, trained.
        dataset: Training images.
        recipe: Budget and search.
        progress: Called with a label, what is done and how much there is.

    Raises:
        RecipeError: The budget is below the smallest possible.
        TrainingError: What is measured is not finite.
    """
    precision = recipe.precision
    search, budget = precision.search, precision.budget
    assert budget is not None
    sizes = sizes_of(trained, precision)
    names = [layer.name for layer in sizes.free]

    def quantized(number: int) -> Kernels:
        chosen = precision.choose(dict.fromkeys(names, search.candidates[number]))
        student = network(recipe.model_copy(update={"precision": chosen}))
        take_weights(trained, student)
        return {layer.name: layer.quantized_weights() for layer in weight_layers(student)}

    value, found = sensitivities(trained, quantized, names, dataset.train, search, recipe.seed, progress)
    numbers = allocate(found, sizes.free_bytes, budget - sizes.fixed_bytes)
    rows = dict(zip(names, zip(numbers, found.tolist(), strict=True), strict=True))
    record = PrecisionRecord(
        budget=budget,
        smallest=sizes.smallest,
        largest=sizes.largest,
        measure=search.measure,
        images=min(search.images, len(dataset.train)),
        value=value,
        candidates=search.candidates,
        layers=tuple(_layer(sizes, index, rows) for index in range(len(sizes.layers))),
    )
    said = "all in their largest format" if record.total == sizes.largest else f"{record.total / budget:.1%} of the budget"
    progress(f"precision: {record.total} B, {said}", 1, 1)
    return record


def _layer(sizes: Sizes, index: int, rows: dict[str, tuple[int, list[float]]]) -> LayerPrecision:
    layer = sizes.layers[index]
    number, found = rows.get(layer.name, (0, []))
    weights = layer.format or sizes.candidates[number]
    return LayerPrecision(
        layer=layer.name,
        weight_count=layer.weights,
        table_bytes=layer.table_bytes,
        format=weights,
        weight_bytes=layer.bytes_in(weights),
        candidate_bytes=tuple(layer.bytes_in(one) for one in sizes.candidates) if found else (),
        sensitivities=tuple(found),
    )
