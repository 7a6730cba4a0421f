"""Runs model files in processes of their own: a file that crashes an interpreter, hangs it or eats memory ends only these.

A script, started by `tinyrobust.deploy.cell` with a socket and the name of a runtime. It loads the runtime once and then forks
a *cell* for every file that it is asked to run: some milliseconds each, and nothing that one file does to its process is there
for the next. A cell is limited in memory and, image by image, in time; the kernel ends it, whatever state it is in. Between a
cell and the nursery stands a keeper, which tells how the cell ended.

This bounds crashes and costs. It is no sandbox against a file that takes over the interpreter's process.
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
from collections.abc import Callable
from typing import Any

import numpy as np

_HEAD = struct.Struct("<IQ")  # bytes of the header, bytes of the body
_MOST_HEADER = 2**20


def send(line: socket.socket, header: dict[str, Any], body: Any = b"") -> None:
    """One message: a header in JSON, and bytes (anything with a buffer)."""
    text, view = json.dumps(header).encode(), memoryview(body)
    view = view.cast("B") if view.nbytes else memoryview(b"")  # what is empty cannot be cast
    line.sendall(_HEAD.pack(len(text), len(view)) + text)
    line.sendall(view)


def receive(line: socket.socket, most: int) -> tuple[dict[str, Any], bytearray]:
    """The next message, with a body of at most `most` bytes.

    Raises:
        EOFError: Nobody is there any more.
        ValueError: It is no message, or longer.
    """
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
    """The interpreter without delegates; a second one that keeps all tensors is made where one is asked about."""

    def __init__(self) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        self._make, self._resolver = Interpreter, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        self._interpreters: dict[bool, Any] = {}
        self._content = b""

    def open(self, header: dict[str, Any], content: bytes) -> dict[str, Any]:  # noqa: ARG002 - another runtime wants it
        self._content = content
        interpreter = self._interpreter(False)
        details = {"inputs": interpreter.get_input_details(), "outputs": interpreter.get_output_details()}
        return {name: [_described(one) for one in found] for name, found in details.items()}

    def run(self, header: dict[str, Any], inputs: bytearray, arm: Callable[[], None]) -> bytes:
        arm()
        interpreter = self._interpreter(header["inner"])
        source = interpreter.get_input_details()[0]
        rows = np.frombuffer(inputs, dtype=source["dtype"]).reshape(header["n"], *source["shape"])
        found = []
        for row in rows:
            arm()
            interpreter.set_tensor(source["index"], row)
            interpreter.invoke()
            found += [interpreter.get_tensor(index).tobytes() for index in header["tensors"]]
        return b"".join(found)

    def _interpreter(self, keep_all: bool) -> Any:
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
    """TensorFlow Lite Micro's interpreter, in an arena of the size that it is told."""

    def __init__(self) -> None:
        from tflite_micro import runtime

        self._make = runtime.Interpreter.from_bytes
        self._interpreter: Any = None

    def open(self, header: dict[str, Any], content: bytes) -> dict[str, Any]:
        self._interpreter = self._make(content, arena_size=header["arena"])
        return {}

    def run(self, header: dict[str, Any], inputs: bytearray, arm: Callable[[], None]) -> bytes:
        details, found = self._interpreter.get_input_details(0), []
        for row in np.frombuffer(inputs, np.int8).reshape(header["n"], -1):
            arm()
            self._interpreter.set_input(row.view(details["dtype"]).reshape(details["shape"]), 0)
            self._interpreter.invoke()
            found.append(self._interpreter.get_output(0).tobytes())
        return b"".join(found)


_RUNTIMES: dict[str, Callable[[], Any]] = {"litert": _LiteRT, "tflm": _Tflm}


def _described(detail: dict[str, Any]) -> dict[str, Any]:
    scale, zero = detail["quantization"]
    return {
        "index": int(detail["index"]),
        "shape": [int(size) for size in detail["shape"]],
        "dtype": np.dtype(detail["dtype"]).name,
        "scale": float(scale),
        "zero_point": int(zero),
    }


def _limit(memory: int) -> None:
    """At most `memory` bytes more than now, no file written, no memory image left behind."""
    # Where the system has no such limit, those of time are left.
    with contextlib.suppress(OSError, ValueError):
        with open("/proc/self/statm", encoding="ascii") as pages:  # noqa: PTH123 - a path object would import what is not needed
            most = int(pages.read().split()[0]) * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _serve(line: socket.socket, runtime: Any) -> None:
    """Answers until nobody asks any more. The first message opens the file and says the limits; the others run it."""
    seconds = 0.0

    def arm(share: float = 1.0) -> None:
        # Of the processor's time: machines are busy, and a program that was stopped for a night may go on.
        signal.setitimer(signal.ITIMER_PROF, share * seconds)

    while True:
        try:
            header, body = receive(line, sys.maxsize)
        except EOFError:
            return
        answer, found = {}, b""
        try:
            if "seconds" in header:
                seconds = header["seconds"]
                _limit(header["memory"])
                arm()
                answer = runtime.open(header, bytes(body))
            else:
                found = runtime.run(header, body, arm)
        except MemoryError:
            answer = {"error": "it asks for more memory than it may have"}
        except Exception as error:  # whatever the interpreter says of the file
            answer = {"error": f"{error}"[:1000] or "it gives up without a reason, as it does where memory runs out"}
        arm(0.0)
        send(line, answer, found)


def _keep(line: socket.socket, runtime: Any) -> None:
    """Starts the cell, ends it when nobody waits for it any more, and tells how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    alive, life = os.pipe()  # the cell alone holds the other end, until it ends
    cell = os.fork()
    if not cell:
        os.close(alive)
        _serve(line, runtime)
        return
    os.close(life)
    looked_at = select.poll()
    looked_at.register(line, 0)  # whether it was hung up; what is said is for the cell
    looked_at.register(alive, select.POLLIN)
    if alive not in dict(looked_at.poll()):
        os.kill(cell, signal.SIGKILL)
    _, status = os.waitpid(cell, 0)
    with contextlib.suppress(OSError):
        send(line, {"ended": os.waitstatus_to_exitcode(status)})


def main(descriptor: str, name: str) -> None:
    """The nursery: forks a keeper and a cell for every socket that comes along; ends when nobody is left to send one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program that waits for the answer
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers are not waited for
    runtime = _RUNTIMES[name]()
    control = socket.socket(fileno=int(descriptor))
    while True:
        _, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not descriptors:
            return
        with socket.socket(fileno=descriptors[0]) as line:
            if os.fork():
                continue
            control.close()
            try:
                _keep(line, runtime)
            finally:
                # Not sys.exit: nothing of what the nursery would do at its end is meant for its children.
                os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
