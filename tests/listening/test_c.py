"""The detector in C (`export/runtime/tr_listen.c`) reports what the one that was measured reports."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tinyrobust import assets
from tinyrobust.listening.detector import Smoother, Trigger, posteriors
from tinyrobust.recipe.listening import Listening
from tinyrobust.recipe.speech import SILENCE, UNKNOWN

_CLASSES = ("yes", "no", UNKNOWN, SILENCE)
_SCALE, _ZERO, _WINDOWS = 0.1, 10, 400
_MAIN = """
#include <stdio.h>
#include <stdlib.h>
#include "tr_listen.h"
int main(int count, char **words) {
  static const uint8_t keyword[] = {1, 1, 0, 0};
  const tr_listen_settings settings = {4, (uint16_t)atoi(words[1]), (uint16_t)atoi(words[2]), (uint16_t)atoi(words[3]),
                                       (float)atof(words[4]), 0.1f, 10, atoi(words[5]), keyword};
  float *memory = malloc(sizeof(float) * TR_LISTEN_MEMORY((size_t)settings.windows, settings.classes));
  tr_listener listener;
  int8_t outputs[4];
  (void)count;
  tr_listen_start(&listener, &settings, memory);
  while (fread(outputs, 1, 4, stdin) == 4) printf("%d ", tr_listen(&listener, outputs));
  free(memory);
  return 0;
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("gcc is not installed")
    folder, runtime = tmp_path_factory.mktemp("listen"), assets.folder("export") / "runtime"
    (folder / "main.c").write_text(_MAIN)
    flags = ["-std=c99", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror", "-fsanitize=address,undefined"]
    sources = [folder / "main.c", runtime / "tr_listen.c"]
    subprocess.run([compiler, *flags, f"-I{runtime}", *sources, "-o", folder / "listen", "-lm"], check=True)
    return folder / "listen"


@pytest.mark.parametrize(
    ("smoothing_ms", "refractory_ms", "threshold", "softmax"),
    [(300, 1000, 0.6, True), (10, 0, 0.5, True), (500, 250, 0.4, True), (200, 100, 0.7, True), (10, 300, 0.55, False)],
)
def test_it_reports_the_same_words_at_the_same_windows(
    program: Path, smoothing_ms: int, refractory_ms: int, threshold: float, softmax: bool
) -> None:
    settings = Listening(smoothing_ms=smoothing_ms, refractory_ms=refractory_ms)
    random = np.random.default_rng(smoothing_ms)
    walk = np.cumsum(random.normal(0, 8, (_WINDOWS, 4)), axis=0)
    outputs = (np.round(60 * np.sin(walk / 15)) + _ZERO).astype(np.int8)
    values = (_SCALE * (outputs.astype(np.float32) - _ZERO)).astype(np.float32)
    smoothed = Smoother(settings).feed(posteriors(values, not softmax))
    # Sums in another order and precision may go either way there; the draws have none such.
    assert np.abs(smoothed - threshold).min() > 1e-6
    said = Trigger(_CLASSES, settings, threshold).feed(smoothed)
    expected = [-1] * _WINDOWS
    for one in said:
        expected[round((one.seconds - 1) * 1000 / settings.hop_ms)] = _CLASSES.index(one.word)
    windows = max(1, round(smoothing_ms / settings.hop_ms))
    words = [str(number) for number in (windows, settings.hop_ms, refractory_ms, threshold, int(softmax))]
    done = subprocess.run([program, *words], input=outputs.tobytes(), capture_output=True, check=True)
    assert list(map(int, done.stdout.split())) == expected
    assert len({one.word for one in said}) == 2
    assert len(said) > 4
