"""The runner of an evaluation, made in the same way by whoever takes part in it."""

from pathlib import Path

import keras

from tinyrobust._version import __version__
from tinyrobust.data.speech.frontend_record import FrontendRecord
from tinyrobust.progress import Progress, silent
from tinyrobust.robustness.lineup import Lineup
from tinyrobust.robustness.outcomes import Floats, Ints, Subset
from tinyrobust.robustness.pieces import Identity, Pieces, digest, network_digest
from tinyrobust.robustness.protocol import Protocol
from tinyrobust.robustness.runner import Runner
from tinyrobust.robustness.scope import Scope

FEW = 64  # samples that show whether answers are random, and how large logits are


def fit_to_few(lineup: Lineup, x: Floats, y: Ints, asked: Scope, protocol: Protocol) -> None:
    """Fits a line-up to some of the attacked samples; see `Lineup.fit_to`."""
    near = asked.headline if asked.norm == "linf" else asked.radii["linf"][-1]
    lineup.fit_to(x, y, near, expectation=protocol.expectation)


def prepared(
    lineup: Lineup,
    subset: Subset,
    asked: Scope,
    protocol: Protocol,
    seed: int,
    fingerprint: str,
    surrogate: keras.Model | None,
    output: Path,
    *,
    frontend: FrontendRecord | None = None,
    lesson: tuple[Floats, Ints] | None = None,
    fresh: bool = False,
    tell: Progress = silent,
) -> Runner:
    """The runner, whose pieces are in `<output>/attacks`; of sound, in `<output>/attacks-waveform`.

    Args:
        lineup: Fitted to the data.
        subset: The attacked samples.
        asked: Radii and so on.
        protocol: The attacks.
        seed: Of every random draw.
        fingerprint: Of the data set.
        surrogate: The network of the view "surrogate".
        output: The evaluation's folder.
        frontend: Of a spotter whose sound is attacked.
        lesson: What attacks learn on: inputs and classes.
        fresh: Throw pieces of another evaluation away instead of refusing them.
        tell: Progress.

    Raises:
        RunFolderError: The folder holds pieces of another evaluation, or cannot be written.
    """
    networks = {str(place): network_digest(model) for place, model in enumerate(lineup.given)}
    if surrogate is not None:
        networks["surrogate"] = network_digest(surrogate)
    identity = Identity(
        version=__version__,
        model=lineup.flashed.model_file.sha256,
        networks=networks,
        data=fingerprint,
        samples=digest(subset.image, subset.label),
        settings=asked.asked,
        protocol=protocol.model_dump(mode="json"),
        targets={
            "temperature": lineup.temperature,
            "input_range": lineup.flashed.input_range,
            "passes": lineup.passes,
            **({"frontend": frontend.model_dump(mode="json", include={"settings", "low", "high"})} if frontend else {}),
        },
        seed=seed,
    )
    return Runner(
        lineup,
        subset,
        asked.radii,
        seed,
        Pieces(output / f"attacks{asked.suffix}", identity, fresh=fresh),
        cascade=protocol.cascade,
        grid=asked.grid,
        lesson=lesson,
        tell=tell,
    )
