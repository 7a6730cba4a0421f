"""An existing model: a run of ours, or anybody's `.tflite`, and the data that belong to it."""

from pathlib import Path

from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.errors import DataError, ModelFileError
from tinyrobust.pipeline.folder import read
from tinyrobust.recipe import Recipe
from tinyrobust.recipe.data import Data


def locate(model: str | Path) -> tuple[Recipe | None, Path]:
    """The recipe of a model, where it is of a run, and its `.tflite`.

    Args:
        model: The folder of a run or of a model of the zoo, the `model.tflite` in it, or any `.tflite`.

    Raises:
        ModelFileError: It is neither.
        RunFolderError: The run's records cannot be read.
    """
    path = Path(model)
    folder = path if path.is_dir() else path.parent
    flashed = folder / "model.tflite"
    if (folder / "run.json").is_file() and path in (folder, flashed):
        return read(folder)[0], flashed
    if path.is_dir() and flashed.is_file():
        return None, flashed
    if path.suffix != ".tflite":
        raise ModelFileError(
            f"Expected the folder of a run or a .tflite file. Received: {path}",
            hint="`tinyrobust run RECIPE` makes a run under ./runs.",
        )
    return None, path


def data_for(tflite: Path, data: str | None) -> Data:
    """A data set as a file of no run wants it: its size in pixels, gray or colour.

    Args:
        tflite: A `.tflite` classifier of square images.
        data: A data set's name, or a `.npz`.

    Raises:
        DataError: `data` is None.
        ModelFileError: The file does not take square images, gray or in colour.
    """
    shape = Int8Model(tflite).input_shape
    if data is None:
        raise DataError(
            f"{tflite} is not the file of a run, so its data set is not known.",
            hint=f"Name one with images for an input of {shape}: --data cifar10, or --data my_images.npz.",
        )
    if len(shape) != 3 or shape[0] != shape[1] or shape[2] not in (1, 3):
        raise ModelFileError(
            f"{tflite}: expected an input of square images, [n, n, 1] or [n, n, 3]. Received: {shape}",
            hint="Here epsilon is a change of pixels. The sound before a keyword spotter is attacked with --domain waveform.",
        )
    return Data(name=data, color="gray" if shape[2] == 1 else "rgb", size=shape[0])
