"""Corrupts the images of an existing model: a run of ours, or anybody's `.tflite`."""

from collections.abc import Sequence
from pathlib import Path

from tinyrobust import toml
from tinyrobust.attacks.target import InputRange
from tinyrobust.deploy.reading import Label
from tinyrobust.errors import DataError, RecipeError
from tinyrobust.pipeline.attack import executed, job_for
from tinyrobust.pipeline.models import locate
from tinyrobust.pipeline.networks import with_networks
from tinyrobust.progress import Progress, silent
from tinyrobust.recipe.robustness import Robustness
from tinyrobust.robustness.attack_plan import AttackPlan
from tinyrobust.robustness.corruption import library
from tinyrobust.robustness.corruption_evaluation import evaluate_corruptions
from tinyrobust.robustness.corruption_record import CorruptionRecord
from tinyrobust.robustness.protocol import of_corruptions


def corrupt(
    model: str | Path,
    *,
    protocol: str = "corruptions",
    data: str | None = None,
    samples: int | None = None,
    seed: int = 7,
    data_dir: str | Path | None = None,
    output: str | Path | None = None,
    input_range: InputRange | None = None,
    members: Sequence[str | Path] = (),
    reading: Label | None = None,
    fresh: bool = False,
    progress: Progress = silent,
) -> CorruptionRecord:
    """How often a model is right about images with noise, blur, other light, or compression.

    Args:
        model: The folder of a run, its `model.tflite`, or any `.tflite` classifier of images of 32x32 pixels or more.
        protocol: A protocol of corruptions from models/protocols/, or a file.
        data: A data set's name or a `.npz` (x_test and y_test), for a file that is not of a run.
        samples: How many test images; the recipe's number of attacked ones, or 200.
        seed: For a file that is not of a run.
        data_dir: Where data sets are stored.
        output: Folder for the record and the pieces that an interrupted evaluation goes on from; `attack-<model>` when absent.
        input_range: What pixel values 0 and 255 become in the file's units; decided from the file and the data when absent.
        members: Networks that answer together with the one of the run.
        reading: Of a file with several sigmoids, the label that is meant.
        fresh: Throw away what another evaluation left in `output`; it is refused otherwise.
        progress: Called with a label, what is done and how much there is.

    Raises:
        TinyRobustError: The model or data do not fit, or the extra `corruptions` is missing; the message says what to do.
    """
    recipe, tflite = locate(model)
    if recipe and recipe.data.speech:
        raise DataError(
            f"Expected images: corruptions are those of a camera. Received: {tflite.parent}, which hears words",
            hint="Noise in sound is an attack of --domain waveform.",
        )
    library()
    before = recipe.robustness if recipe else Robustness()
    values = before.model_dump(mode="json", exclude_none=True) | {"samples": samples or before.samples}
    settings = toml.validated(Robustness, values, "The number of samples", RecipeError)
    plan = AttackPlan(settings=settings, protocol=of_corruptions(protocol), seed=recipe.seed if recipe else seed)
    job = job_for(recipe, tflite, plan, data, None, data_dir, input_range, None, reading, progress)
    return executed(with_networks(job, recipe, None, None, members), recipe, output, fresh, 1, evaluate_corruptions)
