"""The networks of an existing model: the one that its file was made from, and others that answer with it or attack it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import keras

from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.errors import ModelFileError
from tinyrobust.graphs.freeze import freeze
from tinyrobust.graphs.numbers import NETWORK, restored
from tinyrobust.networks.catalog import build
from tinyrobust.pipeline.folder import read
from tinyrobust.pipeline.models import is_run
from tinyrobust.quantizers.stochastic import stochastic_layers
from tinyrobust.recipe import Recipe
from tinyrobust.robustness.job import EvaluationJob, members_of


def with_networks(
    job: EvaluationJob,
    recipe: Recipe | None,
    temperature: float | None,
    surrogate: str | Path | None,
    members: Sequence[str | Path],
) -> EvaluationJob:
    """The job with the network of its run and those that were named.

    Raises:
        ModelFileError: There is no network that the members could join, or one of them is no network.
    """
    tflite = job.subject.tflite
    own, remarks = _own_network(recipe, tflite)
    if members and not own:
        raise ModelFileError(
            f"Expected a run whose network the members join. Received: {tflite}, of which only the file is known"
        )
    others = [_network(Path(member))[0] for member in members]
    network, trained = (None, None) if surrogate is None else _network(Path(surrogate))
    subject = replace(
        job.subject,
        members=members_of(tflite, *own, *others),
        surrogate=network,
        temperature=temperature or (recipe.temperature if recipe else None),
        remarks=(*remarks, *(() if surrogate is None else (_relation(str(surrogate), trained, recipe),))),
    )
    return replace(job, subject=subject)


def own_network(recipe: Recipe, tflite: Path) -> keras.Model | None:
    """The network that a file was made from, frozen: of a run that it trained, else from the numbers beside the file.

    Args:
        recipe: That it was trained by.
        tflite: The file.

    Returns:
        None where there are no numbers.

    Raises:
        ModelFileError: They are damaged, or of another network.
    """
    if is_run(tflite):
        return freeze(keras.models.load_model(tflite.with_name("model.keras"), compile=False))
    numbers = tflite.with_name(NETWORK)
    if not numbers.is_file():
        return None
    file = Int8Model(tflite)
    height, width, channels = file.input_shape
    return freeze(restored(build(recipe, (height, width, channels), file.classes), numbers))


def _own_network(recipe: Recipe | None, tflite: Path) -> tuple[list[keras.Model], tuple[str, ...]]:
    """The network that a file was made from, where it is known, and what must be said where it should be and is not."""
    if recipe is None:
        return [], ()
    network = own_network(recipe, tflite)
    if network is not None:
        return [network], ()
    missing = f"{tflite.parent.name} has no {NETWORK}: what was measured on its network (keras, all) is not measured again."
    return [], (missing,)


def _network(path: Path) -> tuple[keras.Model, Recipe | None]:
    """The network of a run's folder, or of a `.keras` file, and its recipe where that is known."""
    run = (path / "run.json").is_file()
    if not run and (not path.is_file() or path.suffix != ".keras"):
        raise ModelFileError(f"Expected the folder of a run or a network in a .keras file. Received: {path}")
    network = keras.models.load_model(path / "model.keras" if run else path, compile=False)
    if stochastic_layers(network):
        raise ModelFileError(f"Expected a network that is a function of its inputs. Received: {path}, which draws at inference")
    return freeze(network), read(path)[0] if run else None


def _relation(name: str, surrogate: Recipe | None, recipe: Recipe | None) -> str:
    """What an attacker who has the surrogate knows of the model."""
    said = f"The surrogate is {Path(name).name}"
    if surrogate is None or recipe is None:
        return f"{said}; how it was trained, compared with the model, is not known."
    parts = {"data": "data", "network": "architecture", "precision": "precision", "train": "training"}
    differing = [word for part, word in parts.items() if getattr(surrogate, part) != getattr(recipe, part)]
    if surrogate.seed == recipe.seed and not differing:
        return f"{said}: trained as the model itself, from the same seed. These are white-box attacks, no transfer."
    if {"data", "architecture"}.isdisjoint(differing):
        other = f"; {' and '.join(differing)} differ" if differing else ", only the seed differs"
        return (
            f"{said}: a gray box. It has the model's architecture and data{other}; the weights are not known to the attacker."
        )
    return f"{said}: a black box. {' and '.join(differing).capitalize()} differ from the model's."
