"""`export --project`: each form has what its ecosystem asks for, and the one that can be built here is built and run."""

import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from typer.testing import CliRunner

from tinyrobust import assets
from tinyrobust.cli.app import app
from tinyrobust.deploy import tflm
from tinyrobust.deploy.project import forms
from tinyrobust.errors import ModelFileError, RecipeError
from tinyrobust.pipeline.project import write

_STRICT = "-Wall -Wextra -Wconversion -pedantic -Werror"
_VECTORS = """
extern void _start(void);
__attribute__((section(".vectors"), used)) static const void *const vectors[] = {(void *)0x00400000, (void *)_start};
"""
_TOOLCHAIN = """
set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_SYSTEM_PROCESSOR arm)
set(CMAKE_C_COMPILER arm-none-eabi-gcc)
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
set(CMAKE_C_FLAGS_INIT "-mcpu=cortex-m4 -mthumb -Os {strict}")
set(CMAKE_EXE_LINKER_FLAGS_INIT "--specs=rdimon.specs -Wl,--section-start=.vectors=0 {vectors}")
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-system-arm -M mps2-an386 -display none -monitor none -serial none -semihosting -kernel)
"""


@pytest.fixture(scope="module", autouse=True)
def golden() -> None:
    if reason := tflm.missing():
        pytest.skip(reason)


@pytest.mark.parametrize(("kind", "runtime"), [*((kind, "c") for kind in forms()), ("cmake", "tflm")])
def test_every_form_has_all_its_files_in_folder_and_archive(
    kind: str, runtime: Any, small_tflite: Path, tmp_path: Path
) -> None:
    done = write(small_tflite, kind, tmp_path / "it", runtime=runtime)
    inside = {path.relative_to(done.folder).as_posix() for path in done.folder.rglob("*") if path.is_file()}
    with zipfile.ZipFile(done.archive) as archive:
        packed = {name: archive.read(name) for name in archive.namelist()}
    top = "" if kind == "cmsis-pack" else "it/"
    assert packed == {f"{top}{name}": (done.folder / name).read_bytes() for name in inside}
    assert {"README.md", "LICENSE", "src/small.h", "src/small.c" if runtime == "c" else "src/small.cc"} <= inside
    assert not [name for name, content in packed.items() if b"{{" in content or b"{%" in content or "NAME" in name]


def test_constants_are_called_as_the_array_calls_them(small_tflite: Path, tmp_path: Path) -> None:
    """A file's name may have capital letters; the C's names have none, the array's have."""
    file = Path(shutil.copy(small_tflite, tmp_path / "MyNet.tflite"))
    source = write(file, "cmake", tmp_path / "it", runtime="tflm").folder / "src"
    used = set(re.findall(r"\bg_\w+", (source / "mynet.cc").read_text()))
    assert used == {"g_MyNet_model_data", "g_MyNet_arena_size"}
    assert used <= set(re.findall(r"\bg_\w+", (source / "model_data.h").read_text()))


def test_the_same_model_gives_the_same_archive(small_tflite: Path, tmp_path: Path) -> None:
    one, other = (write(small_tflite, "cmake", tmp_path / place / "it").archive for place in "ab")
    assert one.read_bytes() == other.read_bytes()


@pytest.fixture
def written(small_tflite: Path, tmp_path: Path) -> Callable[[str], Path]:
    return lambda kind: write(small_tflite, kind, tmp_path / kind, version="2.3.4").folder


def test_arduino(written: Callable[[str], Path]) -> None:
    """The fields of Arduino's library specification, 1.5."""
    folder = written("arduino")
    lines = dict(line.split("=", 1) for line in (folder / "library.properties").read_text().splitlines())
    required = {"name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url", "architectures"}
    assert required <= lines.keys()
    assert all(lines.values())
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 _.\-]{0,62}", lines["name"])
    assert (lines["version"], lines["category"]) == ("2.3.4", "Data Processing")  # one of the categories that there are
    assert not lines["sentence"].startswith("Arduino")
    assert (folder / "src" / lines["includes"]).is_file()
    assert (folder / "examples" / "classify" / "classify.ino").is_file()  # a sketch is called as its folder


def test_platformio(written: Callable[[str], Path]) -> None:
    """What PlatformIO's manifest of a library wants."""
    folder = written("platformio")
    manifest = json.loads((folder / "library.json").read_text())
    assert re.fullmatch(r"[\w\-. ]{1,100}", manifest["name"])
    assert manifest["version"] == "2.3.4"
    assert manifest["homepage"].startswith("https://")
    assert (folder / "src" / manifest["headers"]).is_file()
    (example,) = manifest["examples"]
    assert all((folder / example["base"] / file).is_file() for file in example["files"])


def test_zephyr(written: Callable[[str], Path]) -> None:
    import yaml

    folder = written("zephyr")
    module = yaml.safe_load((folder / "zephyr" / "module.yml").read_text())
    assert module == {"name": "small", "build": {"cmake": "zephyr", "kconfig": "zephyr/Kconfig"}}
    assert "config TINYROBUST_SMALL\n\tbool" in (folder / "zephyr" / "Kconfig").read_text()
    listed = re.findall(r"\.\./src/(\S+\.c)", (folder / "zephyr" / "CMakeLists.txt").read_text())
    assert set(listed) == {path.name for path in (folder / "src").glob("*.c")}
    sample = yaml.safe_load((folder / "samples" / "classify" / "sample.yaml").read_text())
    assert set(sample["tests"]) == {"sample.tinyrobust.small"}
    assert "CONFIG_TINYROBUST_SMALL=y" in (folder / "samples" / "classify" / "prj.conf").read_text()


def test_esp_idf(written: Callable[[str], Path]) -> None:
    import yaml

    folder = written("esp-idf")
    manifest = yaml.safe_load((folder / "idf_component.yml").read_text())
    assert manifest["version"] == "2.3.4"
    assert manifest["dependencies"] == {"idf": ">=5.0"}
    listed = re.findall(r'"src/(\S+\.c)"', (folder / "CMakeLists.txt").read_text())
    assert set(listed) == {path.name for path in (folder / "src").glob("*.c")}
    example = folder / "examples" / "classify"
    (place,) = re.findall(r'EXTRA_COMPONENT_DIRS "(.+)"', (example / "CMakeLists.txt").read_text())
    assert (example / place).resolve() == folder.resolve()


def test_cmsis_pack(written: Callable[[str], Path]) -> None:
    """Files that a pack's description names are in it; it is called vendor.name.version.pack."""
    folder = written("cmsis-pack")
    root = ET.parse(folder / "tinyrobust.small.pdsc").getroot()
    assert [child.tag for child in root][:4] == ["vendor", "name", "description", "url"]
    assert [one.get("version") for one in root.iter("release")] == ["2.3.4"]
    files = [one.get("name") for one in root.iter("file")]
    assert all((folder / str(name)).exists() for name in files)
    assert {f"src/{path.name}" for path in (folder / "src").iterdir()} <= set(files)
    assert (folder.parent / "tinyrobust.small.2.3.4.pack").is_file()


def _built(folder: Path, *settings: str) -> str:
    if not shutil.which("cmake"):
        pytest.skip("cmake is not installed")
    for command in (["cmake", "-B", "build", *settings], ["cmake", "--build", "build"]):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    done = subprocess.run(
        ["ctest", "--test-dir", "build", "--verbose"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_cmake_form_is_built_and_runs_here(written: Callable[[str], Path]) -> None:
    answer = _built(written("cmake"), f"-DCMAKE_C_FLAGS={_STRICT}")
    assert "Outputs as expected." in answer
    assert re.search(r"Class [012]\n", answer)


def test_the_cmake_form_is_built_and_runs_on_an_emulated_m4(written: Callable[[str], Path], tmp_path: Path) -> None:
    if not all(map(shutil.which, ("arm-none-eabi-gcc", "qemu-system-arm"))):
        pytest.skip("the compiler or the emulator is not installed")
    source, vectors = tmp_path / "vectors.c", tmp_path / "vectors.o"
    source.write_text(_VECTORS)
    subprocess.run(["arm-none-eabi-gcc", "-mcpu=cortex-m4", "-mthumb", "-c", source, "-o", vectors], check=True)
    toolchain = tmp_path / "toolchain.cmake"
    toolchain.write_text(_TOOLCHAIN.format(strict=_STRICT, vectors=vectors).replace("emulator qemu", "emulator;qemu"))
    answer = _built(written("cmake"), f"-DCMAKE_TOOLCHAIN_FILE={toolchain}")
    assert "Outputs as expected." in answer


def test_its_c_compiles_without_a_warning(written: Callable[[str], Path]) -> None:
    if not shutil.which("arm-none-eabi-gcc"):
        pytest.skip("the compiler is not installed")
    source = written("arduino") / "src"
    for core in ("cortex-m0plus", "cortex-m4", "cortex-m33"):
        flags = [f"-mcpu={core}", "-mthumb", "-std=c99", *_STRICT.split(), "-fsyntax-only", "-I", source]
        subprocess.run(["arm-none-eabi-gcc", *flags, *source.glob("*.c")], check=True)


def test_an_example_that_expects_other_outputs_fails(written: Callable[[str], Path]) -> None:
    folder = written("cmake")
    vector = folder / "example" / "vector.h"
    head, last = vector.read_text().rsplit("{\n", 1)
    number = int(re.findall(r"-?\d+", last)[0])
    vector.write_text(f"{head}{{\n{last.replace(str(number), str(number - 1 if number > 0 else number + 1), 1)}")
    with pytest.raises(AssertionError, match="Outputs other than expected"):
        _built(folder)


def test_float_ends_are_the_caller_s(converted: Callable[..., Path], tmp_path: Path) -> None:
    """Of a file with float ends the C takes the integers inside; TensorFlow Lite Micro takes the floats."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(6, activation="relu"), keras.layers.Dense(3)])
    file = converted(model, np.random.default_rng(0).random((50, 8)), scheme="float ends")
    folder = write(file, "cmake", tmp_path / "c").folder
    assert "#define TR_MODEL_INPUT_BYTES 8\n" in (folder / "src" / "model.h").read_text()
    assert "Outputs as expected." in _built(folder)
    header = (write(file, "cmake", tmp_path / "tflm", runtime="tflm").folder / "src" / "model.h").read_text()
    assert "#define TR_MODEL_INPUT_BYTES 32\n" in header


def test_a_spotter_hears_a_second_of_sound(shared: Path, tmp_path: Path) -> None:
    model = assets.recipes()["kws-stq"].parent
    done = write(model, "cmake", tmp_path / "it", data_dir=shared / "data")
    word = done.vector.rpartition(" ")[2]
    assert done.vector == f"one of the validation clips of speech-commands, of class {word}"
    answer = _built(done.folder, f"-DCMAKE_C_FLAGS={_STRICT}")
    for line in ("Features as expected.", f"Heard: {word}", "Outputs as expected."):
        assert line in answer


def test_a_test_image_of_its_run_is_the_vector(tiny_run: Any, tmp_path: Path) -> None:
    done = write(tiny_run.path, "cmake", tmp_path / "it")
    assert re.fullmatch(r"one of the test images of digits, of class \d", done.vector)
    answer = _built(done.folder)
    assert f"Class {done.vector[-1]}: {done.vector[-1]}\n" in answer


def test_custom_operators_are_not_called_for_anybody(small_tflite: Path, changed: Callable[..., Path], tmp_path: Path) -> None:
    def change(model: Any) -> None:
        entry = schema.OperatorCodeT()
        entry.builtinCode, entry.deprecatedBuiltinCode, entry.customCode = schema.BuiltinOperator.CUSTOM, 32, "own"
        model.operatorCodes.append(entry)
        model.subgraphs[0].operators[0].opcodeIndex = len(model.operatorCodes) - 1

    file = changed(small_tflite, tmp_path / "custom.tflite", change)
    with pytest.raises(ModelFileError, match=r"built-in operators for a project .* Received: CUSTOM:own"):
        write(file, "cmake", tmp_path / "it", runtime="tflm")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--project", "ardiuno"], "Did you mean 'arduino'?"),
        (["--project", "cmake", "--project-version", "1.0"], "Expected --project-version X.Y.Z"),
        (["--project", "cmake", "--format", "lut"], "Expected --format c or array beside --project"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_trained(words: list[str], expected: str, tmp_path: Path) -> None:
    answer = CliRunner().invoke(app, ["export", "digits-stq", "--runs-dir", str(tmp_path), *words])
    assert isinstance(answer.exception, RecipeError)
    assert expected in str(answer.exception)
    assert not list(tmp_path.iterdir())


def test_the_command_says_what_it_wrote(small_tflite: Path, tmp_path: Path) -> None:
    words = ["export", str(small_tflite), "--project", "zephyr", "--output", str(tmp_path / "module")]
    people, machines = CliRunner().invoke(app, words), CliRunner().invoke(app, [*words, "--json"])
    assert "Zephyr's build was not run on it." in " ".join(people.output.split())
    assert json.loads(machines.stdout)["archive"] == str(tmp_path / "small-zephyr.zip")
    assert (tmp_path / "small-zephyr.zip").is_file()


def test_no_tensorflow_is_needed_to_refuse() -> None:
    code = "import sys; from tinyrobust.deploy import project; project.forms(); sys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
