"""Runs the C of an existing model on an emulated board, on real test images where there are any."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinyrobust.data.arrays import scale, stratified
from tinyrobust.data.samples import fitted
from tinyrobust.data.sources import load
from tinyrobust.deploy import artefact, device, firmware, probing
from tinyrobust.deploy.deploy_records import DeviceRecord
from tinyrobust.deploy.firmware import Optimisation
from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.deploy.probing import Inputs
from tinyrobust.errors import DataError, MissingToolError
from tinyrobust.pipeline.evaluation_data import features_of, own_features
from tinyrobust.pipeline.inputs import read_inputs
from tinyrobust.pipeline.models import data_for, is_run, locate
from tinyrobust.progress import Progress, silent
from tinyrobust.recipe import Recipe
from tinyrobust.robustness.job import EvaluationData


def emulate(
    model: str | Path,
    *,
    board: str = "mps2-an386",
    optimisation: Optimisation = "-Os",
    images: int = 16,
    data: str | None = None,
    data_dir: str | Path | None = None,
    input_range: tuple[float, float] | None = None,
    timeout: float = 600,
    cycles: bool = False,
    progress: Progress = silent,
) -> DeviceRecord:
    """Generates the C of exactly the file that is flashed, and runs it on an emulated board.

    Args:
        model: The folder of a run, its `model.tflite`, or any int8 `.tflite`.
        board: QEMU's name of the board; see `tinyrobust.deploy.firmware.boards`.
        optimisation: The compiler's optimisation.
        images: How many inputs are run, at least 1: test images, drawn stratified and always the same.
        data: A data set's name or a `.npz` of inputs of any shape, for a file that is not of a run. Without it, inputs are
            those of the model's own data set, and where none is known or here, random bytes.
        data_dir: Where data sets are stored.
        input_range: What pixel values 0 and 255 become in the file's input units; recognised when absent.
        timeout: Seconds for each step of building and running.
        cycles: Model the cycles of the first input too, of a Cortex-M4 and a Cortex-M0+, whatever the board.
        progress: Called with a label, what is done and how much there is.

    Raises:
        MissingToolError: Compiler, make or emulator are not installed; the hint is the line that installs them.
        TinyRobustError: The model, data or settings do not fit; the message says what to do.
    """
    firmware.require()
    flashed = locate(model)[1]
    inputs = inputs_for(model, images, data=data, data_dir=data_dir, input_range=input_range, progress=progress)
    return device.measure(
        flashed, inputs, board=board, optimisation=optimisation, timeout=timeout, cycles=cycles, progress=progress
    )


def inputs_for(
    model: str | Path,
    images: int,
    *,
    data: str | None = None,
    data_dir: str | Path | None = None,
    input_range: tuple[float, float] | None = None,
    progress: Progress = silent,
) -> Inputs:
    """What a model is run on: test images of its own data or of `data`, else random bytes; arguments as for `emulate`.

    Raises:
        TinyRobustError: The model, data or settings do not fit.
    """
    recipe, flashed = locate(model)
    if data is not None and data.endswith(".npz"):
        return _samples(Int8Model(flashed), Path(data).expanduser(), images, input_range)
    place = None if data_dir is None else Path(data_dir)
    if data is not None:
        file = Int8Model(flashed)
        dataset = load(data_for(file, data), 0, place, progress)
        return _images(file, features_of(dataset, tuple(file.input_shape)), images, input_range)
    if recipe is not None:
        try:
            return images_of(recipe, flashed, images, place, input_range, progress)
        except (DataError, MissingToolError):  # a model of the zoo came without its data
            if is_run(flashed):
                raise
    return probing.probes(artefact.read(flashed), images)


def images_of(
    recipe: Recipe,
    flashed: Path,
    count: int,
    data_dir: Path | None = None,
    input_range: tuple[float, float] | None = None,
    progress: Progress = silent,
) -> Inputs:
    """Test images of a model's own data set, or its features of sound, as the file takes them, stratified and always the same.

    Raises:
        TinyRobustError: The data set is not here, or does not fit the file.
    """
    return _images(Int8Model(flashed), own_features(recipe, flashed, data_dir, progress), count, input_range)


def _images(interpreter: Int8Model, data: EvaluationData, count: int, input_range: tuple[float, float] | None) -> Inputs:
    chosen = stratified(data.labels, min(count, len(data.labels)), 0)
    images, _ = fitted(np.asarray(data.samples[chosen]), tuple(interpreter.input_shape), data.name)
    quantized = interpreter.quantized_pixels(scale(images.astype(np.uint8)), input_range or interpreter.pixel_range())
    return Inputs(_rows(quantized), f"test images of {data.name}", data.labels[chosen])


def _samples(interpreter: Int8Model, path: Path, count: int, input_range: tuple[float, float] | None) -> Inputs:
    """Test samples of a .npz of any shape, in the units that an attack would take them in."""
    read = read_inputs(interpreter.path, path, input_range, None)
    chosen = stratified(read.samples.y, min(count, len(read.samples.y)), 0)
    quantized = read.attacked.quantized(interpreter, read.attacked.stored[chosen])
    return Inputs(_rows(quantized), f"test samples of {path.name}", read.samples.y[chosen])


def _rows(quantized: NDArray[np.generic]) -> NDArray[np.int8]:
    """The bytes of each input, [n, bytes]."""
    return np.ascontiguousarray(quantized).reshape(len(quantized), -1).view(np.int8)
