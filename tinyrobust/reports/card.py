"""README.md of a run: a model card with Hugging Face front matter and the same figures as the report."""

from pathlib import Path

from tinyrobust import files
from tinyrobust._version import __version__
from tinyrobust.deploy.artefact import read
from tinyrobust.deploy.c_literals import identifier
from tinyrobust.deploy.input_units import formula
from tinyrobust.reports import tables
from tinyrobust.reports.evidence import gather
from tinyrobust.reports.facts import RunFacts
from tinyrobust.reports.report import environment


def write_card(folder: Path, run: RunFacts) -> Path:
    """Writes `README.md` into a run folder from the records that are there.

    The front matter is that of the Hugging Face Hub (`model-index` included). Figures whose record is missing are left out.

    Args:
        folder: The run folder.
        run: What the records do not say.

    Returns:
        The path of the card.

    Raises:
        RunFolderError: A record cannot be read, or the card cannot be written.
        ModelFileError: `model.tflite` cannot be read.
    """
    evidence = gather(folder, run)
    card = (
        environment()
        .get_template("README.md.j2")
        .render(
            e=evidence,
            run=evidence.run,
            tables=tables,
            tags=_tags(evidence.run),
            prefix=f"g_{identifier(run.recipe.name)}",
            becomes=_becomes(folder / "model.tflite"),
            version=__version__,
        )
    )
    path = folder / "README.md"
    files.write_atomic(path, card)
    return path


def _tags(run: RunFacts) -> list[str]:
    return ["tflite", "tinyml", "quantization", "adversarial-robustness", *run.recipe.precision.formats]


def _becomes(tflite: Path) -> str:
    """What a value becomes in the input, as the C headers say it; empty where there is no file."""
    if not tflite.is_file():
        return ""
    file = read(tflite)
    tensor = file.tensors[file.inputs[0]]
    return formula(float(tensor.scales[0]), int(tensor.zero_points[0]), tensor.dtype)
