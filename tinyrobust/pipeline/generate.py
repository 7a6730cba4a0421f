"""The C of a model that is there already: a run of ours, or anybody's `.tflite`."""

from pathlib import Path

from tinyrobust.deploy import artefact
from tinyrobust.deploy.cgen.generate import Generated
from tinyrobust.deploy.cgen.generate import generate as write
from tinyrobust.pipeline.folder import read
from tinyrobust.pipeline.models import locate


def generate(model: str | Path, folder: Path | None = None) -> Generated:
    """Writes self-contained C99 whose outputs equal TensorFlow Lite Micro's.

    Args:
        model: The folder of a run, its `model.tflite`, or any int8 `.tflite`.
        folder: Where the files go; the folder `c` of the run, or `<name>-c` here, when absent.

    Raises:
        ModelFileError: There is no such model, or it uses what the generator does not support.
        RunFolderError: The run's records cannot be read, or the folder cannot be written.
    """
    recipe, tflite = locate(model)
    if recipe is None:
        return write(artefact.read(tflite), tflite.stem, folder or Path(f"{tflite.stem}-c"))
    classes = read(tflite.parent)[1].classes
    return write(artefact.read(tflite), recipe.name, folder or tflite.parent / "c", classes=classes)
