"""Fixtures that every room's tests share."""

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from tinyrobust.execution.processor import THREADS

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Sums split among another number of threads train another network: with one, machines differ less.
for name in THREADS:
    os.environ.setdefault(name, "1")

_CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The folder of this checkout."""
    return _CHECKOUT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real data and peer models beside the checkout.

    Absent on a user's machine: the test is skipped. Where it exists, a test that finds something missing in it fails.
    """
    folder = Path(os.environ.get("TINYROBUST_SHARED", _CHECKOUT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip("the development data (../shared) is not on this machine")
    return folder


@pytest.fixture(scope="session")
def under_jax(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process that runs Keras on JAX.

    Most of its time goes into compiling what runs once: without optimization, and never the same twice.
    """
    base = tmp_path_factory.getbasetemp()
    compiled = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "compiled-by-jax"
    return {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
        "JAX_COMPILATION_CACHE_DIR": str(compiled),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    started = time.thread_time()
    yield
    assert time.thread_time() - started < seconds


@pytest.fixture(scope="session")
def within() -> Callable[[float], AbstractContextManager[None]]:
    """A context of so many seconds; it fails when its block takes more of this thread's processor time.

    It finds what never ends, on a busy machine too; how fast things are is measured in benchmarks/.
    """
    return _within


@pytest.fixture(scope="session")
def changed() -> Callable[[Path, Path, Callable[[Any], None]], Path]:
    """`changed(source, target, change)` writes a `.tflite` to `target` after a change to its unpacked model."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    def make(source: Path, target: Path, change: Callable[[Any], None]) -> Path:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(source.read_bytes(), 0))
        change(model)
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        target.write_bytes(builder.Output())
        return target

    return make


@dataclass(frozen=True)
class DigitsNet:
    """A small float network trained on scikit-learn's digits (8x8 gray), its int8 file, and images it has not seen."""

    model: Any
    tflite: Path
    x: np.ndarray
    y: np.ndarray


@pytest.fixture(scope="session")
def digits_net(converted: Callable[..., Path]) -> DigitsNet:
    """Undefended, about 97 % right; outputs logits; trained in two seconds."""
    import keras

    x, y, images = _digits()
    model = _digits_network("relu")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(5e-3), loss)
    model.fit(x[:1200], y[:1200], epochs=12, batch_size=64, verbose=0)
    return DigitsNet(model, converted(model, x[:100], name="digits"), images[1200:], y[1200:])


@pytest.fixture(scope="session")
def robust_net(digits_net: DigitsNet, converted: Callable[..., Path]) -> DigitsNet:
    """The architecture of `digits_net` after fast adversarial training at epsilon 0.15: about 98 % right; three seconds."""
    import keras

    from tinyrobust.recipe.train import Train
    from tinyrobust.training.learner import compiled
    from tinyrobust.training.objectives import Supplies, build_objectives

    x, y, images = _digits()
    keras.utils.set_random_seed(0)
    model = keras.models.clone_model(digits_net.model)
    objective = {"kind": "adversarial", "perturbation": {"kind": "fgsm", "epsilon": 0.15}}
    settings = Train(epochs=15, learning_rate=5e-3, weight_decay=0.0, objective=(objective,))
    learner = compiled(model, build_objectives(settings.objectives, Supplies()), settings, 15 * 19)
    learner.fit(x[:1200], y[:1200], batch_size=64, epochs=15, verbose=0)
    return DigitsNet(model, converted(model, x[:100], name="digits"), images[1200:], y[1200:])


@pytest.fixture(scope="session")
def distilled_net(converted: Callable[..., Path]) -> DigitsNet:
    """Defensively distilled at T = 50 (Papernot et al. 2016), with ReLU6: undefended in truth, but its gradients vanish."""
    import keras

    x, y, images = _digits()

    def fitted(labels: Any) -> Any:
        model = _digits_network("relu6")
        model.compile(keras.optimizers.Adam(1e-2), lambda true, z: keras.losses.categorical_crossentropy(true, z / 50, True))
        model.fit(x[:1200], labels, epochs=20, batch_size=64, verbose=0)
        return model

    teacher = fitted(np.eye(10)[y[:1200]])
    model = fitted(keras.ops.convert_to_numpy(keras.ops.softmax(teacher(x[:1200]) / 50)))
    return DigitsNet(model, converted(model, x[:100], name="digits"), images[1200:], y[1200:])


def _digits() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images in [0, 1], labels, and the images as 8-bit pixels."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    order = np.random.default_rng(0).permutation(len(pixels))
    return pixels[order].astype(np.float32) / 255, digits.target[order].astype(np.int64), pixels[order]


def _digits_network(activation: str) -> Any:
    import keras

    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Conv2D(12, 3, padding="same", activation=activation),
        keras.layers.Conv2D(24, 3, strides=2, padding="same", activation=activation),
        keras.layers.Flatten(),
        keras.layers.Dense(32, activation=activation),
        keras.layers.Dense(10),
    ]
    return keras.Sequential([keras.Input((8, 8, 1)), *layers])


Scheme = Literal["int8", "uint8", "float ends", "per tensor", "int16 activations", "float16", "dynamic range"]


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`converted(model, images)`: a Keras model as a `.tflite`, int8 and calibrated on these images; float without images.

    `batch` is what the file takes at a time, None what the model says. A `scheme` is another kind of quantization.
    """
    import keras
    import tensorflow as tf

    def convert(
        model: Any,
        images: np.ndarray | None = None,
        *,
        batch: int | None = 1,
        scheme: Scheme | None = None,
        name: str = "model",
    ) -> Path:
        if batch is not None and model.input_shape[0] != batch:
            source = keras.Input(model.input_shape[1:], batch_size=batch)
            model = keras.Model(source, model(source))
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        if images is not None:
            scheme = scheme or "int8"
            converter.representative_dataset = lambda: ([image[np.newaxis]] for image in images.astype(np.float32))
        if scheme is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if scheme == "float ends":
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        elif scheme in ("int8", "uint8", "per tensor"):
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = tf.uint8 if scheme == "uint8" else tf.int8
            converter._experimental_disable_per_channel = scheme == "per tensor"
        elif scheme == "int16 activations":
            mixed = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
            converter.target_spec.supported_ops = [mixed]
        elif scheme == "float16":
            converter.target_spec.supported_types = [tf.float16]
        path = Path(tmp_path_factory.mktemp("converted")) / f"{name}.tflite"
        path.write_bytes(converter.convert())
        return path

    return convert


@pytest.fixture(scope="session")
def small_tflite(converted: Callable[..., Path]) -> Path:
    """A real int8 .tflite of 8x8 gray images and three classes, made by code; its pointwise convolution is ternary.

    CONV_2D, DEPTHWISE_CONV_2D, CONV_2D (ternary), ADD, MEAN, FULLY_CONNECTED. Its weights mean nothing.
    """
    import keras

    random = np.random.default_rng(0)
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1), batch_size=1)
    stem = keras.layers.Conv2D(4, 3, padding="same", activation="relu6", name="stem")(image)
    depthwise = keras.layers.DepthwiseConv2D(3, padding="same", activation="relu6", name="depthwise")(stem)
    pointwise = keras.layers.Conv2D(4, 1, name="pointwise")(depthwise)
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(keras.layers.Add(name="add")([depthwise, pointwise]))
    model = keras.Model(image, keras.layers.Dense(3, name="logits")(pooled))
    ternary = np.array([[1, 0, -1, 1], [0, 1, 1, -1], [-1, -1, 0, 0], [1, 1, 1, 1]], np.float32) * [0.2, 0.3, 0.4, 0.5]
    model.get_layer("pointwise").set_weights([ternary[np.newaxis, np.newaxis], random.normal(size=4)])
    return converted(model, random.random((8, 8, 8, 1), dtype=np.float32), name="small")


_TINY = """
description = "Every stage in seconds: for the tests. Its figures mean nothing."
[data]
name = "digits"
train_samples = 500
test_samples = 120
[network]
kind = "stqnet"
width = 0.25
[[precision.rule]]
layers = "stem|logits"
weights = "fixed-point"
[[precision.rule]]
layers = ".*"
weights = { kind = "stochastic-ternary", starts = [0.0, 0.2, 0.4, 0.6] }
[train]
epochs = 6
batch_size = 32
learning_rate = 1e-2
[[train.objective]]
kind = "distillation"
temperature = 2
teacher_epochs = 4
[export]
accuracy_drop = 5.0
agreement = 0.9
[robustness]
epsilons = [0.1, 0.2]
headline = 0.1
samples = 20
"""


@pytest.fixture(scope="session")
def tiny_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe with all six stages that runs in seconds."""
    path = tmp_path_factory.mktemp("recipes") / "tiny.toml"
    path.write_text(_TINY)
    return path


@pytest.fixture(scope="session")
def tiny_run(tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The undisturbed run of `tiny_recipe`, a `tinyrobust.pipeline.run.Run`.

    Test processes that run side by side compute it once: each has a copy, for some tests go on with it.
    """
    import tinyrobust

    base = tmp_path_factory.getbasetemp()
    first = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "tiny-run"
    with first.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        tinyrobust.run(tiny_recipe, runs_dir=first)
    folder = tmp_path_factory.mktemp("runs") / "copy"
    shutil.copytree(first, folder)
    return tinyrobust.run(tiny_recipe, runs_dir=folder)


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus in the layout of Speech Commands, made by code: tones for words.

    Five words by 40 speakers of slightly different pitch, two clips each, and 20 s of two noises; 16-bit .wav of 16 kHz.
    """
    import soundfile

    words = {"low": 300, "mid": 900, "high": 2500, "hum": 120, "hiss": 3600}
    folder, rate, speakers = tmp_path_factory.mktemp("corpus") / "tones", 16_000, 40
    random = np.random.default_rng(0)
    envelope = 0.3 * np.hanning(rate)
    for word, hertz in words.items():
        (folder / word).mkdir(parents=True)
        for speaker in range(speakers):
            pitch = hertz * (0.9 + 0.2 * speaker / speakers)
            sound = envelope * np.sin(2 * np.pi * pitch * np.arange(rate) / rate)
            for take in range(2):
                path = folder / word / f"{speaker:08x}_nohash_{take}.wav"
                soundfile.write(path, sound + random.normal(0, 0.002, rate), rate)
    (folder / "_background_noise_").mkdir()
    for name, width in (("white", 1), ("rumble", 50)):
        noise = np.convolve(random.normal(0, 0.05, 20 * rate), np.ones(width) / width**0.5, "same")
        soundfile.write(folder / "_background_noise_" / f"{name}.wav", noise, rate)
    (folder / "_background_noise_" / "README.md").write_text("not a sound")
    return folder


_STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror")

_GOLDEN = """
import sys
import numpy as np
from tflite_micro import runtime
for name in sys.argv[1:]:
    print(name, flush=True)
    interpreter = runtime.Interpreter.from_file(name + ".tflite", arena_size=4_000_000)
    answers = []
    inputs, outputs = np.load(name + ".ends.npy")
    details = [interpreter.get_input_details(place) for place in range(inputs)]
    sizes = [int(np.prod(detail["shape"])) for detail in details]
    for row in np.load(name + ".npy"):
        for place, part in enumerate(np.split(row, np.cumsum(sizes)[:-1])):
            interpreter.set_input(part.view(details[place]["dtype"]).reshape(details[place]["shape"]), place)
        interpreter.invoke()
        parts = [interpreter.get_output(place).reshape(-1).view(np.int8) for place in range(outputs)]
        answers.append(np.concatenate(parts))
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
    void (*reset)(void *);
    size_t in_bytes, out_bytes, arena_bytes, offset;
}} model;
static const model models[] = {{
{models}
}};
/* For each model: how many inputs, then the inputs; answers with the outputs. The arena is exactly as large as it says, and
 * another for each run unless it keeps variables; the second half of the inputs lies inside it. */
int main(void)
{{
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {{
        const model *m = &models[i];
        int32_t count = 0;
        if (fread(&count, sizeof count, 1, stdin) != 1) return 1;
        int8_t *arena = NULL;
        for (int32_t k = 0; k < count; k++) {{
            int8_t *in = malloc(m->in_bytes), *out = malloc(m->out_bytes);
            if (k == 0 || !m->reset) {{
                arena = malloc(m->arena_bytes);
                memset(arena, 0x55, m->arena_bytes);
                if (m->reset) m->reset(arena);
            }}
            if (fread(in, 1, m->in_bytes, stdin) != m->in_bytes) return 2;
            const int inside = k >= count / 2;
            if (inside) memcpy(arena + m->offset, in, m->in_bytes);
            if (m->invoke(inside ? arena + m->offset : in, out, arena) != 0) return 3;
            fwrite(out, 1, m->out_bytes, stdout);
            free(in); free(out);
            if (!m->reset || k == count - 1) free(arena);
        }}
    }}
    return 0;
}}
"""


def _golden(models: Sequence[Path], inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """What TensorFlow Lite Micro answers, int8 [n, bytes] for each model; inputs the same."""
    from tinyrobust.deploy.artefact import read

    for model, rows in zip(models, inputs, strict=True):
        np.save(model.with_suffix(".npy"), rows)
        np.save(model.with_suffix(".ends.npy"), [len(read(model).inputs), len(read(model).outputs)])
    names = [str(model.with_suffix("")) for model in models]
    result = subprocess.run([sys.executable, "-c", _GOLDEN, *names], capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{result.stdout[-200:]}: {result.stderr[-1000:]}"
    return [np.load(name + ".golden.npy") for name in names]


def _answers(models: Sequence[Path], inputs: Sequence[np.ndarray], folder: Path, *flags: str) -> list[np.ndarray]:
    """What the generated C answers: all models in one program, built strictly with sanitizers."""
    from tinyrobust.deploy.artefact import read
    from tinyrobust.deploy.cgen.generate import generate

    made = [generate(read(model), f"m{i}", folder) for i, model in enumerate(models)]
    program = _build(made, folder, *flags)
    stdin = b"".join(np.int32(len(rows)).tobytes() + rows.tobytes() for rows in inputs)
    result = subprocess.run([program], input=stdin, capture_output=True, check=False)
    assert result.returncode == 0, result.stderr.decode()[-3000:]
    found, position = [], 0
    for model, rows in zip(models, inputs, strict=True):
        artefact = read(model)
        size = sum(artefact.tensors[index].count for index in artefact.outputs)
        end = position + size * len(rows)
        found.append(np.frombuffer(result.stdout[position:end], np.int8).reshape(len(rows), size))
        position = end
    return found


def _build(made: Sequence[Any], folder: Path, *flags: str) -> Path:
    """Compiles generated models and a main that feeds them."""
    includes = "\n".join(f'#include "{g.name}.h"' for g in made)
    lines = [
        "{{tr_{0}_invoke_in, {2}, TR_{1}_INPUT_BYTES, TR_{1}_OUTPUT_BYTES, TR_{1}_ARENA_BYTES, TR_{1}_INPUT_OFFSET}},".format(
            g.name, g.name.upper(), f"tr_{g.name}_reset_in" if g.stateful else "NULL"
        )
        for g in made
    ]
    (folder / "main.c").write_text(_MAIN.format(includes=includes, models="\n".join(lines)))
    sources = sorted({path for g in made for path in g.files if path.suffix == ".c"})
    sanitizers = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    command = ["gcc", *_STRICT, *sanitizers, "-O1", *flags, "-o", folder / "program", folder / "main.c", *sources]
    compiled = subprocess.run(command, capture_output=True, text=True, check=False)
    assert compiled.returncode == 0, compiled.stderr[-3000:]
    return folder / "program"


@pytest.fixture(scope="session")
def assert_exact(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., None]:
    """Compares generated C with the golden on every output; inputs are int8 [n, bytes] for each model."""

    def check(models: Sequence[Path], inputs: Sequence[np.ndarray], *flags: str) -> None:
        pytest.importorskip("tflite_micro", reason="the extra `mcu` is not installed (Linux x86-64 only)")
        expected = _golden(models, inputs)
        for model, ours, theirs in zip(
            models, _answers(models, inputs, tmp_path_factory.mktemp("c"), *flags), expected, strict=True
        ):
            wrong = np.flatnonzero((ours != theirs).any(axis=1))
            assert wrong.size == 0, f"{model.name}: inputs {wrong[:5]}: {ours[wrong[:1]]} is not {theirs[wrong[:1]]}"

    return check


@pytest.fixture(scope="session")
def golden_outputs() -> Callable[[Path, np.ndarray], np.ndarray]:
    """What TensorFlow Lite Micro answers to inputs, int8 [n, bytes]."""

    def answer(model: Path, inputs: np.ndarray) -> np.ndarray:
        pytest.importorskip("tflite_micro", reason="the extra `mcu` is not installed (Linux x86-64 only)")
        return _golden([model], [inputs])[0]

    return answer


@pytest.fixture(scope="session")
def inputs_for() -> Callable[[Path, int, int], np.ndarray]:
    """Random inputs for a model, the extremes first."""

    def make(model: Path, count: int, seed: int) -> np.ndarray:
        from tinyrobust.deploy.artefact import read

        artefact = read(model)
        random = np.random.default_rng(seed)
        size = sum(artefact.tensors[index].count for index in artefact.inputs)
        rows = random.integers(-128, 128, (count, size)).astype(np.int8)
        rows[0], rows[1 % count] = -128, 127
        return rows

    return make
