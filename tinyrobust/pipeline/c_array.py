"""The files that TensorFlow Lite Micro users build in, of an existing model: C array, its header, and a spotter's front end.

A run writes them beside its `model.tflite`. The zoo does not keep them: they follow from the `.tflite` and the records.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from tinyrobust.data.arrays import scale
from tinyrobust.data.cards import read_card
from tinyrobust.data.sources import load
from tinyrobust.data.speech.frontend import heard
from tinyrobust.data.speech.frontend_record import FRONTEND, FrontendRecord, Vectors
from tinyrobust.deploy import artefact
from tinyrobust.deploy.artefact import Artefact
from tinyrobust.deploy.carray import Arena, arena_of, write_c_array
from tinyrobust.deploy.frontend_header import write_header, write_vectors
from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.errors import DataError, MissingToolError
from tinyrobust.footprint.footprint_record import FootprintRecord
from tinyrobust.footprint.measure import arena_head
from tinyrobust.pipeline.evaluation_data import recorded
from tinyrobust.pipeline.folder import read
from tinyrobust.pipeline.models import is_run, locate
from tinyrobust.progress import Progress, silent
from tinyrobust.recipe import Recipe


@dataclass(frozen=True)
class Known:
    """A `.tflite` file, and what is known of it where it belongs to a run or to the zoo.

    Attributes:
        tflite: The file.
        name: What its C constants are called after.
        classes: The names of the classes, in the order of the outputs; empty for a file of neither.
        recipe: The recipe that it was trained by; None for a file of neither.
        of_run: Whether it lies in the folder of a run, where files that are made from it go.
    """

    tflite: Path
    name: str
    classes: tuple[str, ...] = ()
    recipe: Recipe | None = None
    of_run: bool = False


def known(model: str | Path) -> Known:
    """What is known of a model.

    Args:
        model: The folder of a run or of a model of the zoo, the `model.tflite` in it, or any `.tflite`.

    Raises:
        ModelFileError: There is no such model.
        RunFolderError: The run's records cannot be read.
        TinyRobustError: The recipe beside the file is not valid, or its data set has no card.
    """
    recipe, tflite = locate(model)
    if recipe is None:
        return Known(tflite, tflite.stem)
    if is_run(tflite):
        return Known(tflite, recipe.name, tuple(read(tflite.parent)[1].classes), recipe, of_run=True)
    if (front_end := tflite.with_name(FRONTEND)).is_file():
        return Known(tflite, recipe.name, FrontendRecord.load(front_end).classes, recipe)
    return Known(tflite, recipe.name, read_card(recipe.data.name).classes, recipe)


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        files: The files: source, header, and of a spotter the front end's.
        arena: The arena that the header recommends.
        left_out: Why the front end's test vectors were not written; empty where they were, or where there is no front end.
    """

    files: tuple[Path, ...]
    arena: Arena
    left_out: str = ""


def write_array(
    model: str | Path, folder: Path | None = None, *, data_dir: Path | None = None, progress: Progress = silent
) -> Written:
    """Writes `model_data.cc` and `model_data.h`; of a spotter `model_frontend.h` too, and where its clips are, test vectors.

    Args:
        model: The folder of a run or of a model of the zoo, the `model.tflite` in it, or any int8 `.tflite`.
        folder: Where the files go; the run's folder, or `<name>-array` here, when absent.
        data_dir: Where data sets are stored.
        progress: Called for the arena's search and for the clips that are read.

    Raises:
        ModelFileError: There is no such model.
        RunFolderError: The run's records cannot be read, or the folder cannot be written.
    """
    about = known(model)
    folder = folder or (about.tflite.parent if about.of_run else Path(f"{about.name}-array"))
    file = artefact.read(about.tflite)
    arena = _arena(file, progress)
    written = Written(write_c_array(file, about.name, folder, arena=arena, classes=about.classes), arena)
    if about.recipe is None or not (about.tflite.parent / FRONTEND).is_file():
        return written
    record = FrontendRecord.load(about.tflite.parent / FRONTEND)
    files = (*written.files, write_header(record, about.name, folder))
    try:
        vectors = clips_of(record, about.recipe, data_dir, progress)
    except (DataError, MissingToolError) as error:
        return replace(written, files=files, left_out=error.message)
    answers = Int8Model(about.tflite).predict(scale(vectors.features)).argmax(axis=1)
    return replace(written, files=(*files, write_vectors(record, vectors, answers.tolist(), about.name, folder)))


def _arena(file: Artefact, progress: Progress) -> Arena:
    """As the footprint beside the file says, where there is one of this file; else measured now."""
    path = file.path.parent / "footprint.json"
    if path.is_file():
        record = FootprintRecord.load(path)
        if record.sha256 == file.sha256 and record.tflm_arena:
            return Arena(record.arena.value, record.tflm_arena.value)
    return arena_of(file.path, arena_head(file.path), progress)


def clips_of(record: FrontendRecord, recipe: Recipe, data_dir: Path | None, progress: Progress) -> Vectors:
    """The first validation clips of a recipe, with the features that the recorded front end makes of them.

    Raises:
        DataError: The data set is not on this machine.
        MissingToolError: What reads it is not.
    """
    assert recipe.data.speech is not None
    dataset = load(recorded(recipe.data), recipe.seed, data_dir, progress)
    assert dataset.speech is not None
    vectors = dataset.speech.vectors
    return Vectors(vectors.audio, heard(record, vectors.audio), vectors.labels)
