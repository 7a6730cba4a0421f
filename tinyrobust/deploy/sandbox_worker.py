"""Runs model files in processes of their own: a file that crashes an interpreter, hangs it or eats memory ends only these.

A script, started by `tinyrobust.deploy.sandbox` with a socket and the name of a runtime: the *fork server*. It imports the
runtime once and then forks a *sandbox* for every file that it is asked to run: some milliseconds each, and nothing that one
file does to its process is there for the next. A sandbox is limited in memory and, image by image, in time; the kernel ends it,
whatever state it is in. Between a sandbox and the fork server stands a *supervisor*, which reports how the sandbox ended.

This bounds crashes and costs. It does not confine a file that takes over the interpreter's process: that has the user's rights.
"""

import contextlib
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, cast

import numpy as np

if TYPE_CHECKING:
    from ai_edge_litert.interpreter import Interpreter

Body = bytes | bytearray | memoryview

_HEAD = struct.Struct("<IQ")  # bytes of the header, bytes of the body
_MOST_HEADER = 2**20


class Request(TypedDict, total=False):
    """The header of a message to a sandbox. The first opens a file, its body; the others run it on the inputs in theirs."""

    seconds: float  # of processor time, for opening the file and for each input
    memory: int  # bytes beyond those that the process has
    arena: int  # bytes of TensorFlow Lite Micro's
    inputs: int  # how many of them one row of its raw inputs holds, one after the other
    outputs: int
    n: int  # inputs
    tensors: list[int]  # indices of those that are answered, one after the other for each input
    inner: bool  # whether they are not all outputs


class Detail(TypedDict):
    """What the runtime says of one input or output of a file."""

    index: int
    shape: list[int]
    dtype: str
    scale: float
    zero_point: int


class Answer(TypedDict, total=False):
    """The header of a message from the fork server, a sandbox or its supervisor."""

    inputs: list[Detail]  # of a file that was opened
    outputs: list[Detail]
    error: str  # why the file cannot be run; from the fork server: why the runtime cannot be imported
    ended: int  # from the supervisor: the exit status of the sandbox, negative for a signal


class Runtime(Protocol):
    """What runs a file."""

    def open(self, request: Request, content: bytes) -> Answer:
        """Opens a file."""

    def run(self, request: Request, inputs: bytearray, arm: Callable[[], None]) -> bytes:
        """The answers to some inputs; `arm` restarts the clock before each."""


def send(line: socket.socket, header: Mapping[str, object], body: Body = b"") -> None:
    """One message: a header in JSON, and bytes: of arrays, `array.data`."""
    text, view = json.dumps(header).encode(), memoryview(body)
    view = view.cast("B") if view.nbytes else memoryview(b"")  # what is empty cannot be cast
    line.sendall(_HEAD.pack(len(text), len(view)) + text)
    line.sendall(view)


def receive(line: socket.socket, most: int) -> tuple[dict[str, object], bytearray]:
    """The next message, with a body of at most `most` bytes; EOFError where there is none, ValueError where it is longer."""
    header_size, size = _HEAD.unpack(_exactly(line, _HEAD.size))
    if header_size > _MOST_HEADER or size > most:
        raise ValueError(f"Expected at most {most} bytes. Received: {size}")
    header = json.loads(_exactly(line, header_size))
    if not isinstance(header, dict):
        raise ValueError(f"Expected a header. Received: {header!r:.100}")  # noqa: TRY004 - it is no argument
    return header, _exactly(line, size)


def _exactly(line: socket.socket, size: int) -> bytearray:
    buffer = bytearray(size)
    view = memoryview(buffer)
    while view:
        count = line.recv_into(view)
        if not count:
            raise EOFError
        view = view[count:]
    return buffer


class _LiteRT:
    """The interpreter without delegates; a second one that keeps all tensors is made where an inner tensor is asked for."""

    def __init__(self) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        self._make, self._resolver = Interpreter, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        self._interpreters: dict[bool, Interpreter] = {}
        self._content = b""

    def open(self, request: Request, content: bytes) -> Answer:  # noqa: ARG002 - another runtime wants it
        self._content = content
        interpreter = self._interpreter(False)
        details = interpreter.get_input_details(), interpreter.get_output_details()
        inputs, outputs = ([_described(one) for one in ends] for ends in details)
        return {"inputs": inputs, "outputs": outputs}

    def run(self, request: Request, inputs: bytearray, arm: Callable[[], None]) -> bytes:
        arm()
        interpreter = self._interpreter(request["inner"])
        source = interpreter.get_input_details()[0]
        rows = np.frombuffer(inputs, dtype=source["dtype"]).reshape(request["n"], *source["shape"])
        answers = []
        for row in rows:
            arm()
            interpreter.set_tensor(source["index"], row)
            interpreter.invoke()
            answers += [interpreter.get_tensor(index).tobytes() for index in request["tensors"]]
        return b"".join(answers)

    def _interpreter(self, keep_all: bool) -> "Interpreter":
        if keep_all not in self._interpreters:
            # One thread: results do not depend on the machine, and several evaluations can run side by side.
            interpreter = self._make(
                model_content=self._content,
                num_threads=1,
                experimental_op_resolver_type=self._resolver,
                experimental_preserve_all_tensors=keep_all,
            )
            interpreter.allocate_tensors()
            self._interpreters[keep_all] = interpreter
        return self._interpreters[keep_all]


class _Tflm:
    """TensorFlow Lite Micro's interpreter, in an arena of the requested size. What it prints tells why it gives up."""

    def __init__(self) -> None:
        from tflite_micro import runtime

        self._make = runtime.Interpreter.from_bytes

    def open(self, request: Request, content: bytes) -> Answer:
        self._printed, ours = os.pipe2(os.O_NONBLOCK)
        os.dup2(ours, 2)
        with self._explained():
            self._interpreter = self._make(content, arena_size=request["arena"])
            found = [self._interpreter.get_input_details(place) for place in range(request["inputs"])]
        self._types = [np.dtype((detail["dtype"], tuple(detail["shape"]))) for detail in found]
        self._outputs = range(request["outputs"])
        return {}

    def run(self, request: Request, inputs: bytearray, arm: Callable[[], None]) -> bytes:
        ends, answers = np.cumsum([kind.itemsize for kind in self._types]), []
        for row in np.frombuffer(inputs, np.int8).reshape(request["n"], -1):
            arm()
            with self._explained():
                for place, (part, kind) in enumerate(zip(np.split(row, ends[:-1]), self._types, strict=True)):
                    self._interpreter.set_input(part.view(kind.base).reshape(kind.shape), place)
                self._interpreter.invoke()
            answers += [self._interpreter.get_output(place).tobytes() for place in self._outputs]
        return b"".join(answers)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            with contextlib.suppress(OSError):  # nothing was printed
                raise RuntimeError(f"{os.read(self._printed, 1000).decode(errors='replace')} ({error})") from error
            raise


_RUNTIMES: dict[str, Callable[[], Runtime]] = {"litert": _LiteRT, "tflm": _Tflm}


def _described(detail: Mapping[str, Any]) -> Detail:
    scale, zero = detail["quantization"]
    shape, kind = [int(size) for size in detail["shape"]], np.dtype(detail["dtype"]).name
    return Detail(index=int(detail["index"]), shape=shape, dtype=kind, scale=float(scale), zero_point=int(zero))


def _limit(memory: int) -> None:
    """At most `memory` bytes more than now, no file written, no memory image left behind."""
    # Where the system has no such limit, those of time are left.
    with contextlib.suppress(OSError, ValueError):
        with open("/proc/self/statm", encoding="ascii") as pages:  # noqa: PTH123 - a path object would import what is not needed
            most = int(pages.read().split()[0]) * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _serve(line: socket.socket, runtime: Runtime) -> None:
    """The sandbox: answers until the line is closed."""
    seconds = 0.0

    def arm(share: float = 1.0) -> None:
        # Of the processor's time: machines are busy, and a program that was stopped for a night may go on.
        signal.setitimer(signal.ITIMER_PROF, share * seconds)

    while True:
        try:
            header, body = receive(line, sys.maxsize)
        except EOFError:
            return
        request = cast("Request", header)
        answer, outputs = Answer(), b""
        try:
            if "seconds" in request:
                seconds = request["seconds"]
                _limit(request["memory"])
                arm()
                answer = runtime.open(request, bytes(body))
            else:
                outputs = runtime.run(request, body, arm)
        except MemoryError:
            answer = {"error": "it asks for more memory than it may have"}
        except Exception as error:  # whatever the interpreter says of the file
            answer = {"error": f"{error}"[:1000] or "it gives up without a reason, as it does where memory runs out"}
        arm(0.0)
        send(line, answer, outputs)


def _supervise(line: socket.socket, runtime: Runtime) -> None:
    """Starts the sandbox, ends it when the line is closed, and reports how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    alive, life = os.pipe()  # the sandbox alone holds the other end, until it ends
    sandbox = os.fork()
    if not sandbox:
        os.close(alive)
        _serve(line, runtime)
        return
    os.close(life)
    watched = select.poll()
    watched.register(line, 0)  # only whether it was hung up: requests are for the sandbox
    watched.register(alive, select.POLLIN)
    if alive not in dict(watched.poll()):
        os.kill(sandbox, signal.SIGKILL)
    _, status = os.waitpid(sandbox, 0)
    with contextlib.suppress(OSError):
        send(line, Answer(ended=os.waitstatus_to_exitcode(status)))


def _reason(error: Exception) -> str:
    """What an import raised, in a line, and in which module."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    module = trace.tb_frame.f_globals.get("__name__", "?") if trace is not None else "?"
    return f"{type(error).__name__} in {module}: {' '.join(str(error).split())[:500]}"


def main(descriptor: str, name: str) -> None:
    """The fork server: says whether the runtime can be imported, then forks a supervisor and a sandbox for every socket.

    It ends when the process that started it does.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program that waits for the answer
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # supervisors are not waited for
    control = socket.socket(fileno=int(descriptor))
    try:
        runtime = _RUNTIMES[name]()
    except Exception as error:  # an import runs anybody's code: it may raise anything
        send(control, Answer(error=_reason(error)))
        return
    send(control, Answer())
    while True:
        _, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not descriptors:
            return
        with socket.socket(fileno=descriptors[0]) as line:
            if os.fork():
                continue
            control.close()
            try:
                _supervise(line, runtime)
            finally:
                # Not sys.exit: nothing of what the fork server would do at its end is meant for its children.
                os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
