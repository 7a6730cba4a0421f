"""Sandboxes: processes of their own in which model files run, so that a file that crashes its interpreter ends only these.

A trial run beforehand would not do: an operator can go wrong on the values of a later input. So every file, ours too, runs
in a sandbox for as long as it is used. See `sandbox_worker.py` for what a sandbox is.
"""

import atexit
import functools
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
import numpy.typing as npt

from tinyrobust.deploy.sandbox_worker import Answer, Body, Detail, Request, receive, send
from tinyrobust.errors import MissingToolError, ModelFileError
from tinyrobust.execution import processor

Array = npt.NDArray[np.generic]
Runtime = Literal["litert", "tflm"]

# The package of a runtime, and the line that mends it.
_PACKAGES: dict[Runtime, tuple[str, str]] = {
    "litert": ("ai-edge-litert", "pip install --force-reinstall ai-edge-litert"),
    "tflm": ("tflite-micro", "pip install --force-reinstall 'tinyrobust[mcu]'"),
}
_IMPORT = 300  # seconds that the import of a runtime may take
_CHUNK = 2**19  # bytes of inputs, or of answers, that a sandbox gets or gives at a time: it holds few of them
_WORTH = 0.005  # seconds of work that are worth a process of their own
_MOST = 2**28  # bytes of an answer
_TICK = 10  # seconds between two looks at whether an answer is there
_BUSY = 20  # seconds on the clock for one of the processor's time: machines are busy


@dataclass(frozen=True)
class Limits:
    """What a file may cost.

    Attributes:
        seconds: Of the processor's time, for opening it and for each image. Microcontroller networks take milliseconds.
        memory: Bytes beyond those of an interpreter without a file. Sixteen times the largest file that is read.
    """

    seconds: float = 10.0
    memory: int = 2**29


class Refused(Exception):  # noqa: N818 - what the caller turns into an error that names the file
    """Why a file cannot be run."""


class Sandbox:
    """A process that runs one file; it ends with this object.

    Args:
        runtime: "litert", or "tflm" for TensorFlow Lite Micro.
        content: The bytes of the file.
        limits: Of the process.
        arena: Bytes of the tensor arena of TensorFlow Lite Micro; LiteRT has none.
        ends: How many inputs and outputs of the file TensorFlow Lite Micro is given and asked for.

    Attributes:
        inputs: What the runtime says of the file's inputs; nothing for TensorFlow Lite Micro.
        outputs: Likewise of its outputs.

    Raises:
        Refused: The runtime does not take the file, or does not survive it.
        MissingToolError: The runtime cannot be imported.
    """

    def __init__(
        self, runtime: Runtime, content: bytes, limits: Limits, *, arena: int = 0, ends: tuple[int, int] = (1, 1)
    ) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        try:
            self._line = _fork_server(runtime).sandbox()
        except OSError as error:
            raise Refused(f"no process can be started for it ({error})") from error
        weakref.finalize(self, self._line.close)
        self._answered = select.poll()
        self._answered.register(self._line, select.POLLIN)
        request = Request(seconds=limits.seconds, memory=limits.memory, arena=arena, inputs=ends[0], outputs=ends[1])
        answer, _ = self._ask(request, content, 1)
        self.inputs: list[Detail] = answer.get("inputs", [])
        self.outputs: list[Detail] = answer.get("outputs", [])

    def run(self, inputs: Array, tensors: Sequence[int] = (), *, size: int = 1, inner: bool = False) -> Iterator[bytes]:
        """What the file answers, as raw bytes, some inputs at a time.

        Args:
            inputs: Raw inputs [n, ...] in the type that the file reads.
            tensors: Indices of the tensors to give, one after the other for each input (TensorFlow Lite Micro: its output).
            size: Bytes of an answer.
            inner: Whether they are not all outputs.

        Raises:
            Refused: The file cannot be run on these, or the process did not survive it.
        """
        step = max(1, _CHUNK // max(size, inputs[:1].nbytes, 1))
        for start in range(0, len(inputs), step):
            part = np.ascontiguousarray(inputs[start : start + step])
            request = Request(n=len(part), tensors=[int(index) for index in tensors], inner=inner)
            yield bytes(self._ask(request, part.data, len(part))[1])

    def _ask(self, request: Request, body: Body, images: int) -> tuple[Answer, bytearray]:
        with self._lock:
            try:
                send(self._line, request, body)
                self._wait(images)
                header, outputs = receive(self._line, _MOST)
                answer = cast("Answer", header)
            except (OSError, EOFError, ValueError) as error:
                answer, outputs = self._last_answer(error), bytearray()
            except BaseException:  # Ctrl-C: the answer to this would be taken for that to the next
                self._line.close()
                raise
        if "ended" in answer:
            self._line.close()
            raise Refused(self._why(int(answer["ended"])))
        if "error" in answer:
            raise Refused(str(answer["error"]))
        return answer, outputs

    def _wait(self, images: int) -> None:
        """Waits for an answer, longer than the kernel lets a sandbox compute: a damaged process may stand still.

        Looks are counted, not the time between them: this process may have been stopped in between, and the sandbox with it.
        """
        for _ in range(1 + int((images + 1) * _BUSY * self._limits.seconds / _TICK)):
            if self._answered.poll(1000 * _TICK):
                return
        raise EOFError("it stands still")

    def _last_answer(self, error: Exception) -> Answer:
        """What the supervisor reported, when the sandbox ended before it had read all."""
        try:
            self._line.settimeout(_TICK)
            return cast("Answer", receive(self._line, 0)[0])
        except (OSError, EOFError, ValueError):
            self._line.close()
            return {"error": f"its process does not answer ({error or type(error).__name__})"}

    def _why(self, status: int) -> str:
        if status in (-signal.SIGPROF, -signal.SIGALRM):
            return f"it takes more than {self._limits.seconds:g} s of processor time for one image"
        if status == -signal.SIGKILL:
            return "its process was killed from outside: by a user, or by a system that had no memory left"
        if status == -signal.SIGABRT:
            return f"it aborts the interpreter, for example because it wants more than {self._limits.memory >> 20} MiB"
        return f"it crashes the interpreter ({signal.Signals(-status).name if status < 0 else f'status {status}'})"


class Sandboxes:
    """As many sandboxes of one file as there are cores, for many inputs at a time; the first is there from the beginning.

    An answer depends on its input only, so it does not matter which of them gives it.

    Arguments, attributes and errors are those of a `Sandbox`; `limits` are those of each process.
    """

    def __init__(
        self, runtime: Runtime, content: bytes, limits: Limits, *, arena: int = 0, ends: tuple[int, int] = (1, 1)
    ) -> None:
        self._another = functools.partial(Sandbox, runtime, content, limits, arena=arena, ends=ends)
        self._sandboxes = [self._another()]
        self.inputs, self.outputs = self._sandboxes[0].inputs, self._sandboxes[0].outputs
        self._pace = 0.0  # seconds an input took last time

    def run(self, inputs: Array, tensors: Sequence[int] = (), *, size: int = 1, inner: bool = False) -> Iterator[bytes]:
        """The answers to all inputs, in their order; arguments and errors as of `Sandbox.run`."""
        count = max(1, min(len(processor.cores()), len(inputs), int(len(inputs) * self._pace / _WORTH)))
        self._sandboxes += [self._another() for _ in range(count - len(self._sandboxes))]

        def answers(sandbox: Sandbox, part: Array) -> bytes:
            return b"".join(sandbox.run(part, tensors, size=size, inner=inner))

        began = time.perf_counter()
        if count == 1:
            yield from self._sandboxes[0].run(inputs, tensors, size=size, inner=inner)
        else:
            with ThreadPoolExecutor(count) as threads:
                yield from threads.map(answers, self._sandboxes, np.array_split(inputs, count))
        self._pace = (time.perf_counter() - began) * count / max(1, len(inputs))


class _ForkServer:
    """The process that sandboxes are forked from; it ends when this one does, however that comes about."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._lock = threading.Lock()
        self._failure: str | None = None  # None before it is known
        self._control, theirs = socket.socketpair()
        worker = Path(__file__).with_name("sandbox_worker.py")
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own script
                # -P: the script's folder holds modules of ours that must not stand in for others.
                [sys.executable, "-P", str(worker), str(theirs.fileno()), runtime],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # where interpreters say what they also raise
                # A process with threads must not be forked.
                env={**os.environ, **dict.fromkeys(processor.THREADS, "1")},
            )
        atexit.register(self._end)

    @property
    def usable(self) -> bool:
        """Whether it would answer: not after it was killed. When its import failed, that of another would fail too."""
        return bool(self._failure) or self._process.poll() is None

    @property
    def failure(self) -> str:
        """Why the runtime cannot be imported; empty when it can."""
        with self._lock:
            if self._failure is None:
                self._failure = self._imported()
        return self._failure

    def sandbox(self) -> socket.socket:
        """A line to a new sandbox.

        Raises:
            MissingToolError: The runtime cannot be imported.
        """
        if self.failure:
            package, repair = _PACKAGES[self._runtime]
            raise MissingToolError(f"Expected a package {package} that works. Received: {self.failure}", hint=f"{repair}.")
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._control, [b"s"], [theirs.fileno()])
        return ours

    def _imported(self) -> str:
        """Waits for the first message: why the runtime cannot be imported, empty when it can."""
        try:
            self._control.settimeout(_IMPORT)
            failure = cast("Answer", receive(self._control, 0)[0]).get("error", "")
            self._control.settimeout(None)
        except TimeoutError:
            self._process.kill()
            return f"its import takes more than {_IMPORT} s"
        except (OSError, EOFError, ValueError):
            return f"its import ends the process (status {self._process.wait()})"
        return f"its import fails ({failure})" if failure else ""

    def _end(self) -> None:
        self._control.close()
        self._process.wait()


_LOCK = threading.Lock()


def import_failure(runtime: Runtime) -> str:
    """Why a runtime cannot be imported; empty when it can."""
    return _fork_server(runtime).failure


def _fork_server(runtime: Runtime) -> _ForkServer:
    with _LOCK:
        server = _started(runtime)
        if not server.usable:
            _started.cache_clear()
            server = _started(runtime)
        return server


@functools.cache
def _started(runtime: Runtime) -> _ForkServer:
    return _ForkServer(runtime)


def refusal(path: Path | str, what: str, error: Refused) -> ModelFileError:
    """The error that names the file."""
    reason = " ".join(str(error).split()).rstrip(".")
    return ModelFileError(
        f"{path} cannot be run by {what}: {reason}.", hint="Export the model again from its source. What was finished is kept."
    )
