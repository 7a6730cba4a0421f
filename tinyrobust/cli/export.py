"""`tinyrobust export`: what goes onto the device, for TensorFlow Lite Micro or as C of our own."""

import re
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tinyrobust import assets
from tinyrobust import recipe as recipes
from tinyrobust.cli import console
from tinyrobust.cli.run import paths, until
from tinyrobust.cli.tables import table
from tinyrobust.errors import RecipeError

if TYPE_CHECKING:
    from tinyrobust.deploy.cgen.generate import Generated
    from tinyrobust.deploy.project import Runtime
    from tinyrobust.pipeline.generate import LookUp
    from tinyrobust.pipeline.run import Run


class Format(StrEnum):
    """What is written."""

    array = "array"
    c = "c"
    lut = "lut"


_Model = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A recipe, a trained model of the zoo, a run's folder, or anybody's int8 .tflite."),
]
_Format = Annotated[
    Format | None,
    typer.Option(
        "--format",
        help="`array`: for TensorFlow Lite Micro. `c`: self-contained C99, no runtime needed. `lut`: a .tflite for "
        "TensorFlow Lite Micro with weights in look-up tables, where that pays; needs the extra `mcu`.",
        show_default="array, with --project c",
    ),
]
_Project = Annotated[
    str | None,
    typer.Option(
        metavar="FORM",
        help="A folder and an archive that an ecosystem builds: arduino, platformio, zephyr, esp-idf, cmsis-pack or cmake. "
        "With the C; with --format array with the file, for TensorFlow Lite Micro.",
    ),
]
_ProjectVersion = Annotated[str, typer.Option(metavar="X.Y.Z", help="What --project calls its version.")]
_Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        metavar="DIR",
        help="Where the files go. Default: the run's folder (`c` in it for `c`), of a model without a run a new one here.",
    ),
]


def export(
    model: _Model,
    overrides: console.Settings = [],  # noqa: B006 - Typer wants a list, and nobody changes it
    written: _Format = None,
    project: _Project = None,
    project_version: _ProjectVersion = "1.0.0",
    output: _Output = None,
    runs_dir: console.RunsDir = Path("runs"),
    data_dir: console.DataDir = None,
    as_json: console.Json = False,
    debug: console.Debug = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """Write what goes onto the device, training first where needed: `model.tflite` with its C array, or C99.

    A name of the zoo stands for the trained file that it comes with, unless there is a run of yours or a --set; `tinyrobust
    train NAME` trains it anew. A keyword spotter gets a C header of its front end, and sounds to check a port with where its
    data set is on this machine.

    The export is refused when the file does not do what the trained network does (parity). The C99 gives exactly the outputs
    of TensorFlow Lite Micro's kernels, with weights packed: binary ones at eight to a byte, ternary ones at five, and those of
    up to 4, 8 or 16 different values in a layer at 2, 3 or 4 bits, where that saves flash.

    **Examples**

        tinyrobust export digits-stq

        tinyrobust export digits-stq --format c

        tinyrobust export kws-stq --output firmware/model

        tinyrobust export somebodys.tflite --format c --output firmware/model

        tinyrobust export somebodys.tflite --format lut

        tinyrobust export kws-stq --project zephyr --output modules/kws
    """
    existing = _existing(model, overrides, runs_dir)
    if project is not None:
        _check_project(project, project_version, written)
        place = existing or until("export", model, overrides, runs_dir, data_dir, as_json).path
        _project(place, project, output, "tflm" if written is Format.array else "c", project_version, data_dir, as_json)
        return
    written = written or Format.array
    if written is Format.array:
        if existing is None and output is None:
            show_exported(until("export", model, overrides, runs_dir, data_dir, as_json), as_json)
        else:
            done = existing or until("export", model, overrides, runs_dir, data_dir, as_json).path
            _array(done, output, data_dir, as_json)
        return
    place = existing or until("export", model, overrides, runs_dir, data_dir, as_json).path
    with console.quiet_imports():
        from tinyrobust.pipeline.generate import generate, look_up
    if written is Format.c:
        _show(generate(place, output), as_json)
        return
    with console.progress(not as_json) as progress:
        look_up_tables = look_up(place, output, data_dir=data_dir, progress=progress)
    _show_lut(look_up_tables, as_json)


def _existing(model: str, overrides: list[str], runs_dir: Path) -> Path | None:
    """The model that `model` stands for without any training; None where it is a recipe to train by.

    Raises:
        RecipeError: It is trained already, but there are settings for its training.
    """
    if model.endswith(".tflite") or Path(model, "run.json").is_file():
        if overrides:
            raise RecipeError(f"Expected a recipe beside --set. Received: {model}, which is trained already")
        return Path(model)
    if overrides:
        return None
    if Path(model, "model.tflite").is_file():
        return Path(model)
    zoo = assets.recipes()
    if model not in zoo or not zoo[model].with_name("model.tflite").is_file():
        return None
    own = runs_dir / recipes.load(model).run_name
    return None if own.is_dir() else zoo[model].parent


def _array(model: Path, output: Path | None, data_dir: Path | None, as_json: bool) -> None:
    with console.quiet_imports():
        from tinyrobust.pipeline.c_array import write_array
    with console.progress(not as_json) as progress:
        written = write_array(model, output, data_dir=data_dir, progress=progress)
    arena = written.arena
    if as_json:
        arena_bytes = {"activations": arena.head, "measured": arena.measured, "not_measured": arena.not_measured}
        files = [str(path) for path in written.files]
        console.print_json({"files": files, "arena_bytes": arena_bytes, "left_out": written.left_out})
        return
    console.OUT.print(f"Made from {model}:", soft_wrap=True, highlight=False)
    for path in written.files:
        console.OUT.print(f"  {path}", soft_wrap=True, highlight=False)
    if arena.not_measured:
        console.OUT.print(f"The arena is computed, not measured: {arena.not_measured}.", style="yellow", markup=False)
    if written.left_out:
        console.OUT.print(f"Without test vectors: {written.left_out}", style="yellow", markup=False)


def _check_project(kind: str, version: str, written: Format | None) -> None:
    """Says what does not fit before anything is trained."""
    from tinyrobust.deploy import project

    project.form(kind)
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise RecipeError(f"Expected --project-version X.Y.Z, three numbers. Received: {version!r}")
    if written is Format.lut:
        raise RecipeError(
            "Expected --format c or array beside --project. Received: lut",
            hint="Tables need a TensorFlow Lite Micro that was built for them: --format lut writes the file alone.",
        )


def _project(
    model: Path, kind: str, output: Path | None, runtime: "Runtime", version: str, data_dir: Path | None, as_json: bool
) -> None:
    with console.quiet_imports():
        from tinyrobust.pipeline import project
    with console.progress(not as_json) as progress:
        done = project.write(model, kind, output, runtime=runtime, version=version, data_dir=data_dir, progress=progress)
    if as_json:
        files = [str(path) for path in done.files]
        console.print_json({"folder": str(done.folder), "archive": str(done.archive), "files": files})
        return
    console.OUT.print(f"{len(done.files)} files in {done.folder}, and all of them in {done.archive}.", soft_wrap=True)
    console.OUT.print(f"The example runs {done.vector}.", soft_wrap=True, highlight=False, markup=False)
    if done.not_tried:
        console.OUT.print(done.not_tried, style="yellow", markup=False)
    console.OUT.print(f"How to build it: {done.folder / 'README.md'}", soft_wrap=True)


def show_exported(done: "Run", as_json: bool) -> None:
    """What the export of a run came to."""
    parity = done.parity
    if as_json:
        console.print_json(paths(done) | {"parity": parity.model_dump(mode="json", by_alias=True)})
        return
    rows = [
        ("Same class as the trained network", f"{100 * parity.top1_agreement:.2f} % of {parity.n} images"),
        ("Accuracy lost from QKeras to int8", f"{parity.accuracy_drop_points:.2f} points"),
        ("Worst layer", parity.worst_layer),
    ]
    console.OUT.print(table(f"{done.path / 'model.tflite'}", "tl", rows))
    console.OUT.print(f"For TensorFlow Lite Micro: {done.path / 'model_data.cc'}", soft_wrap=True)


def _show(generated: "Generated", as_json: bool) -> None:
    folder = generated.files[0].parent
    layers = [asdict(layer) for layer in generated.layers]
    if as_json:
        files = [str(path) for path in generated.files]
        console.print_json({"files": files, "arena_bytes": generated.arena_bytes, "layers": layers})
        return
    rows = [
        (layer.op, layer.kernel, layer.weights, f"{layer.weight_bytes:,}", layer.form, f"{layer.table_bytes:,}")
        for layer in generated.layers
    ]
    head = ("Operator", "Kernel", "Weights", "Bytes", "Rounding", "Tables")
    console.OUT.print(table(f"{generated.files[0]}: by layer", "lllrlr", rows, head))
    slow = [f"{layer.index} ({layer.op})" for layer in generated.layers if layer.portable]
    if slow:
        console.OUT.print(f"No fast kernel takes layers {', '.join(slow)}: plain C runs them, several times slower.")
    weights = sum(layer.weight_bytes for layer in generated.layers)
    tables = sum(layer.table_bytes for layer in generated.layers)
    console.OUT.print(
        f"Weights {weights:,} B, tables {tables:,} B, arena {generated.arena_bytes:,} B (computed). "
        f"Compile every .c file in {folder}; call tr_{generated.name}_invoke(in, out).",
        soft_wrap=True,
        highlight=False,
    )


def _show_lut(tables: "LookUp", as_json: bool) -> None:
    measured = tables.compressed
    if as_json:
        console.print_json(
            {
                "file": str(tables.path) if tables.path else None,
                "flash": {"before": measured.before, "after": measured.before - measured.saved},
                "arena": {"before": measured.arena_before, "after": measured.arena_before + measured.added},
                "equal": measured.equal,
                "n": measured.n,
                "inputs": tables.inputs,
            }
        )
        return
    if not measured.content:
        console.OUT.print(
            "Look-up tables do not pay: in no layer do the weights have so few values that tables make them smaller."
        )
        return
    rows = [
        ("File (flash)", f"{measured.before:,}", f"{measured.before - measured.saved:,}", f"{-measured.saved:+,}"),
        ("Arena (RAM)", f"{measured.arena_before:,}", f"{measured.arena:,}", f"{measured.added:+,}"),
    ]
    head = ("Bytes, measured", "As it is", "With tables", "Difference")
    console.OUT.print(table("TensorFlow Lite Micro with weights in look-up tables", "lrrr", rows, head))
    console.OUT.print(
        f"Outputs equal: {measured.equal} of {measured.n} ({tables.inputs}). Not counted: the code of what decodes them.",
        soft_wrap=True,
        highlight=False,
    )
    reason = "the outputs differ" if measured.equal < measured.n else "it takes more RAM than it spares flash"
    verdict = f"Written: {tables.path}" if tables.path else f"Not written, it does not pay: {reason}."
    console.OUT.print(verdict, soft_wrap=True, highlight=False)
