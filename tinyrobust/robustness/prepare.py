"""The runner of an evaluation, made in the same way by whoever takes part in it."""

from pathlib import Path

import keras

from tinyrobust import recipe
from tinyrobust._version import __version__
from tinyrobust.progress import Progress, silent
from tinyrobust.robustness.lineup import Lineup
from tinyrobust.robustness.outcomes import Subset
from tinyrobust.robustness.pieces import Identity, Pieces, digest, network_digest
from tinyrobust.robustness.protocol import Protocol
from tinyrobust.robustness.runner import Runner

FEW = 64  # samples that show whether answers are random, and how large logits are


def prepared(
    lineup: Lineup,
    subset: Subset,
    settings: recipe.Robustness,
    protocol: Protocol,
    seed: int,
    fingerprint: str,
    surrogate: keras.Model | None,
    output: Path,
    *,
    fresh: bool = False,
    tell: Progress = silent,
) -> Runner:
    """The runner, whose pieces are in `<output>/attacks`.

    Args:
        lineup: Fitted to the data.
        subset: The attacked samples.
        settings: Epsilons and so on.
        protocol: The attacks.
        seed: Of every random draw.
        fingerprint: Of the data set.
        surrogate: The network of the view "surrogate".
        output: The evaluation's folder.
        fresh: Throw pieces of another evaluation away instead of refusing them.
        tell: Progress.

    Raises:
        RunFolderError: The folder holds pieces of another evaluation, or cannot be written.
    """
    networks = {str(place): network_digest(model) for place, model in enumerate(lineup.networks)}
    if surrogate is not None:
        networks["surrogate"] = network_digest(surrogate)
    identity = Identity(
        version=__version__,
        model=lineup.flashed.model_file.sha256,
        networks=networks,
        data=fingerprint,
        samples=digest(subset.image, subset.label),
        settings=settings.model_dump(mode="json", exclude={"protocol"}),
        protocol=protocol.model_dump(mode="json"),
        targets={"temperature": lineup.temperature, "input_range": lineup.flashed.input_range, "passes": lineup.passes},
        seed=seed,
    )
    return Runner(
        lineup,
        subset,
        {"linf": settings.epsilons, "l2": settings.l2, "l1": settings.l1, "l0": settings.l0},
        seed,
        Pieces(output / "attacks", identity, fresh=fresh),
        cascade=protocol.cascade,
        grid=settings.grid,
        tell=tell,
    )
