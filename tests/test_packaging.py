"""A wheel, a source distribution and an editable install carry everything; each is tried in a clean environment."""

import configparser
import json
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# What a copy of the checkout leaves out: what git ignores, and hidden files. A stale build/ would hide that a file is missing.
_NOT_SOURCE = shutil.ignore_patterns(
    ".*", "__pycache__", "*.egg-info", "build", "dist", "runs", "model_data.*", "model_frontend*.h"
)


def _run(*command: str | Path, cwd: Path) -> str:
    """What a command prints; its error output where it fails."""
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def source(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout's sources: builds leave their traces there."""
    return Path(shutil.copytree(checkout, tmp_path_factory.mktemp("source") / "tinyrobust", ignore=_NOT_SOURCE))


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that `python -m build` makes, as a release would: from the source distribution, not from the checkout."""
    folder = tmp_path_factory.mktemp("dist")
    _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, cwd=source)
    (path,) = folder.glob("*.whl")
    return path


class Environment:
    """A virtual environment with nothing of its own; the dependencies are lent by the environment that runs the tests."""

    def __init__(self, folder: Path) -> None:
        _run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
        self.bin = folder / "bin"
        self._site = Path(
            _run(self.bin / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
        )
        # A folder named in a .pth file is searched for modules, and the .pth files in it are not read: an editable
        # install of the lender stays out.
        (self._site / "lent.pth").write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")

    def install(self, *what: str | Path) -> None:
        """Installs without dependencies, over what is lent."""
        options = ("--disable-pip-version-check", "--no-deps", "--no-index", "--no-build-isolation", "--ignore-installed")
        pip = (sys.executable, "-m", "pip", "--python", self.bin / "python", "install", "--quiet")
        _run(*pip, *options, *what, cwd=self._site)

    def python(self, code: str, cwd: Path) -> str:
        """What a line of Python prints."""
        return _run(self.bin / "python", "-c", code, cwd=cwd).strip()

    def tinyrobust(self, *arguments: str, cwd: Path) -> str:
        """What the installed command prints."""
        return _run(self.bin / "tinyrobust", *arguments, cwd=cwd)


@pytest.fixture(scope="module")
def with_wheel(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    environment = Environment(tmp_path_factory.mktemp("wheel") / "venv")
    environment.install(wheel)
    return environment


def test_every_package_is_listed(checkout: Path) -> None:
    settings = configparser.ConfigParser()
    settings.read(checkout / "setup.cfg")
    listed = settings["options"]["packages"].split()
    found = [".".join(path.parent.relative_to(checkout).parts) for path in (checkout / "tinyrobust").rglob("__init__.py")]
    mapped = ["tinyrobust._datasets", "tinyrobust._export", "tinyrobust._models"]
    assert sorted(listed) == sorted(found + mapped)


def test_every_module_is_in_a_package(checkout: Path) -> None:
    folders = {path.parent for path in (checkout / "tinyrobust").rglob("*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_the_wheel_carries_every_file(source: Path, wheel: Path) -> None:
    """The package, its templates, and all of models/, datasets/ and export/, byte for byte."""
    expected = {path.relative_to(source).as_posix(): path for path in (source / "tinyrobust").rglob("*") if path.is_file()}
    for name in ("models", "datasets", "export"):
        paths = [path for path in (source / name).rglob("*") if path.is_file()]
        assert paths, f"{name}/ is empty"
        expected |= {f"tinyrobust/_{name}/{path.relative_to(source / name).as_posix()}": path for path in paths}
    with zipfile.ZipFile(wheel) as archive:
        carried = {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}
    assert sorted(carried) == sorted(expected)
    assert [name for name, path in expected.items() if carried[name] != path.read_bytes()] == []
    assert {"tinyrobust/py.typed", "tinyrobust/_models/digits-stq/recipe.toml"} <= set(carried)


def test_the_wheel_says_what_it_is(source: Path, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = archive.read(name).decode()
        licence = archive.read(name.replace("METADATA", "licenses/LICENSE")).decode()
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    assert (source / "README.md").read_text(encoding="utf-8").splitlines()[0] in metadata
    assert licence == (source / "LICENSE").read_text(encoding="utf-8")


def test_an_installed_wheel_finds_its_own_files(with_wheel: Environment, checkout: Path, tmp_path: Path) -> None:
    code = (
        "import json, tinyrobust; from tinyrobust import assets;"
        "print(json.dumps([tinyrobust.__file__, *(str(assets.folder(n)) for n in ('models', 'datasets', 'export'))]))"
    )
    package, *folders = json.loads(with_wheel.python(code, cwd=tmp_path))
    assert not Path(package).is_relative_to(checkout / "tinyrobust")
    assert Path(package).is_relative_to(with_wheel.bin.parent)
    assert folders == [str(Path(package).parent / name) for name in ("_models", "_datasets", "_export")]


@pytest.mark.parametrize(
    ("what", "folder", "pattern"), [("recipes", "models", "*/recipe.toml"), ("boards", "export", "boards/*.toml")]
)
def test_an_installed_wheel_lists_what_the_checkout_has(
    with_wheel: Environment, checkout: Path, tmp_path: Path, what: str, folder: str, pattern: str
) -> None:
    listed = [row["name"] for row in json.loads(with_wheel.tinyrobust("list", what, "--json", cwd=tmp_path))]
    paths = (checkout / folder).glob(pattern)
    assert sorted(listed) == sorted(path.parent.name if path.name == "recipe.toml" else path.stem for path in paths)


def test_an_installed_wheel_explains_itself(with_wheel: Environment, tmp_path: Path) -> None:
    assert "tinyrobust run digits-stq" in with_wheel.tinyrobust("--help", cwd=tmp_path)
    assert with_wheel.python("import tinyrobust; print(tinyrobust.__version__)", cwd=tmp_path) in with_wheel.tinyrobust(
        "--version", cwd=tmp_path
    )


def test_an_editable_install_sees_the_folders_beside_the_package(source: Path, tmp_path: Path) -> None:
    environment = Environment(tmp_path / "venv")
    environment.install("--editable", source)
    code = (
        "import tinyrobust; from tinyrobust import assets;"
        "print(tinyrobust.__file__, *map(assets.folder, ('models', 'datasets', 'export')))"
    )
    found = environment.python(code, cwd=tmp_path).split()
    assert found == [str(source / name) for name in ("tinyrobust/__init__.py", "models", "datasets", "export")]
    (source / "models" / "new-recipe").mkdir()
    (source / "models" / "new-recipe" / "recipe.toml").write_text('extends = "digits-stq"\n')
    try:
        assert "new-recipe" in environment.tinyrobust("list", "recipes", cwd=tmp_path)
    finally:
        shutil.rmtree(source / "models" / "new-recipe")


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock", "requirements-build.lock"])
def test_locks_pin_every_package_with_hashes_and_name_no_place(checkout: Path, name: str) -> None:
    text = (checkout / name).read_text(encoding="utf-8")
    for entry in text.replace("\\\n", "").splitlines():
        if not entry.startswith("#"):
            assert "==" in entry.split()[0], entry
            assert "--hash=sha256:" in entry, entry
    assert "://" not in text
    assert "index-url" not in text
    assert "find-links" not in text


def _pinned(lock: Path) -> dict[str, str]:
    """The version of every package in a lock file."""
    entries = [line.split()[0] for line in lock.read_text(encoding="utf-8").splitlines() if "==" in line]
    return {name: version for name, _, version in (entry.partition("==") for entry in entries)}


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-build.lock"])
def test_the_dev_lock_contains_the_others(checkout: Path, name: str) -> None:
    """So `make demo` after `make test` changes nothing."""
    everything = _pinned(checkout / "requirements-dev.lock")
    pinned = _pinned(checkout / name)
    assert {package: everything.get(package) for package in pinned} == pinned


@pytest.mark.parametrize(
    ("lock", "extras"),
    [
        ("requirements.lock", ()),
        ("requirements-dev.lock", ("dev", "jax", "mcu", "corruptions")),
        ("requirements-build.lock", None),
    ],
)
def test_the_locks_fit_what_the_project_asks_for(checkout: Path, lock: str, extras: tuple[str, ...] | None) -> None:
    """Fails when a dependency was changed and `make lock` forgotten."""
    settings = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))
    project = settings["project"]
    asked = settings["build-system"]["requires"] if extras is None else list(project["dependencies"])
    asked += [requirement for extra in extras or () for requirement in project["optional-dependencies"][extra]]
    pinned = _pinned(checkout / lock)
    for requirement in map(Requirement, asked):
        if requirement.name != "tinyrobust":
            version = pinned.get(canonicalize_name(requirement.name))
            assert version is not None, requirement
            assert requirement.specifier.contains(version, prereleases=True), f"{requirement}, {version}"
