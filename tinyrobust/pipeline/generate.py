"""What goes onto the device, of an existing model: a run of ours, or anybody's `.tflite`."""

from dataclasses import dataclass
from pathlib import Path

from tinyrobust.deploy import artefact
from tinyrobust.deploy.cgen.generate import Generated
from tinyrobust.deploy.cgen.generate import generate as write
from tinyrobust.deploy.lut import Compressed, compress
from tinyrobust.files import write_atomic
from tinyrobust.pipeline.c_array import known
from tinyrobust.pipeline.emulate import inputs_for
from tinyrobust.pipeline.models import is_run, locate
from tinyrobust.progress import Progress, silent


def generate(model: str | Path, folder: Path | None = None) -> Generated:
    """Writes self-contained C99 whose outputs equal TensorFlow Lite Micro's.

    Args:
        model: The folder of a run or of a model of the zoo, the `model.tflite` in it, or any int8 `.tflite`.
        folder: Where the files go; the folder `c` of the run, or `<name>-c` here, when absent.

    Raises:
        ModelFileError: There is no such model, or it uses what the generator does not support.
        RunFolderError: The run's records cannot be read, or the folder cannot be written.
    """
    about = known(model)
    folder = folder or (about.tflite.parent / "c" if about.of_run else Path(f"{about.name}-c"))
    return write(artefact.read(about.tflite), about.name, folder, classes=about.classes)


@dataclass(frozen=True, eq=False, slots=True)
class LookUp:
    """A model with its weights in look-up tables.

    Attributes:
        path: The file; None where it does not pay, and none was written.
        compressed: What was measured.
        inputs: What both files were run on, in words.
    """

    path: Path | None
    compressed: Compressed
    inputs: str


def look_up(
    model: str | Path,
    folder: Path | None = None,
    *,
    images: int = 16,
    data_dir: str | Path | None = None,
    progress: Progress = silent,
) -> LookUp:
    """Writes `<name>.lut.tflite` where TensorFlow Lite Micro's look-up tables spare more flash than they take RAM.

    Args:
        model: The folder of a run, its `model.tflite`, or any int8 `.tflite`.
        folder: Where the file goes; beside the run's `model.tflite`, or here, when absent.
        images: How many inputs both files are compared on: test images of a run or of the zoo, else random bytes.
        data_dir: Where data sets are stored.
        progress: Told of the steps.

    Raises:
        MissingToolError: The extra `mcu` is not installed.
        TinyRobustError: There is no such model, it cannot be compressed, or the folder cannot be written.
    """
    tflite = locate(model)[1]
    inputs = inputs_for(model, images, data_dir=data_dir, progress=progress)
    found = compress(artefact.read(tflite), inputs.raw, progress)
    path = (folder or (tflite.parent if is_run(tflite) else Path())) / f"{tflite.stem}.lut.tflite"
    if found.pays:
        write_atomic(path, found.content)
    return LookUp(path if found.pays else None, found, inputs.source)
