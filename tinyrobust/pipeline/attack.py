"""Attacks a model that is there already: a run of ours, or anybody's `.tflite`."""

from collections.abc import Sequence
from pathlib import Path

import keras

from tinyrobust import toml
from tinyrobust.data.sources import load
from tinyrobust.errors import ModelFileError, RecipeError
from tinyrobust.graphs.freeze import freeze
from tinyrobust.pipeline.folder import locked, read
from tinyrobust.pipeline.material import material_of, sound_for, sound_settings
from tinyrobust.pipeline.models import data_for, locate
from tinyrobust.progress import Progress, silent
from tinyrobust.recipe import Recipe
from tinyrobust.recipe.robustness import Robustness
from tinyrobust.robustness import protocol as protocols
from tinyrobust.robustness.evaluation import evaluate
from tinyrobust.robustness.robustness_record import Domain, RobustnessRecord
from tinyrobust.robustness.targets import InputRange
from tinyrobust.training.fit import seed_everything


def attack(
    model: str | Path,
    *,
    domain: Domain = "features",
    data: str | None = None,
    protocol: str | None = None,
    epsilons: Sequence[float] = (),
    l2: Sequence[float] = (),
    l1: Sequence[float] = (),
    snr_db: Sequence[float] = (),
    headline: float | None = None,
    samples: int | None = None,
    seed: int = 7,
    data_dir: str | Path | None = None,
    frontend: str | Path | None = None,
    output: str | Path | None = None,
    input_range: InputRange | None = None,
    temperature: float | None = None,
    surrogate: str | Path | None = None,
    members: Sequence[str | Path] = (),
    grid: bool | None = None,
    fresh: bool = False,
    jobs: int = 1,
    progress: Progress = silent,
) -> RobustnessRecord:
    """Attacks exactly the file that is flashed, and the network it was made from where that is known.

    Args:
        model: The folder of a run, its `model.tflite`, or any `.tflite` classifier of images, or spotter with its
            `frontend.json`.
        domain: "features": what enters the network, pixels for one. "waveform": the sound, before the front end of a spotter.
        data: A data set's name or a `.npz`, for a file that is not of a run. Images are made gray or colour and resized to
            what the file expects.
        protocol: A name from models/protocols/; the recipe's, or "quick", of sound "waveform".
        epsilons: L-inf radii in input units, [0, 1]; the recipe's, or 2/255, 4/255, 8/255. Of sound, a share of the 16-bit
            range: half of what it is in amplitude from -1 to 1.
        l2: L2 radii in input units, for attacks in that norm; the recipe's, or 0.25, 0.5, 1.
        l1: L1 radii likewise; the recipe's, or 3, 6, 12.
        snr_db: Of sound: signal-to-noise ratios in dB; the recipe's, or 30, 20, 10.
        headline: The epsilon of the headline; the recipe's if it is among `epsilons`, else the largest.
        samples: How many test images are attacked; the recipe's, or 200.
        seed: For a file that is not of a run.
        data_dir: Where data sets are stored.
        frontend: Of sound: the `frontend.json` of a file that does not stand beside it.
        output: Folder for robustness.json, per_sample.npz (of sound robustness-waveform.json and so on) and the pieces that an
            interrupted evaluation goes on from; `attack-<model>` in the current folder when absent.
        input_range: What pixel values 0 and 255 become in the file's input units, for all channels or for each; recognised
            when absent. `normalised` makes it from means and deviations.
        temperature: That the network was distilled at; the recipe's, or estimated from its logits.
        surrogate: The folder of a run, or a `.keras` network, trained apart: its adversarial examples are transferred. The
            record says how it relates to the model. Without it, protocols leave such attacks out.
        members: Other networks, as for `surrogate`, that answer together with the one of the run: an ensemble. The file that
            is attacked beside it is that of the run alone.
        grid: Try every example rounded to the sensor's 8 bits too; as the recipe says when absent.
        fresh: Throw away what another evaluation left in `output`; it is refused otherwise.
        jobs: Processes that attack at the same time; the figures do not depend on it.
        progress: Called with a label, what is done and how much there is.

    Raises:
        TinyRobustError: The model, data or settings do not fit; the message says what to do.
    """
    recipe, flashed = locate(model)
    seed, place = recipe.seed if recipe else seed, None if data_dir is None else Path(data_dir)
    if domain == "waveform":
        settings = sound_settings(recipe, protocol, epsilons, snr_db, samples)
        beside = None if frontend is None else Path(frontend)
        material = sound_for(recipe, flashed, data=data, frontend=beside, seed=seed, data_dir=place, progress=progress)
    else:
        radii = {"epsilons": epsilons, "l2": l2, "l1": l1}
        settings = _settings(recipe, protocol, radii, headline, samples, grid)
        source = recipe.data if recipe and data is None else data_for(flashed, data)
        material = material_of(load(source, seed, place, progress))
    chosen = protocols.load(settings.waveform.protocol if material.frontend and settings.waveform else settings.protocol)
    folder = Path(output) if output else Path(f"attack-{recipe.run_name if recipe else flashed.stem}")
    network = freeze(keras.models.load_model(flashed.with_name("model.keras"), compile=False)) if recipe else None
    if members and network is None:
        raise ModelFileError(
            f"Expected a run whose network the members join. Received: {flashed}, of which only the file is known"
        )
    apart = None if surrogate is None else _network(Path(surrogate))
    seed_everything(seed)
    with locked(folder):
        return evaluate(
            keras_model=[network, *(_network(Path(member))[0] for member in members)] if members else network,
            tflite=flashed,
            dataset_name=material.dataset.name,
            fingerprint=material.dataset.fingerprint,
            x_test=material.samples,
            y_test=material.labels,
            frontend=material.frontend,
            lesson=material.lesson,
            settings=settings,
            protocol=chosen,
            seed=seed,
            output=folder,
            surrogate=apart and apart[0],
            temperature=temperature or (recipe.temperature if recipe else None),
            input_range=input_range,
            remarks=[] if apart is None else [_relation(str(surrogate), apart[1], recipe)],
            fresh=fresh,
            jobs=jobs,
            progress=progress,
        )


def _network(path: Path) -> tuple[keras.Model, Recipe | None]:
    """The network of a run's folder, or of a `.keras` file, and its recipe where that is known."""
    run = (path / "run.json").is_file()
    if not run and (not path.is_file() or path.suffix != ".keras"):
        raise ModelFileError(f"Expected the folder of a run or a network in a .keras file. Received: {path}")
    network = keras.models.load_model(path / "model.keras" if run else path, compile=False)
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


def _settings(
    recipe: Recipe | None,
    protocol: str | None,
    radii: dict[str, Sequence[float]],
    headline: float | None,
    samples: int | None,
    grid: bool | None,
) -> Robustness:
    base = recipe.robustness if recipe else Robustness()
    chosen = {norm: tuple(sorted(set(given))) or getattr(base, norm) for norm, given in radii.items()}
    fallback = base.headline if base.headline in chosen["epsilons"] else chosen["epsilons"][-1]
    values = {
        "protocol": protocol or base.protocol,
        **chosen,
        "l0": base.l0,
        "headline": headline if headline is not None else fallback,
        "samples": samples or base.samples,
        "grid": base.grid if grid is None else grid,
    }
    return toml.validated(Robustness, values, "The choice of epsilons", RecipeError)
