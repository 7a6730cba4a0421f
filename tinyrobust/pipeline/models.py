"""An existing model: a run of ours, a model of the zoo, or anybody's `.tflite`, and the data that belong to it."""

from pathlib import Path

from tinyrobust import assets
from tinyrobust import recipe as recipes
from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.errors import DataError, ModelFileError
from tinyrobust.pipeline.folder import read
from tinyrobust.recipe import Recipe
from tinyrobust.recipe.data import Data
from tinyrobust.robustness.values import is_image


def locate(model: str | Path) -> tuple[Recipe | None, Path]:
    """The recipe of a model, where it is of a run or of the zoo, and its `.tflite`.

    Args:
        model: The folder of a run, or of a model of the zoo (`recipe.toml` beside `model.tflite`), the `model.tflite` in it, a
            name of the zoo, or any `.tflite`.

    Raises:
        ModelFileError: It is neither.
        RunFolderError: The run's records cannot be read.
        RecipeError: The recipe beside the file is not valid.
    """
    path = _of_the_zoo(Path(model))
    folder = path if path.is_dir() else path.parent
    flashed = folder / "model.tflite"
    if path in (folder, flashed) and (folder / "run.json").is_file():
        recipe = read(folder)[0]
        if recipe.stochastic:
            raise ModelFileError(
                f"Expected a run that leaves a file. Received: {folder}, whose network is random at inference and has none yet",
                hint="What attacks made of the network stands in its information.json and report.",
            )
        return recipe, flashed
    if path in (folder, flashed) and flashed.is_file():
        described = (folder / "recipe.toml").is_file()
        return (recipes.load(folder / "recipe.toml") if described else None), flashed
    if path.suffix != ".tflite":
        raise ModelFileError(
            f"Expected the folder of a run or a .tflite file. Received: {path}",
            hint="`tinyrobust run RECIPE` makes a run under ./runs; `tinyrobust list models` shows the zoo's.",
        )
    return None, path


def is_run(tflite: Path) -> bool:
    """Whether a file lies in the folder of a run, where files that are made from it go."""
    return (tflite.parent / "run.json").is_file()


def _of_the_zoo(path: Path) -> Path:
    """The folder that a name of the zoo stands for, where nothing here is called so."""
    known = assets.recipes().get(str(path))
    return path if known is None or path.exists() or not known.with_name("model.tflite").is_file() else known.parent


def data_for(model: Int8Model, data: str | None) -> Data:
    """A data set as a file of no run wants it: its size in pixels, gray or colour. Of other shapes than squares as it is.

    Args:
        model: A `.tflite` classifier of images.
        data: A data set's name, or a `.npz`.

    Raises:
        DataError: `data` is None.
        ModelFileError: The file takes no images, gray or in colour.
    """
    shape = model.input_shape
    if data is None:
        raise DataError(
            f"{model.path} is not the file of a run, so its data set is not known.",
            hint=f"Name one with images for an input of {shape}: --data cifar10, or --data my_images.npz.",
        )
    plain = [size for size in shape if size > 1]
    colours = len(plain) == 3 and 3 in (plain[0], plain[-1])
    if not is_image(shape) and len(plain) != 1:
        raise ModelFileError(
            f"{model.path}: expected an input of images, gray and square, or in colour. Received: {shape}",
            hint="Inputs of any shape are attacked from a .npz: --data my_inputs.npz, with x_test and y_test. "
            "The sound before a keyword spotter is attacked with --domain waveform.",
        )
    sides = [size for size in plain if size != 3] if colours else plain
    square = len(sides) == 2 and sides[0] == sides[1]
    return Data(name=data, color="rgb" if colours else "gray", size=sides[0] if square else None)
