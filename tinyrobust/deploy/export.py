"""One call from the trained network to what is flashed: `.tflite`, parity record, C array."""

from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt

from tinyrobust.deploy import artefact, parity
from tinyrobust.deploy.carray import HEADER, SOURCE, arena_of, write_c_array
from tinyrobust.deploy.convert import convert
from tinyrobust.deploy.deploy_records import ParityRecord
from tinyrobust.files import atomic_path, clear_errors
from tinyrobust.progress import Progress, silent
from tinyrobust.recipe.export import Export


def export(
    model: keras.Model,
    *,
    name: str,
    calibration: npt.NDArray[np.uint8],
    parity_images: npt.NDArray[np.uint8],
    parity_labels: npt.NDArray[np.int64],
    parity_source: str,
    classes: Sequence[str],
    settings: Export,
    folder: Path,
    arena_head: Callable[[Path], int],
    progress: Progress = silent,
) -> ParityRecord:
    """Writes `model.tflite`, `model_data.cc`, `model_data.h` and last `parity.json` into `folder`.

    When parity breaks, none of these names is left in the folder, also not from an earlier export.

    Args:
        model: A trained QKeras model of our layers.
        name: What the C constants are called after.
        calibration: Training images, uint8 [n, h, w, c].
        parity_images: Real images that are not from the test set, uint8 [n, h, w, c].
        parity_labels: Their class indices, [n].
        parity_source: Where they come from, in words.
        classes: The names of the classes.
        settings: The tolerances of parity.
        folder: Where the files go.
        arena_head: Computes the bytes of activations that a `.tflite` needs at once.
        progress: Called for the conversion, and for the images compared.

    Raises:
        ModelFileError: The network cannot be converted.
        ParityError: The file does not answer like the network.
        RunFolderError: The folder cannot be written.
    """
    tflite, record_path = folder / "model.tflite", folder / "parity.json"
    for path in (record_path, tflite, folder / SOURCE, folder / HEADER):
        with clear_errors(path):
            path.unlink(missing_ok=True)
    progress("convert", 0, 1)
    content = convert(model, calibration)
    progress("convert", 1, 1)
    with atomic_path(tflite) as unproven:
        unproven.write_bytes(content)
        samples = parity.Samples(parity_images, parity_labels, parity_source)
        head = arena_head(unproven)
        record = parity.measure(model, unproven, samples, settings, arena_bytes=head, progress=progress)
        parity.check(record)
    write_c_array(artefact.read(tflite), name, folder, arena=arena_of(tflite, record.arena_bytes, progress), classes=classes)
    record.save(record_path)
    return record
