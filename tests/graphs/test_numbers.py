"""A network as numbers alone: what is written, read back, and refused."""

from pathlib import Path

import keras
import numpy as np
import pytest

from tinyrobust import recipe
from tinyrobust.errors import ModelFileError
from tinyrobust.graphs import numbers
from tinyrobust.graphs.freeze import freeze
from tinyrobust.networks.catalog import build
from tinyrobust.networks.keras_file import load_weights
from tinyrobust.quantizers.layers import set_declared
from tinyrobust.recipe.start import StartFile

_X = np.random.default_rng(0).random((20, 8, 8, 1), np.float32)


def _built(*overrides: str) -> keras.Model:
    return build(recipe.load("digits-stq", overrides), (8, 8, 1), 10)


@pytest.fixture(scope="module")
def trained() -> keras.Model:
    """As if it had learned: no variable is what it was, batch norm's statistics among them."""
    network, random = _built(), np.random.default_rng(1)
    set_declared(network, "quantized_fraction", 1.0)
    for variable in network.variables:
        if "float" in str(variable.dtype) and variable.shape:
            variable.assign(variable + random.uniform(0.02, 0.2, variable.shape))
    return network


@pytest.fixture(scope="module")
def file(trained: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("numbers") / numbers.NETWORK
    numbers.save(trained, path)
    return path


def test_restored_it_is_the_network_that_attacks_differentiate(trained: keras.Model, file: Path) -> None:
    again = freeze(numbers.restored(_built(), file))
    np.testing.assert_array_equal(freeze(trained)(_X), again(_X))


def test_ternary_kernels_are_codes_and_the_file_is_small(trained: keras.Model, file: Path, tmp_path: Path) -> None:
    with np.load(file) as stored:
        codes = [name for name in stored.files if name.endswith(":codes")]
        weights = sum(stored[name].size for name in codes)
        levels = {int(stored[name].max()) + 1 for name in codes if stored[name].shape[-1] > 1}  # depthwise: one table for all
    assert levels == {3}
    assert weights > 0.8 * trained.count_params()
    assert file.stat().st_size < trained.count_params()  # less than a byte a weight, names and tables included
    numbers.save(trained, tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == file.read_bytes()


def test_a_start_takes_them_as_the_float_network(file: Path) -> None:
    network = build(recipe.load("digits-stq").of_float_network, (8, 8, 1), 10)
    load_weights(network, StartFile(kind="keras-file", path=str(file)))
    values = numbers.read(file)
    for layer in network.layers:
        for variable in layer.weights:
            name = f"{layer.name}/{variable.name}"
            np.testing.assert_array_equal(variable, values[name], err_msg=name)


@pytest.mark.parametrize(
    ("overrides", "said"), [(["network.width=0.25"], "of another shape"), (['network.kind="dscnn"'], "missing")]
)
def test_those_of_another_network_are_refused(overrides: list[str], said: str, file: Path) -> None:
    with pytest.raises(ModelFileError, match=said):
        numbers.restored(_built(*overrides), file)


def test_what_is_damaged_or_not_there_is_named(file: Path, tmp_path: Path) -> None:
    (tmp_path / "half.npz").write_bytes(file.read_bytes()[:2000])
    for name in ("half.npz", "none.npz"):
        with pytest.raises(ModelFileError, match=rf"Expected the numbers of a network in .*{name}"):
            numbers.read(tmp_path / name)
    np.savez(tmp_path / "object.npz", a=np.array([{}], dtype=object))
    with pytest.raises(ModelFileError, match="Expected the numbers"):
        numbers.read(tmp_path / "object.npz")
