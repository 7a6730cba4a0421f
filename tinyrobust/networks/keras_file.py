"""Opens somebody's `.keras` file without running anything that comes with it, and says what in it has no place here.

The configuration is read first, as JSON: layers that are not known are named before Keras makes any of them, and code that
comes with a file, or that a file asks for, is never loaded. Keras' safe mode stays on besides.
"""

import json
import zipfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import keras
from pydantic import JsonValue

from tinyrobust.errors import ModelFileError
from tinyrobust.files import sha256
from tinyrobust.graphs import numbers
from tinyrobust.recipe.model_file import ModelFile

_CONFIG = "config.json"
_MOST_CONFIG = 2**26  # bytes of the configuration: that of a network of a thousand layers has one million
OPERATION = "operation "  # before the class of what is no layer: `x + y` and functions of `keras.ops` in a graph
_MODELS = ("Functional", "Model", "Sequential")
_SAVE = "In the program that made it: model.save('model.keras'), with Keras 3."
_CODE = (
    "Code is never loaded from a file. Write the network with Keras' own layers, copy the weights over "
    "(new.set_weights(old.get_weights())), and save that; or make it a network of tinyrobust (CONTRIBUTING.md, a network)."
)
# By the first letters of the class.
_REMEDIES = {
    "GlobalMaxPool": "use MaxPooling2D over the whole map and Flatten",
    "SpatialDropout2D": "use Dropout",
    "UpSampling2D": "a classifier needs none",
    "Conv1D": "use Conv2D with kernels of (n, 1) on inputs of [length, 1, channels]",
    "MaxPooling1D": "use MaxPooling2D of (n, 1)",
    "AveragePooling1D": "use AveragePooling2D of (n, 1)",
    "LeakyReLU": "use ReLU",
    "PReLU": "use ReLU",
    "ELU": "use ReLU",
    "Random": "leave it out: [data.augment] of the recipe changes training images",
    OPERATION: "use the layer of Keras that does the same, such as keras.layers.Concatenate",
}


def read(path: Path, digest: str | None, known: Collection[str]) -> keras.Model:
    """The model in a `.keras` file, in inference mode or not as its layers are called; nothing of its compilation.

    Args:
        path: Of the file.
        digest: SHA-256 that it must have, in hex; None: any.
        known: The names of the layer classes that it may consist of, beside models in models.

    Raises:
        ModelFileError: There is no such file, it is another than `digest` says, no `.keras` file or damaged, it needs code of
            its own, or it has layers that are not known.
    """
    _check_file(path, digest)
    _check_config(_config(path), path, known)
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises what it likes, at whatever is in the file
        first = str(error).partition("Full object config")[0].strip().partition("\n")[0]
        raise ModelFileError(
            f"Keras cannot load {path}: {first[:500] or type(error).__name__}",
            hint=f"{_CODE} If there is none in it, the file is damaged or of another version than Keras {keras.__version__}.",
        ) from error
    return model


def load_weights(network: keras.Model, file: ModelFile) -> None:
    """Gives a network the weights in a `.keras` file of the same network; nothing else in the file is read. Or `network.npz`.

    Raises:
        ModelFileError: There is no such file, it is another than its SHA-256 says, or its weights are of another network.
    """
    path = Path(file.path).expanduser()
    if path.suffix == ".npz":
        _check_there(path, file.sha256)
        numbers.load(network, path)
        return
    _check_file(path, file.sha256)
    try:
        network.load_weights(path)
    except Exception as error:  # as in `read`
        raise ModelFileError(
            f"Expected in {path} the weights of the recipe's network in float ({network.name}, {network.count_params():,} "
            f"numbers). Received: {str(error).strip().partition(chr(10))[0][:300] or type(error).__name__}",
            hint="A run of a recipe with the same [network] leaves it: float_model.keras, with [train] quantization = 'after', "
            "or teacher_model.keras, of one teacher.",
        ) from error


def _check_file(path: Path, digest: str | None) -> None:
    if path.suffix != ".keras" or path.is_dir():
        raise ModelFileError(f"Expected a .keras file. Received: {path}", hint=_SAVE)
    _check_there(path, digest)


def _check_there(path: Path, digest: str | None) -> None:
    if not path.is_file():
        raise ModelFileError(
            f"Expected a {path.suffix} file. Received: {path}: there is no such file",
            hint="A path is looked up from the folder in which the command runs.",
        )
    if digest is not None and (found := sha256(path)) != digest:
        raise ModelFileError(
            f"Expected {path} as it was: SHA-256 {digest[:12]}... Received: {found[:12]}...: the file was changed.",
            hint="Put the old file back to go on with this run, or `tinyrobust quantize` the new one: that is another run.",
        )


def _config(path: Path) -> JsonValue:
    """The configuration of the model, without that of its training.

    Raises:
        ModelFileError: It is not there, or the file is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                raise ModelFileError(f"{path} is damaged: {damaged} in it is not what was written.", hint=_SAVE)
            if archive.getinfo(_CONFIG).file_size > _MOST_CONFIG:
                raise ModelFileError(f"{path}: expected a {_CONFIG} of at most {_MOST_CONFIG} bytes. Received: a larger one")
            values: JsonValue = json.loads(archive.read(_CONFIG))
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, RecursionError, NotImplementedError) as error:
        raise ModelFileError(f"{path} is no .keras file, or a damaged one: {error}.", hint=_SAVE) from error
    if not isinstance(values, dict):
        raise ModelFileError(f"{path}: expected an object in its {_CONFIG}. Received: {type(values).__name__}", hint=_SAVE)
    return {key: value for key, value in values.items() if key != "compile_config"}


def _check_config(config: JsonValue, path: Path, known: Collection[str]) -> None:
    custom = list(dict.fromkeys(name for one in _objects(config) if (name := _custom(one))))
    if custom:
        raise ModelFileError(
            f"{path} needs code that Keras does not come with. Expected Keras' own classes. Received: {', '.join(custom[:8])}",
            hint=_CODE,
        )
    if not isinstance(config, dict) or config.get("class_name") not in _MODELS:
        found = config.get("class_name") if isinstance(config, dict) else config
        raise ModelFileError(
            f"{path}: expected a functional or sequential model. Received: {found}",
            hint="Make keras.Model(inputs, outputs) of its layers, and save that.",
        )
    unknown = [(name, kind) for name, kind in _layers(config) if kind not in known]
    if unknown:
        raise ModelFileError(
            f"{path} has layers that have no int8 operator here: "
            f"{', '.join(f'{name!r} ({kind})' for name, kind in unknown[:8])}{' and more' * (len(unknown) > 8)}. "
            f"Expected only: {', '.join(sorted(known))}.",
            hint=_remedies([kind for _, kind in unknown]),
        )


def _remedies(kinds: list[str]) -> str:
    """What can be done instead of layers of these classes."""
    remedies = {kind: remedy for kind in kinds for start, remedy in _REMEDIES.items() if kind.startswith(start)}
    said = [f"For {kind}, {remedy}." for kind, remedy in remedies.items()]
    return " ".join([*said, "Replace what is named, train on with Keras for an epoch or two, and save again."])


def _objects(value: JsonValue) -> Iterator[Mapping[str, JsonValue]]:
    """Every object in the configuration that stands for something of a class."""
    stack = [value]
    while stack:
        one = stack.pop()
        if isinstance(one, dict):
            if "class_name" in one:
                yield one
            stack += reversed(one.values())
        elif isinstance(one, list):
            stack += reversed(one)


def _custom(one: Mapping[str, JsonValue]) -> str | None:
    """What a serialized object needs beyond Keras; None where it needs nothing."""
    kind, module, registered = one["class_name"], one.get("module"), one.get("registered_name")
    if kind in ("Lambda", "__lambda__"):
        return "a Lambda (a Python function in the file)"
    outside = isinstance(module, str) and module != "builtins" and module.partition(".")[0] != "keras"
    if outside or (isinstance(registered, str) and ">" in registered):
        return f"{module or registered}.{kind}" if outside else str(registered)
    return None


def _layers(config: Mapping[str, JsonValue]) -> Iterator[tuple[str, str]]:
    """Name and class of every layer of a model and of the models in it."""
    inner = config.get("config")
    layers = inner.get("layers") if isinstance(inner, dict) else None
    for layer in layers if isinstance(layers, list) else ():
        if not isinstance(layer, dict):
            continue
        if layer.get("class_name") in _MODELS:
            yield from _layers(layer)
        else:
            own = layer.get("config")
            name = layer.get("name") or (own.get("name") if isinstance(own, dict) else None)
            yield str(name), f"{OPERATION * ('ops' in str(layer.get('module')).split('.'))}{layer.get('class_name')}"
