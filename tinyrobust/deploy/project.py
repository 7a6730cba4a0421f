"""A model in the form that an ecosystem builds: Arduino, PlatformIO, Zephyr, ESP-IDF, CMSIS packs, CMake.

A form is a folder in `export/projects/` with a `project.toml` and Jinja templates (`*.j2`), which lie where the files go that
they become; `NAME` in a path is the model's name. Imports no TensorFlow.
"""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import Field

from tinyrobust import assets, toml
from tinyrobust.choices import no_such
from tinyrobust.deploy import c_literals as c
from tinyrobust.errors import RecipeError
from tinyrobust.files import atomic_path, write_atomic
from tinyrobust.recipe.table import Table

Runtime = Literal["c", "tflm"]
_URL = "https://pypi.org/project/tinyrobust/"

_FORM, _COMMON, _TFLM, _SPOTTER = "project.toml", "common", "tflm", "spotter"
_TEMPLATE, _INCLUDED = ".j2", ".inc.j2"
_HEARING = ("tr_listen.c", "tr_listen.h", "tr_mfcc.c", "tr_mfcc.h")
_WIDTH = 118


class Form(Table):
    """`project.toml`: what a form is, and what its README says. Texts are templates, as the files beside it."""

    title: str = Field(description="What an ecosystem calls it.")
    sources: str = Field(description="The folder in it where the model's C goes.")
    archive: str = Field("{{ name }}-{{ kind }}.zip", description="The name of the archive.")
    use: str = Field(description="How it is built and used.")
    tflm: str = Field(description="Where TensorFlow Lite Micro comes from, for a model that runs on it.")
    not_tried: str = Field(description="Which toolchain was not run on the form, in a sentence.")


@dataclass(frozen=True, eq=False)
class Vector:
    """A stored input, and what the network answers.

    Attributes:
        input: Bytes of all inputs, int8.
        output: Bytes of all outputs, int8.
        source: Where the input comes from, in words.
        judge: What the outputs are computed by, in words.
        sound: Of a spotter the clip, int16 [samples], whose features the input is.
    """

    input: npt.NDArray[np.int8]
    output: npt.NDArray[np.int8]
    source: str
    judge: str
    sound: npt.NDArray[np.int16] | None = None


def forms() -> dict[str, Path]:
    """Every form: name to its folder."""
    return {path.parent.name: path.parent for path in sorted((assets.folder("export") / "projects").glob(f"*/{_FORM}"))}


def form(kind: str) -> Form:
    """What a form is.

    Raises:
        RecipeError: There is no such form, or its `project.toml` is not valid.
    """
    known = forms()
    if kind not in known:
        raise RecipeError(no_such("project", kind, known))
    path = known[kind] / _FORM
    return toml.validated(Form, toml.values(path, RecipeError), str(path), RecipeError)


def write(
    kind: str,
    folder: Path,
    sources: Mapping[str, bytes],
    facts: Mapping[str, Any],
    *,
    runtime: Runtime,
    classes: Sequence[str],
    vector: Vector,
) -> tuple[Path, ...]:
    """Writes the files of a form, and an archive of them beside the folder.

    Args:
        kind: A name from `forms`.
        folder: Where they go.
        sources: The model's files (`.c`, `.cc`, `.h`): name to content.
        facts: What templates may say beside: `name` (in C), `title`, `description`, `version`, `sha256`, ...
        runtime: Our C, or TensorFlow Lite Micro.
        classes: The names of the classes, in the order of the outputs.
        vector: What the example runs.

    Returns:
        The archive first, then the files.

    Raises:
        RecipeError: There is no such form.
        RunFolderError: A file cannot be written.
    """
    about, place, name = form(kind), forms()[kind], str(facts["name"])
    words = {
        **facts,
        "form": about,
        "kind": kind,
        "upper": name.upper(),
        "runtime": runtime,
        "classes": classes,
        "vector": vector,
        "longest": max((len(one.encode()) for one in classes), default=0),
        "url": _URL,
    }
    templates = _environment(place.parent)
    if runtime == "tflm":
        sources = {**sources, **_rendered(templates, place.parent / _TFLM, words)}
    if facts["hears"]:
        sources = {**sources, **_rendered(templates, place.parent / _SPOTTER, words)}
        sources |= {file: (assets.folder("export") / "runtime" / file).read_bytes() for file in _HEARING}
    words["sources"] = sorted(one for one in sources if Path(one).suffix in (".c", ".cc"))
    words["headers"] = sorted(one for one in sources if Path(one).suffix == ".h")
    texts = {key: templates.from_string(getattr(about, key)).render(words).strip("\n") for key in ("use", "tflm", "not_tried")}
    contents = {
        **{f"{about.sources}/{one}": content for one, content in sources.items()},
        **_rendered(templates, place, words),
        **_rendered(templates, place.parent / _COMMON, words | texts),
    }
    archive = folder.parent / templates.from_string(about.archive).render(words)
    for one, content in contents.items():
        write_atomic(folder / one, content)
    _archive(archive, folder.resolve().name, contents, flat=archive.suffix == ".pack")
    return (archive, *(folder / one for one in contents))


def _environment(projects: Path) -> Environment:
    templates = Environment(
        loader=FileSystemLoader([projects, projects / _COMMON]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - C, CMake, JSON; the XML escapes what is not ours
    )
    templates.filters["rows"] = _rows
    templates.filters["c_string"] = c.string
    templates.filters["c_number"] = c.number
    return templates


def _rows(values: npt.NDArray[np.int8] | npt.NDArray[np.int16]) -> str:
    return "\n".join(c.listed(map(str, values.tolist()), _WIDTH, indent="    ", end=","))


def _rendered(templates: Environment, place: Path, words: Mapping[str, Any]) -> dict[str, bytes]:
    """The files that the templates of a folder become; not of those that others include."""
    found = {}
    for path in sorted(path for path in place.rglob(f"*{_TEMPLATE}") if not path.name.endswith(_INCLUDED)):
        template = path.relative_to(place.parent).as_posix()
        name = path.relative_to(place).as_posix().removesuffix(_TEMPLATE).replace("NAME", str(words["name"]))
        found[name] = templates.get_template(template).render(words).encode()
    return found


def _archive(path: Path, top: str, contents: Mapping[str, bytes], *, flat: bool) -> None:
    """The same bytes for the same contents: without times."""
    with atomic_path(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for one, content in contents.items():
            archive.writestr(zipfile.ZipInfo(one if flat else f"{top}/{one}"), content, zipfile.ZIP_DEFLATED)
