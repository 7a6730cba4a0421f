"""Two thousand hostile files through every door that leads to a model: each is refused clearly, or gives a valid result."""

import collections
import logging
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tinyrobust.deploy import artefact, tflm
from tinyrobust.deploy.cgen.generate import generate
from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.deploy.rebuild import rebuild
from tinyrobust.deploy.sandbox import Limits, Refused, Sandbox
from tinyrobust.errors import TinyRobustError
from tinyrobust.footprint.measure import footprint

_CASES = 2000
_SECONDS = 60  # that any step may take on a busy machine; the median is milliseconds
_LIMITS = Limits(seconds=5, memory=2**28)
_NOT_VERIFIED = "not a valid Flatbuffer"  # what the interpreter's constructor says, which runs the FlatBuffer verifier


class Door:
    """Sends files through every door and keeps count of what came of them."""

    def __init__(self, folder: Path) -> None:
        self.path, self.c = folder / "hostile.tflite", folder / "c"
        self.counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        self.slowest = 0.0
        self.silent: list[str] = []

    def send(self, case: Any, *, generating: bool, rebuilding: bool, micro: bool = False) -> None:
        """One file, as `footprint`, `export`, `attack` and TensorFlow Lite Micro open it."""
        self.path.write_bytes(case.content)
        file = self._tried("read", case, lambda: artefact.read(self.path))
        if file is None:
            return
        self._tried("footprint", case, lambda: footprint(self.path))
        if generating:
            self._tried("generate", case, lambda: generate(file, "hostile", self.c))
        model = self._tried("open", case, lambda: Int8Model(self.path, _LIMITS))
        if model is not None:
            self._tried("run", case, lambda: self._answers(model))
        twin = self._tried("rebuild", case, lambda: rebuild(file)) if rebuilding else None
        if twin is not None:
            self._tried("twin", case, lambda: np.asarray(twin(np.zeros((2, *twin.input_shape[1:]), np.float32))))
        if micro:
            inputs = np.zeros((2, min(2**20, file.tensors[file.inputs[0]].nbytes)), np.int8)
            self._tried("tflm", case, lambda: tflm.outputs(self.path, inputs))

    @staticmethod
    def _answers(model: Int8Model) -> None:
        x = np.random.default_rng(0).uniform(-2, 2, (3, *model.input_shape)).astype(np.float32)
        scores, logits = model.predict(x), model.logits(model.quantized(x))
        assert scores.shape == (3, model.classes)
        assert len(logits) == 3

    def _tried(self, step: str, case: Any, work: Callable[[], Any]) -> Any:
        began, found = time.monotonic(), None
        try:
            found = work()
            self.counts[step]["valid"] += 1
        except TinyRobustError as error:
            self.silent += [case.name] * (len(str(error)) < 20)
            self.counts[step]["refused"] += 1
        except Exception as error:
            raise AssertionError(f"{step} of {case.name}") from error
        self.slowest = max(self.slowest, time.monotonic() - began)
        assert self.slowest < _SECONDS, f"{step} of {case.name}"
        return found


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = Door(tmp_path)
    yield found
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    counts = {step: dict(counts) for step, counts in found.counts.items()}
    logging.getLogger(__name__).info("%s; slowest step %.1f s; %.0f MiB more", counts, found.slowest, grown)
    assert grown < 1024
    assert not found.silent, "an error that says nothing"


@pytest.fixture(scope="session")
def sources(small_tflite: Path, digits_net: Any, converted: Callable[..., Path]) -> list[Path]:
    """Small honest files: integer, with a branch and without, and float."""
    return [small_tflite, digits_net.tflite, converted(digits_net.model, batch=None)]


CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.tflite"))
"""Files of every operator that moves bytes or bends curves, a stream with variables, and what `make fuzz` found."""


def test_two_thousand_hostile_files(hostile, sources, door) -> None:
    # The C takes half a second and the twin a tenth: a share of the files goes there.
    for number, case in enumerate(hostile(sources, _CASES, 1)):
        door.send(case, generating=number % 40 < 2, rebuilding=number % 8 < 2)
    assert sum(door.counts["read"].values()) == _CASES
    assert door.counts["run"]["valid"] > 200  # flips in weights, other names: what no check could object to
    assert all(door.counts[step]["refused"] for step in ("read", "footprint", "open", "generate", "rebuild"))


def test_hostile_files_of_every_operator(hostile, door) -> None:
    honest = [path for path in CORPUS if not path.stem.startswith("found")]
    for case in hostile(honest, 600, 2):
        door.send(case, generating=True, rebuilding=False)
    assert all(door.counts["generate"][result] > 50 for result in ("valid", "refused"))


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_what_fuzzing_starts_from_and_what_it_found(path, door) -> None:
    door.send(SimpleNamespace(name=path.stem, content=path.read_bytes()), generating=True, rebuilding=True)
    assert door.counts["read"].total() == 1


def _verified(content: bytes) -> bool:
    try:
        Sandbox("litert", content, _LIMITS)
    except Refused as error:
        return _NOT_VERIFIED not in str(error)
    return True


def test_half_of_them_pass_the_verifier(hostile, sources) -> None:
    cases = list(hostile(sources, 200, 1))
    passing = [_verified(case.content) for case in cases]
    assert all(passing[1::2]), [case.name for case, passes in zip(cases, passing, strict=True) if not passes][1::2]
    assert 0 < sum(passing[::2]) < 100


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3])
def test_more_hostile_files_of_peers_too(seed, hostile, sources, door, shared) -> None:
    for case in hostile([*sources, *sorted((shared / "peers").glob("*.tflite"))], _CASES, seed):
        door.send(case, generating=True, rebuilding=True, micro=tflm.available())
    assert door.counts["run"]["valid"] > 200
