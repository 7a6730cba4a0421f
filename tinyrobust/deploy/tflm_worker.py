"""Runs TensorFlow Lite Micro in a process of its own: near the limit of its arena it may take its process with it.

A script, started by `tinyrobust.deploy.tflm` with four arguments: the model, the bytes of the arena, a .npy file of raw inputs
[n, bytes], and the .npy file of raw outputs to write.
"""

import sys
from pathlib import Path

import numpy as np
from tflite_micro import runtime


def main(model: str, arena: str, inputs: str, outputs: str) -> None:
    """Writes what the model answers."""
    interpreter = runtime.Interpreter.from_bytes(Path(model).read_bytes(), arena_size=int(arena))
    details = interpreter.get_input_details(0)
    answers = []
    for row in np.load(inputs, allow_pickle=False):
        interpreter.set_input(row.view(details["dtype"]).reshape(details["shape"]), 0)
        interpreter.invoke()
        answers.append(interpreter.get_output(0).reshape(-1).view(np.int8))
    np.save(outputs, np.stack(answers))


if __name__ == "__main__":
    main(*sys.argv[1:])
