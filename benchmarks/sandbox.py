"""What it costs that files run in processes of their own: images in this process, in one sandbox, in one a core.

`python benchmarks/sandbox.py FILE.tflite ...`; the three are timed in turn, batch by batch, and of each the fastest counts:
other programs only ever make it slower.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.deploy.sandbox import Limits, Sandbox

Array = npt.NDArray[np.generic]
Run = Callable[[Array], Array | bytes]

_SECONDS = 4  # for each row
_BATCHES = (1, 64, 1000)


def main(paths: list[str]) -> None:
    titles = ("file", "batch", "here, ms an image", "one sandbox", "all cores", "here / one", "here / all")
    print("{:<28}{:>6}{:>20}{:>12}{:>12}{:>12}{:>12}".format(*titles))
    for path in map(Path, paths):
        model = Int8Model(path)
        low, high = model.input_range or (0, 1)
        inputs = np.random.default_rng(0).uniform(low, high, (max(_BATCHES), *model.input_shape))
        quantized = model.quantized(inputs.astype(np.float32))
        here, one = _here(path), _alone(path)
        np.testing.assert_array_equal(here(quantized[:64]), model.run(quantized[:64]))
        for batch in _BATCHES:
            rounds, began = [], time.perf_counter()
            while time.perf_counter() - began < _SECONDS:
                rounds.append([_seconds(run, quantized[:batch]) for run in (here, one, model.run)])
            fastest = [1000 / batch * min(column) for column in zip(*rounds, strict=True)]
            times = f"{fastest[0]:>20.4f}{fastest[1]:>12.4f}{fastest[2]:>12.4f}"
            print(f"{path.stem[:27]:<28}{batch:>6}{times}{fastest[0] / fastest[1]:>12.3f}{fastest[0] / fastest[2]:>12.3f}")


def _alone(path: Path) -> Run:
    """The interpreter in one sandbox."""
    sandbox = Sandbox("litert", path.read_bytes(), Limits())
    return lambda quantized: b"".join(sandbox.run(quantized, [sandbox.outputs[0]["index"]]))


def _here(path: Path) -> Run:
    """The interpreter in this process."""
    resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_path=str(path), num_threads=1, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    source, sink = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]

    def run(quantized: Array) -> Array:
        outputs = np.empty((len(quantized), sink["shape"][-1]), sink["dtype"])
        for index in range(len(quantized)):
            interpreter.set_tensor(source, quantized[index : index + 1])
            interpreter.invoke()
            outputs[index] = interpreter.get_tensor(sink["index"]).reshape(-1)
        return outputs

    return run


def _seconds(run: Run, batch: Array) -> float:
    began = time.perf_counter()
    run(batch)
    return time.perf_counter() - began


if __name__ == "__main__":
    main(sys.argv[1:])
