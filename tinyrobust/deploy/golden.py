"""The golden: what real TensorFlow Lite Micro kernels say, from the `tflite-micro` wheel.

The fast interpreter differs from it in places, by steps of the output and now and then by the class. The wheel exists for
Linux x86-64 only (`pip install tinyrobust[mcu]`) and is slow, so it judges what counts and nothing else.
"""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyrobust.deploy import artefact
from tinyrobust.errors import MissingToolError, ModelFileError

Array = npt.NDArray[Any]

_ARENA = 2**24  # bytes for activations: more than any microcontroller has


def installed() -> bool:
    """Whether the `tflite-micro` wheel is there."""
    return importlib.util.find_spec("tflite_micro") is not None


class Golden:
    """A `.tflite` file in TensorFlow Lite Micro's own interpreter.

    Args:
        path: The file.

    Raises:
        MissingToolError: The wheel is not installed.
        ModelFileError: The file cannot be read, or holds what TensorFlow Lite Micro does not take.
    """

    def __init__(self, path: Path) -> None:
        if not installed():
            raise MissingToolError(
                "Expected the tflite-micro wheel. Received: it is not installed.",
                hint="pip install 'tinyrobust[mcu]' (Linux x86-64).",
            )
        from tflite_micro.python.tflite_micro import runtime

        file = artefact.read(path)
        try:
            self._interpreter = runtime.Interpreter.from_bytes(file.content, arena_size=_ARENA)
        except (RuntimeError, ValueError) as error:
            raise ModelFileError(f"{path} cannot be run by TensorFlow Lite Micro: {error}") from error

    def run(self, quantized: Array) -> Array:
        """Raw outputs [n, classes], in the file's output type, for inputs [n, ...] in the file's input type."""
        rows = []
        for image in quantized[:, np.newaxis]:
            self._interpreter.set_input(image, 0)
            self._interpreter.invoke()
            rows.append(self._interpreter.get_output(0).reshape(-1))
        return np.stack(rows)
