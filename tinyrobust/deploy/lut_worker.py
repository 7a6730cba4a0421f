"""Compresses a `.tflite` with tflite-micro in a process of its own: its libraries stay out of ours.

A script, started by `tinyrobust.deploy.lut` with three arguments: the model, what to compress as JSON, and the file to write.
"""

import json
import sys
from pathlib import Path

from tflite_micro import compression

spec = compression.spec


def main(model: str, wanted: str, output: str) -> None:
    """Writes the compressed model."""
    tensors = []
    for one in json.loads(wanted):
        mode = spec.PerTensor() if one["axis"] is None else spec.PerChannel(axis=one["axis"])
        tensors.append(spec.Tensor(0, one["tensor"], [spec.LookUpTableCompression(one["bits"], mode)]))
    Path(output).write_bytes(compression.compress(Path(model).read_bytes(), tensors))


if __name__ == "__main__":
    main(*sys.argv[1:])
