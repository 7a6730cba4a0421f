"""Stochastic quantizers in a network that has none: at its input, between its blocks, on its final features."""

import re
import zlib
from collections.abc import Sequence

import keras

from tinyrobust.errors import RecipeError
from tinyrobust.graphs.clone import clone, same
from tinyrobust.graphs.topology import OUTPUT, readers, writer
from tinyrobust.quantizers.activations import ActivationQuantizer
from tinyrobust.quantizers.layers import weight_layers
from tinyrobust.recipe.stochastic import StochasticQuantizer

_POOLING = (keras.layers.MaxPooling2D, keras.layers.AveragePooling2D, keras.layers.GlobalAveragePooling2D)


def with_quantizers(network: keras.Model, tables: Sequence[StochasticQuantizer], seed: int) -> keras.Model:
    """The network with a quantizer in each of the places that the tables name, its weights taken over.

    At the input it stands before the one layer that reads the image, on the features before the last layer with weights
    (`logits`), and between the blocks behind every activation layer whose name matches, but for one that the features come
    from where those have a quantizer of their own. Where a pooling alone reads the activations, it stands behind that: the
    maximum of four draws is larger than a draw. A quantizer is called after what it quantizes: `image-sq`, `pool1-sq`.

    Args:
        network: As built.
        tables: The recipe's `[[stochastic]]`.
        seed: Every quantizer draws from a stream of its own, derived from this seed and its name.

    Raises:
        RecipeError: Several layers read the image, or no activation layer matches.
    """
    before: dict[str, list[keras.Layer]] = {}
    behind: dict[str, list[keras.Layer]] = {}

    def made(table: StochasticQuantizer, source: str) -> keras.Layer:
        name = f"{source}-sq"
        # crc32, not hash(): the same in every process.
        return table.build(name, zlib.crc32(f"{seed}/{name}".encode()) % 2**31)

    for table in tables:
        if table.place == "input":
            image = writer(network.input).name
            before.setdefault(_only_reader(network, image), []).append(made(table, image))
        elif table.place == "features":
            before.setdefault(weight_layers(network)[-1].name, []).append(made(table, _features_from(network)))
        else:
            taken = _features_from(network) if any(one.place == "features" for one in tables) else None
            for name in _between(network, table, taken):
                behind[name] = [made(table, name)]

    def replaced(layer: keras.Layer) -> list[keras.Layer]:
        copy = same(layer)
        if hasattr(layer, "role"):
            copy.role = layer.role
        return [*before.get(layer.name, ()), copy, *behind.get(layer.name, ())]

    whole = clone(network, replaced)
    whole.trainable = True
    return whole


def _only_reader(network: keras.Model, image: str) -> str:
    """The one layer that reads the image."""
    read_by = readers(network)[image]
    if len(read_by) != 1:
        raise RecipeError(
            f"Expected a network in which one layer reads the image, for place = 'input'. Received: {', '.join(read_by)}"
        )
    return read_by[0]


def _features_from(network: keras.Model) -> str:
    """The name of the layer whose output the last layer with weights reads: the final features."""
    name: str = writer(weight_layers(network)[-1].input).name
    return name


def _between(network: keras.Model, table: StochasticQuantizer, taken: str | None) -> list[str]:
    """The layers that are followed by a quantizer: activations, or what pools them."""
    read_by, there = readers(network), {}
    for layer in network.layers:
        if isinstance(layer, ActivationQuantizer):
            behind = read_by[layer.name]
            pooled = len(behind) == 1 and behind[0] != OUTPUT and isinstance(network.get_layer(behind[0]), _POOLING)
            there[layer.name] = behind[0] if pooled else layer.name
    found = [place for name, place in there.items() if re.fullmatch(table.layers, name) and place != taken]
    if not found:
        raise RecipeError(
            f"Expected layers = {table.layers!r} to match an activation layer. Received: a network with {', '.join(there)}",
            hint="The expression must match a whole name, such as 'stem-relu'.",
        )
    return found
