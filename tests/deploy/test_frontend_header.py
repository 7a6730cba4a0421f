"""The exported front end: it compiles, and a front end written from it alone gives the features of the vectors."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tinyrobust import assets
from tinyrobust.choices import members
from tinyrobust.data import Dataset, load
from tinyrobust.data.speech.frontend import Grid, front_end
from tinyrobust.data.speech.frontend_record import FrontendRecord
from tinyrobust.deploy.frontend_header import FILES, HEADER, VECTORS, write_frontend
from tinyrobust.recipe.data import Data
from tinyrobust.recipe.frontend import Frontend, FrontendTable, Mfcc, Micro
from tinyrobust.recipe.speech import Speech

_STRICT = ("-Wall", "-Wextra", "-pedantic", "-Werror")
_ANY_USER = """
#include <stdio.h>
#include "model_frontend.h"
#include "model_frontend_vectors.h"
int main(void) {
  printf("%d %d\\n", TONES_FRONTEND_FRAMES, TONES_FRONTEND_COEFFICIENTS);
  for (int v = 0; v < TONES_VECTORS; ++v) {
    for (int i = 0; i < TONES_FRONTEND_CLIP_SAMPLES; ++i) printf("%d ", tones_vector_audio[v][i]);
    printf("\\n");
    for (int i = 0; i < TONES_FRONTEND_FRAMES * TONES_FRONTEND_COEFFICIENTS; ++i) printf("%d ", tones_vector_features[v][i]);
    printf("\\n");
  }
  return 0;
}
"""
_MICRO_USER = """
#include "model_frontend.h"
#include "model_frontend_vectors.h"
int main(void) {
  const float limits[] = {TONES_FRONTEND_LOW_HZ, TONES_FRONTEND_HIGH_HZ, TONES_FRONTEND_PCAN_STRENGTH};
  return !(limits[0] == 125.0f && limits[1] == 7500.0f && limits[2] == 0.95f && TONES_FRONTEND_STRIDE == 2 &&
           TONES_FRONTEND_CHANNELS == 40 && TONES_VECTORS == 8 && sizeof tones_vector_features == 8 * 49 * 40 &&
           tones_vector_answer[1] == 2);
}
"""


def loaded(tones: Path, frontend: FrontendTable) -> Dataset:
    speech = Speech(task="own-words", words=("low", "high"), frontend=frontend)
    return load(Data(name=str(tones), speech=speech, train_samples=60), 7)


def written(dataset: Dataset, folder: Path) -> None:
    assert dataset.speech is not None
    write_frontend(dataset.speech.record, dataset.speech.vectors, [0, 2, 1, 0, 0, 0, 0, 3], "tones", folder)


def compiled(source: Path, folder: Path, compiler: str = "gcc", standard: str = "-std=c99") -> str:
    path = shutil.which(compiler)
    if path is None:
        pytest.skip(f"{compiler} is not installed")
    program = folder / "program"
    runtime = assets.folder("export") / "runtime"
    own = [str(runtime / "tr_mfcc.c")] if "tr_mfcc.h" in source.read_text() else []
    arguments = [path, standard, *_STRICT, "-O2", f"-I{folder}", f"-I{runtime}", str(source), *own, "-o", str(program), "-lm"]
    built = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return subprocess.run([program], capture_output=True, text=True, check=True).stdout


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYROBUST_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    "frontend",
    [
        Mfcc(kind="mfcc"),
        Mfcc(kind="mfcc", window_ms=25, hop_ms=10, mels=48, coefficients=13, low_hz=0, high_hz=8000, top_db=60),
    ],
    ids=str,
)
@pytest.mark.parametrize(("check", "share"), [("frontend_check.c", 0.001), ("mfcc_check.c", 0.005)])
def test_a_front_end_written_from_the_header_gives_the_vectors(
    tones: Path, tmp_path: Path, frontend: Mfcc, check: str, share: float
) -> None:
    """In double precision, slow and plain, and the one in single precision that projects of spotters have."""
    written(loaded(tones, frontend), tmp_path)
    values, different, most = map(int, compiled(Path(__file__).parent / check, tmp_path).split())
    assert values == 8 * {10: 49, 13: 97}[frontend.coefficients] * frontend.coefficients
    # Both round the same numbers, computed in double there and partly in single here: a value beside a step may go either way.
    assert most <= 1
    assert different <= share * values


def test_the_settings_of_micro(tones: Path, tmp_path: Path) -> None:
    written(loaded(tones, Micro(kind="micro")), tmp_path)
    (tmp_path / "user.c").write_text(_MICRO_USER)
    compiled(tmp_path / "user.c", tmp_path)


@pytest.mark.parametrize("kind", members(Frontend))
def test_every_front_end_has_a_header_and_its_vectors_come_out_again(tones: Path, tmp_path: Path, kind: str) -> None:
    dataset = loaded(tones, members(Frontend)[kind](kind=kind))
    written(dataset, tmp_path)
    (tmp_path / "user.c").write_text(_ANY_USER)
    compiled(tmp_path / "user.c", tmp_path, "gcc", "-std=c11")
    compiled(tmp_path / "user.c", tmp_path, "g++", "-xc++")
    (rows, coefficients), *values = [
        list(map(int, line.split())) for line in compiled(tmp_path / "user.c", tmp_path).splitlines()
    ]
    record = dataset.speech.record
    assert (rows, coefficients) == record.shape
    audio, x = np.array(values[0::2], np.int16), np.array(values[1::2]).reshape(8, rows, coefficients, 1) + 128
    np.testing.assert_array_equal(x, Grid.of(record).quantized(front_end(record.settings).features(audio)))


@pytest.mark.parametrize("kind", members(Frontend))
def test_the_record_beside_it_reads_back(tones: Path, tmp_path: Path, kind: str) -> None:
    dataset = loaded(tones, members(Frontend)[kind](kind=kind))
    written(dataset, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == sorted(FILES)
    assert dataset.speech is not None
    assert FrontendRecord.load(tmp_path / "frontend.json") == dataset.speech.record


def test_class_names_cannot_break_out_of_the_comment(tones: Path, tmp_path: Path) -> None:
    dataset = loaded(tones, Mfcc(kind="mfcc"))
    assert dataset.speech is not None
    record = dataset.speech.record.model_copy(update={"classes": ("a*/ int b;", "two\nlines", "ü", "d")})
    write_frontend(record, dataset.speech.vectors, np.zeros(8, int).tolist(), "tones", tmp_path)
    (tmp_path / "user.c").write_text(f'#include "{VECTORS}"\n#include "{HEADER}"\nint main(void) {{ return 0; }}\n')
    compiled(tmp_path / "user.c", tmp_path)
