"""Small `.tflite` files made by code, the golden's answers, and the generated C built with sanitizers."""

import itertools
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tinyrobust.deploy.artefact import read
from tinyrobust.deploy.cgen.generate import Generated, generate
from tinyrobust.deploy.cgen.memory import Buffer, Overlap, plan

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror")

_OPTIONS = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "SOFTMAX": "SoftmaxOptions",
    "CONCATENATION": "ConcatenationOptions",
    "ADD": "AddOptions",
    "MUL": "MulOptions",
    "MEAN": "ReducerOptions",
    "RESHAPE": "ReshapeOptions",
    "PAD": "PadOptions",
    "TRANSPOSE": "TransposeOptions",
}
_TYPES = {"int8": schema.TensorType.INT8, "int32": schema.TensorType.INT32, "float32": schema.TensorType.FLOAT32}


class Graph:
    """A `.tflite` under construction. Tensors are named by their index."""

    def __init__(self) -> None:
        self._graph = schema.SubGraphT()
        self._graph.tensors, self._graph.operators = [], []
        self._buffers = [schema.BufferT()]
        self._codes: list[str] = []
        self.shapes: list[tuple[int, ...]] = []
        self.grids: list[tuple[float, int]] = []

    def tensor(
        self, shape: Sequence[int], scale: Any = (), zero: Any = 0, data: Any = None, *, dtype: str = "int8", axis: int = 0
    ) -> int:
        """Adds a tensor; constant where it has data; one scale, several along `axis`, or none."""
        tensor, scales = schema.TensorT(), np.atleast_1d(np.array(scale, np.float32))
        tensor.shape, tensor.type, tensor.name = list(shape), _TYPES[dtype], f"t{len(self.shapes)}".encode()
        if scales.size:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = scales
            tensor.quantization.zeroPoint = np.full(scales.size, zero, np.int64)
            tensor.quantization.quantizedDimension = axis
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data, dtype).tobytes(), np.uint8)
            tensor.buffer = len(self._buffers)
            self._buffers.append(buffer)
        self._graph.tensors.append(tensor)
        self.shapes.append(tuple(shape))
        self.grids.append((float(scales[0]) if scales.size else 0.0, int(zero)))
        return len(self.shapes) - 1

    def rename(self, index: int, name: str) -> None:
        """Calls a tensor otherwise."""
        self._graph.tensors[index].name = name.encode()

    def op(self, name: str, inputs: Sequence[int], output: int, **options: Any) -> int:
        """Adds an operator; options by the schema's names in camel case."""
        operator = schema.OperatorT()
        if name not in self._codes:
            self._codes.append(name)
        operator.opcodeIndex = self._codes.index(name)
        operator.inputs, operator.outputs = list(inputs), [output]
        if name in _OPTIONS:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, _OPTIONS[name])
            operator.builtinOptions = getattr(schema, _OPTIONS[name] + "T")()
            for key, value in options.items():
                assert hasattr(operator.builtinOptions, key), key
                setattr(operator.builtinOptions, key, value)
        self._graph.operators.append(operator)
        return output

    def save(self, path: Path, source: int, result: int) -> Path:
        """Writes the file."""
        model = schema.ModelT()
        self._graph.inputs, self._graph.outputs = [source], [result]
        model.version, model.subgraphs, model.buffers = 3, [self._graph], self._buffers
        model.operatorCodes = []
        for name in self._codes:
            code = schema.OperatorCodeT()
            code.builtinCode = getattr(schema.BuiltinOperator, name)
            code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), 1
            model.operatorCodes.append(code)
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        path.write_bytes(builder.Output())
        return path


_GOLDEN = """
import sys
import numpy as np
from tflite_micro import runtime
for name in sys.argv[1:]:
    print(name, flush=True)
    interpreter = runtime.Interpreter.from_file(name + ".tflite", arena_size=4_000_000)
    answers = []
    for row in np.load(name + ".npy"):
        interpreter.set_input(row.reshape(interpreter.get_input_details(0)["shape"]), 0)
        interpreter.invoke()
        answers.append(interpreter.get_output(0).reshape(-1))
    np.save(name + ".golden.npy", np.stack(answers))
"""

_MAIN = """
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
{includes}
typedef struct {{
    int (*invoke)(const int8_t *, int8_t *, void *);
    size_t in_bytes, out_bytes, arena_bytes, offset;
}} model;
static const model models[] = {{
{models}
}};
/* For each model: how many inputs, then the inputs; answers with the outputs. The arena is exactly as large as it says; the
 * second half of the inputs lies inside it. */
int main(void)
{{
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {{
        const model *m = &models[i];
        int32_t count = 0;
        if (fread(&count, sizeof count, 1, stdin) != 1) return 1;
        for (int32_t k = 0; k < count; k++) {{
            int8_t *arena = malloc(m->arena_bytes), *in = malloc(m->in_bytes), *out = malloc(m->out_bytes);
            memset(arena, 0x55, m->arena_bytes);
            if (fread(in, 1, m->in_bytes, stdin) != m->in_bytes) return 2;
            const int inside = k >= count / 2;
            if (inside) memcpy(arena + m->offset, in, m->in_bytes);
            if (m->invoke(inside ? arena + m->offset : in, out, arena) != 0) return 3;
            fwrite(out, 1, m->out_bytes, stdout);
            free(arena); free(in); free(out);
        }}
    }}
    return 0;
}}
"""


def golden(models: Sequence[Path], inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """What TensorFlow Lite Micro answers, int8 [n, bytes] for each model; inputs the same."""
    for model, rows in zip(models, inputs, strict=True):
        np.save(model.with_suffix(".npy"), rows)
    names = [str(model.with_suffix("")) for model in models]
    result = subprocess.run([sys.executable, "-c", _GOLDEN, *names], capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{result.stdout[-200:]}: {result.stderr[-1000:]}"
    return [np.load(name + ".golden.npy") for name in names]


def answers(models: Sequence[Path], inputs: Sequence[np.ndarray], folder: Path, *flags: str) -> list[np.ndarray]:
    """What the generated C answers: all models in one program, built strictly with sanitizers."""
    made = [generate(read(model), f"m{i}", folder) for i, model in enumerate(models)]
    program = build(made, folder, *flags)
    stdin = b"".join(np.int32(len(rows)).tobytes() + rows.tobytes() for rows in inputs)
    result = subprocess.run([program], input=stdin, capture_output=True, check=False)
    assert result.returncode == 0, result.stderr.decode()[-3000:]
    found, position = [], 0
    for model, rows in zip(models, inputs, strict=True):
        artefact = read(model)
        size = artefact.tensors[artefact.outputs[0]].count
        end = position + size * len(rows)
        found.append(np.frombuffer(result.stdout[position:end], np.int8).reshape(len(rows), size))
        position = end
    return found


def build(made: Sequence[Generated], folder: Path, *flags: str) -> Path:
    """Compiles generated models and a main that feeds them."""
    includes = "\n".join(f'#include "{g.name}.h"' for g in made)
    lines = [
        "{{tr_{0}_invoke_in, TR_{1}_INPUT_BYTES, TR_{1}_OUTPUT_BYTES, TR_{1}_ARENA_BYTES, TR_{1}_INPUT_OFFSET}},".format(
            g.name, g.name.upper()
        )
        for g in made
    ]
    (folder / "main.c").write_text(_MAIN.format(includes=includes, models="\n".join(lines)))
    sources = sorted({path for g in made for path in g.files if path.suffix == ".c"})
    sanitizers = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    command = ["gcc", *STRICT, *sanitizers, "-O1", *flags, "-o", folder / "program", folder / "main.c", *sources]
    compiled = subprocess.run(command, capture_output=True, text=True, check=False)
    assert compiled.returncode == 0, compiled.stderr[-3000:]
    return folder / "program"


def _conflicts(buffers: Sequence[Buffer], overlaps: Iterable[Overlap], offsets: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs of buffers that are alive at once and overlap though they may not: a plan has none."""
    allowed = {(o.source, o.out): o.distance for o in overlaps}
    found = []
    for i, j in itertools.permutations(range(len(buffers)), 2):
        a, b = buffers[i], buffers[j]
        apart = a.last < b.first or b.last < a.first
        apart = apart or offsets[i] + a.size <= offsets[j] or offsets[j] + b.size <= offsets[i]
        for source, out in ((i, j), (j, i)):
            if (source, out) in allowed:
                distance = allowed[source, out]
                ahead = offsets[source] - offsets[out]
                apart = apart or (ahead == 0 if distance is None else ahead >= distance)
        if not apart and i < j:
            found.append((i, j))
    return found


def _smallest(buffers: Sequence[Buffer], overlaps: Sequence[Overlap]) -> int:
    """The smallest plan there is, by trying every place of every buffer below the size that is known to do."""
    best = plan(buffers, overlaps).size
    tops = [range(0, best - b.size + 1, 4) for b in buffers]

    def search(offsets: tuple[int, ...], limit: int) -> int:
        i = len(offsets)
        used = max((o + b.size for o, b in zip(offsets, buffers, strict=False)), default=0)
        if used >= limit or i == len(buffers):
            return min(used, limit)
        for start in tops[i]:
            placed = (*offsets, start)
            if start + buffers[i].size < limit and not _conflicts(
                buffers[: i + 1], [o for o in overlaps if max(o.source, o.out) <= i], placed
            ):
                limit = search(placed, limit)
        return limit

    return search((), best)


@pytest.fixture(scope="session")
def conflicts() -> Callable[..., list[tuple[int, int]]]:
    """`conflicts(buffers, overlaps, offsets)`: pairs of buffers that overlap though they may not; a plan has none."""
    return _conflicts


@pytest.fixture(scope="session")
def graph() -> type[Graph]:
    return Graph


@pytest.fixture(scope="session")
def assert_exact(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., None]:
    """Compares generated C with the golden on every output; inputs are int8 [n, bytes] for each model."""

    def check(models: Sequence[Path], inputs: Sequence[np.ndarray], *flags: str) -> None:
        pytest.importorskip("tflite_micro", reason="the extra `mcu` is not installed (Linux x86-64 only)")
        expected = golden(models, inputs)
        for model, ours, theirs in zip(
            models, answers(models, inputs, tmp_path_factory.mktemp("c"), *flags), expected, strict=True
        ):
            wrong = np.flatnonzero((ours != theirs).any(axis=1))
            assert wrong.size == 0, f"{model.name}: inputs {wrong[:5]}: {ours[wrong[:1]]} is not {theirs[wrong[:1]]}"

    return check


@pytest.fixture(scope="session")
def golden_outputs() -> Callable[[Path, np.ndarray], np.ndarray]:
    """What TensorFlow Lite Micro answers to inputs, int8 [n, bytes]."""

    def answer(model: Path, inputs: np.ndarray) -> np.ndarray:
        pytest.importorskip("tflite_micro", reason="the extra `mcu` is not installed (Linux x86-64 only)")
        return golden([model], [inputs])[0]

    return answer


@pytest.fixture(scope="session")
def inputs_for() -> Callable[[Path, int, int], np.ndarray]:
    """Random inputs for a model, the extremes first."""

    def make(model: Path, count: int, seed: int) -> np.ndarray:
        artefact = read(model)
        random = np.random.default_rng(seed)
        rows = random.integers(-128, 128, (count, artefact.tensors[artefact.inputs[0]].count)).astype(np.int8)
        rows[0], rows[1 % count] = -128, 127
        return rows

    return make


@pytest.fixture(scope="session")
def smallest_plan() -> Callable[[Sequence[Buffer], Sequence[Overlap]], int]:
    return _smallest
