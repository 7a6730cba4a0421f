"""The contract of executors, over every one that there is: see `tinyrobust.execution.executor.Executor`."""

import contextlib
import importlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from types import ModuleType

import pytest

from tinyrobust.errors import DataError, TinyRobustError
from tinyrobust.execution import processor
from tinyrobust.execution.executor import EXECUTORS, Executor, Resources, start

_SMALL = Resources(cores=1, memory=2**20)
_TASKS = Path(__file__).parent / "tasks"
_PARENT = """
import sys, threading
from pathlib import Path
from executor_tasks import Trouble
from tinyrobust.execution.executor import Resources, start
with start(1, kind=sys.argv[1]) as executor:
    task = Trouble(name="endless", how="endless", count=Path(sys.argv[2]))
    executor.submit(task, Resources(), announce=lambda event: print(event, flush=True))
    threading.Event().wait()
"""


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of tasks, which workers find too."""
    monkeypatch.syspath_prepend(_TASKS)
    monkeypatch.setenv("PYTHONPATH", f"{_TASKS}:{os.environ.get('PYTHONPATH', '')}")
    return importlib.import_module("executor_tasks")


@pytest.fixture(params=EXECUTORS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def executor(kind: str, tmp_path: Path) -> Iterator[Executor]:
    with start(2, kind=kind, logs=tmp_path / "logs") as started:
        yield started


@pytest.mark.parametrize("workers", [1, 3])
def test_results_do_not_depend_on_the_number_of_workers(kind: str, tasks: ModuleType, workers: int) -> None:
    with start(workers, kind=kind) as executor:
        futures = [executor.submit(tasks.Square(name=f"square{n}", number=n), _SMALL) for n in range(6)]
        results = [future.result(60) for future in futures]
    assert [result["square"] for result in results] == [n * n / 7 for n in range(6)]
    threads = os.environ.get("TF_NUM_INTRAOP_THREADS") or str(len(processor.cores()))
    assert {result["threads"] for result in results} == {threads}
    assert len({result["process"] for result in results}) <= workers


@pytest.mark.parametrize("reuse", [True, False])
def test_a_worker_goes_on_or_is_a_fresh_process_for_every_task(kind: str, tasks: ModuleType, reuse: bool) -> None:
    with start(1, kind=kind, reuse=reuse) as executor:
        results = [executor.submit(tasks.Square(name="square", number=n), _SMALL).result(60) for n in range(2)]
    assert (len({result["process"] for result in results}) == 1) is reuse


def test_a_task_is_heard_while_it_runs(executor: Executor, tasks: ModuleType, tmp_path: Path) -> None:
    told: list[object] = []
    task = tasks.Square(name="square", number=2)
    executor.submit(task, _SMALL, progress=lambda *words: told.append(words), announce=told.append).result(60)
    assert told == [("squaring", 1, 1), "squared"]
    assert (tmp_path / "logs" / "square.log").read_text() == "this is no message\n"


def test_an_error_of_ours_travels_with_its_hint(executor: Executor, tasks: ModuleType, tmp_path: Path) -> None:
    task = tasks.Trouble(name="refused", how="refused", count=tmp_path / "tries")
    with pytest.raises(DataError, match="Expected better data") as caught:
        executor.submit(task, _SMALL).result(60)
    assert caught.value.hint == "Get some."
    assert executor.submit(tasks.Square(name="square", number=7), _SMALL).result(60)["square"] == 7  # type: ignore[index,call-overload]


def test_a_defect_is_not_tried_again(executor: Executor, tasks: ModuleType, tmp_path: Path) -> None:
    task = tasks.Trouble(name="broken", how="broken", count=tmp_path / "tries")
    with pytest.raises(TinyRobustError, match=r"Received: process 1 of 2 ended with status 1 \(ZeroDivisionError: a defect"):
        executor.submit(task, _SMALL).result(60)
    assert len((tmp_path / "tries").read_text().splitlines()) == 1


def test_a_log_that_is_not_kept_is_not_named(kind: str, tasks: ModuleType, tmp_path: Path) -> None:
    with start(1, kind=kind) as executor:
        future = executor.submit(tasks.Trouble(name="broken", how="broken", count=tmp_path / "tries"), _SMALL)
        with pytest.raises(TinyRobustError, match=r"ended with status 1 \(ZeroDivisionError: a defect[^;]*\)"):
            future.result(60)


def test_a_killed_worker_is_started_again(executor: Executor, tasks: ModuleType, tmp_path: Path) -> None:
    told: list[str] = []
    task = tasks.Trouble(name="once", how="killed once", count=tmp_path / "tries")
    assert executor.submit(task, _SMALL, progress=lambda label, *_: told.append(label)).result(60) == 2
    assert told == ["process 1 of 2 was ended by SIGKILL, once is made again"]


def test_a_worker_that_is_always_killed_is_tried_three_times(executor: Executor, tasks: ModuleType, tmp_path: Path) -> None:
    task = tasks.Trouble(name="always", how="killed", count=tmp_path / "tries")
    with pytest.raises(TinyRobustError, match=r"Expected a result of always\. Received: .* ended by SIGKILL") as caught:
        executor.submit(task, _SMALL).result(60)
    assert "fewer jobs" in str(caught.value.hint)
    assert len(set((tmp_path / "tries").read_text().splitlines())) == 3


def test_what_is_not_done_when_the_block_ends_is_cancelled(kind: str, tasks: ModuleType, tmp_path: Path) -> None:
    with start(1, kind=kind) as executor:
        count = tmp_path / "tries"
        futures = [executor.submit(tasks.Trouble(name=f"task{n}", how="endless", count=count), _SMALL) for n in range(2)]
        _wait_for(count.exists)
    for future in futures:
        with pytest.raises(CancelledError):
            future.result(0)
    _wait_for(lambda: not _alive(int(count.read_text())))


def test_workers_end_when_their_parent_is_killed(kind: str, tasks: ModuleType, tmp_path: Path) -> None:
    assert tasks
    count = tmp_path / "tries"
    parent = subprocess.Popen([sys.executable, "-c", _PARENT, kind, count], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "begun\n"
        worker = int(count.read_text())
        assert _alive(worker)
    finally:
        parent.kill()
        parent.communicate()
    _wait_for(lambda: not _alive(worker))


def test_what_no_worker_can_have_is_refused(executor: Executor, tasks: ModuleType) -> None:
    with pytest.raises(TinyRobustError, match=r"Expected a task that fits .* Received: square, which needs"):
        executor.submit(tasks.Square(name="square", number=1), Resources(cores=10_000))


def test_an_unknown_executor_names_the_nearest() -> None:
    with pytest.raises(TinyRobustError, match=r"There is no executor 'lokal'\. Did you mean 'local'"):
        start(1, kind="lokal")


def _alive(process: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
