"""A model as a project of an ecosystem (`export/projects/`): the C, an example with a test vector, metadata, a README."""

import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyrobust._version import __version__
from tinyrobust.data.speech.frontend_record import FRONTEND, FrontendRecord
from tinyrobust.deploy import artefact, c_literals, carray, probing, project, tflm
from tinyrobust.deploy.artefact import Artefact, Tensor
from tinyrobust.deploy.cgen import emit
from tinyrobust.deploy.cgen.generate import generate
from tinyrobust.deploy.frontend_header import HEADER, VECTORS
from tinyrobust.deploy.input_units import formula
from tinyrobust.deploy.probing import Inputs
from tinyrobust.deploy.project import Runtime, Vector
from tinyrobust.errors import DataError, MissingToolError, ModelFileError
from tinyrobust.listening.detection_record import DETECTION, DetectionRecord
from tinyrobust.pipeline.c_array import Known, clips_of, known, write_array
from tinyrobust.pipeline.emulate import images_of
from tinyrobust.progress import Progress, silent
from tinyrobust.recipe.speech import SILENCE, UNKNOWN

_TRIED = 32  # test inputs among which one is looked for that the network names rightly


@dataclass(frozen=True)
class Project:
    """What was written.

    Attributes:
        archive: All of it in one file.
        folder: Where the files lie.
        files: The files.
        vector: Where the example's input comes from, in words.
        not_tried: Which toolchain was not run on the form.
    """

    archive: Path
    folder: Path
    files: tuple[Path, ...]
    vector: str
    not_tried: str


def write(
    model: str | Path,
    kind: str,
    folder: Path | None = None,
    *,
    runtime: Runtime = "c",
    version: str = "1.0.0",
    data_dir: Path | None = None,
    progress: Progress = silent,
) -> Project:
    """Writes a model in the form that an ecosystem builds, and an archive of it beside the folder.

    Args:
        model: The folder of a run or of a model of the zoo, the `model.tflite` in it, or any `.tflite`.
        kind: A name from `tinyrobust.deploy.project.forms`.
        folder: Where the files go; `<name>-<kind>` here when absent.
        runtime: Our C, or the file's bytes for TensorFlow Lite Micro.
        version: Of the project, such as 1.0.0.
        data_dir: Where data sets are stored: the example's input is a test image where there are some.
        progress: Told of the steps.

    Raises:
        RecipeError: There is no such form.
        ModelFileError: There is no such model, or it uses what the runtime does not run.
        MissingToolError: The extra `mcu`, which says what the outputs of the example must be, is not installed.
        RunFolderError: A file cannot be written.
    """
    form, about = project.form(kind), known(model)
    file, name = artefact.read(about.tflite), emit.identifier(about.name)
    if runtime == "tflm":
        _check_operators(file, about.tflite)
    with tempfile.TemporaryDirectory(prefix="tinyrobust-") as work:
        memory = _sources(model, about, file, Path(work), runtime, data_dir, progress)
        sources = {path.name: path.read_bytes() for path in sorted(Path(work).iterdir())}
    hearing = _hearing(about, file)
    if hearing:
        sources.pop(VECTORS, None)  # the example has one of these clips; eight are too many for most boards
    vector = _vector(about, file, hearing, runtime, data_dir, progress)
    facts = {
        **_described(file, runtime),
        **memory,
        "name": name,
        "title": about.name,
        "description": " ".join((about.recipe.description if about.recipe else f"Made from {about.tflite.name}.").split()),
        "version": version,
        "tool_version": __version__,
        "sha256": file.sha256,
        "operators": carray.resolved(file),
        "data_name": c_literals.identifier(about.name),
        "frontend": HEADER in sources,
        "hears": hearing,
    }
    folder = folder or Path(f"{name}-{kind}")
    archive, *files = project.write(kind, folder, sources, facts, runtime=runtime, classes=about.classes, vector=vector)
    return Project(archive, folder, tuple(files), vector.source, form.not_tried)


def _check_operators(file: Artefact, path: Path) -> None:
    """Refuses custom ones: their names do not say which method of the resolver adds them."""
    custom = sorted({one.name for graph in file.graphs for one in graph.operators if one.name.startswith("CUSTOM:")})
    if custom:
        raise ModelFileError(
            f"{path}: expected built-in operators for a project on TensorFlow Lite Micro: how to add others is not known. "
            f"Received: {', '.join(custom)}",
            hint="--format array without --project writes the file as an array, for code of yours that adds them.",
        )


def _sources(
    model: str | Path, about: Known, file: Artefact, work: Path, runtime: Runtime, data_dir: Path | None, progress: Progress
) -> Mapping[str, Any]:
    """Writes the model's files into `work`; what they take, in words and in KiB."""
    if runtime == "tflm" or (about.tflite.parent / FRONTEND).is_file():
        arena = write_array(model, work, data_dir=data_dir, progress=progress).arena
        if runtime == "tflm":
            how = "measured on a 64-bit build" if arena.measured else "computed, without the interpreter's own data"
            ram = arena.measured or arena.head
            return _memory(f"Flash: {file.size:,} B, and the kernels. RAM: {ram:,} B of arena ({how}).", file.size, ram)
        for path in work.glob("model_data.*"):
            path.unlink()
    generated = generate(file, about.name, work, classes=about.classes)
    weights, tables = (sum(getattr(layer, size) for layer in generated.layers) for size in ("weight_bytes", "table_bytes"))
    ram = generated.arena_bytes
    words = f"Flash: {weights:,} B of weights, {tables:,} B of tables, and the kernels. RAM: {ram:,} B of arena (computed)."
    return _memory(words, weights + tables, ram)


def _memory(words: str, flash: int, ram: int) -> Mapping[str, Any]:
    """With room for kernels, start-up code and stack, which a sample's `min_flash` and `min_ram` count."""
    return {"memory": words, "flash_kib": -(-flash // 1024) + 64, "ram_kib": -(-ram // 1024) + 16}


def _described(file: Artefact, runtime: Runtime) -> Mapping[str, Any]:
    """What goes in and comes out, and the C type of the scores where the answer is a class."""
    ends = {
        "inputs": [_end(file, index, "QUANTIZE", runtime) for index in file.inputs],
        "outputs": [_end(file, index, "DEQUANTIZE", runtime) for index in file.outputs],
    }
    last = ends["outputs"]
    scores = len(last) == 1 and last[0]["dtype"] in ("int8", "uint8") and last[0]["count"] > 1
    return {**ends, "scores": f"{last[0]['dtype']}_t" if scores else ""}


def _end(file: Artefact, index: int, operator: str, runtime: Runtime) -> dict[str, Any]:
    tensor: Tensor = probing.inner(file, index, operator) if runtime == "c" else file.tensors[index]
    words = "As it is."
    if tensor.quantized and tensor.scales.size == 1:
        scale, zero = float(tensor.scales[0]), int(tensor.zero_points[0])
        words = f"A value x becomes {formula(scale, zero, tensor.dtype)}."
        if operator == "DEQUANTIZE":
            words = f"Its value is {scale:.9g} * (integer {-zero:+d})."
    return {"dtype": tensor.dtype, "shape": list(tensor.shape), "count": tensor.count, "formula": words}


def _hearing(about: Known, file: Artefact) -> Mapping[str, Any]:
    """How a spotter listens, where its front end is one that C of ours computes and its detector was measured."""
    folder = about.tflite.parent
    if not (folder / FRONTEND).is_file() or not (folder / DETECTION).is_file():
        return {}
    record, detection = FrontendRecord.load(folder / FRONTEND), DetectionRecord.load(folder / DETECTION)
    sink, settings = file.tensors[file.outputs[0]], detection.settings
    if record.settings.kind != "mfcc" or detection.model_sha256 != file.sha256 or sink.dtype != "int8":
        return {}
    return {
        "windows": max(1, round(settings.smoothing_ms / settings.hop_ms)),
        "hop_ms": settings.hop_ms,
        "refractory_ms": settings.refractory_ms,
        "threshold": detection.threshold,
        "scale": float(sink.scales[0]),
        "zero_point": int(sink.zero_points[0]),
        "softmax": int(file.last_operator is None or file.last_operator.name != "SOFTMAX"),
        "keywords": [int(word not in (UNKNOWN, SILENCE)) for word in record.classes],
    }


def _vector(
    about: Known, file: Artefact, hearing: Mapping[str, Any], runtime: Runtime, data_dir: Path | None, progress: Progress
) -> Vector:
    """A test input that the network names rightly, where there are test inputs; else random bytes."""
    if reason := tflm.missing():
        raise MissingToolError(
            f"The outputs that the example expects are TensorFlow Lite Micro's, and {reason}.",
            hint="pip install 'tinyrobust[mcu]'",
        )
    inputs, sound = _inputs(about, file, hearing, data_dir, progress)
    outputs = tflm.outputs(about.tflite, inputs.raw, progress)
    row, source = 0, inputs.source
    if inputs.labels is not None and len(file.outputs) == 1:
        row = _clearest(outputs.view(np.dtype(file.tensors[file.outputs[0]].dtype)), inputs.labels, hearing.get("keywords"))
        source = (
            f"one of the {inputs.source}, of class {about.classes[inputs.labels[row]] if about.classes else inputs.labels[row]}"
        )
    taken, answer = inputs.raw[row : row + 1], outputs[row : row + 1]
    if runtime == "c":
        taken, answer = probing.quantized(file, taken), probing.requantized(file, answer)
    return Vector(taken[0], answer[0], source, "TensorFlow Lite Micro", None if sound is None else sound[row])


def _clearest(scores: NDArray[np.generic], labels: NDArray[np.int64], keywords: Sequence[int] | None) -> int:
    """The input that is named rightly by the widest margin, of a spotter a keyword if there is one; the first if none is."""
    rows = scores.reshape(len(labels), -1).astype(np.float64)
    right = rows.argmax(axis=1) == labels
    ranked = np.sort(rows, axis=1)
    word = np.array([keywords[label] if keywords else 1 for label in labels])
    return int(np.lexsort((-(ranked[:, -1] - ranked[:, -2]), 1 - word, ~right))[0])


def _inputs(
    about: Known, file: Artefact, hearing: Mapping[str, Any], data_dir: Path | None, progress: Progress
) -> tuple[Inputs, NDArray[np.int16] | None]:
    """What the network may be shown, and of a spotter that hears the sound that it is made of."""
    if about.recipe is not None:
        with contextlib.suppress(DataError, MissingToolError):
            if hearing:
                clips = clips_of(FrontendRecord.load(about.tflite.parent / FRONTEND), about.recipe, data_dir, progress)
                raw = (clips.features.reshape(len(clips.labels), -1).astype(np.int64) - 128).astype(np.int8)
                return Inputs(raw, f"validation clips of {about.recipe.data.name}", clips.labels), clips.audio
            return images_of(about.recipe, about.tflite, _TRIED, data_dir, progress=progress), None
    return Inputs(probing.probes(file, 3).raw[-1:], "random values"), None
