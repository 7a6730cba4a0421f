"""Networks whose slopes lie over the answers of an honest one: broken as far as that one is, or marked."""

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinyrobust
from tinyrobust.deploy.interpreter import Int8Model


def _benchmark() -> Any:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
    try:
        return importlib.import_module("masked")
    finally:
        del sys.path[0]


_MASKED = _benchmark()
# What of `quick` is not undone by votes.
_SHORT = """
description = "through the file, with all slopes"
[[attack]]
name = "bpda"
kind = "apgd"
loss = "ce"
steps = 30
restarts = 4
on = "bpda"
"""
_MASKS = _MASKED.masks.MASKS


@pytest.fixture(scope="module")
def many(digits_net, tmp_path_factory) -> Any:
    net = digits_net
    return _MASKED.Family(tmp_path_factory.mktemp("many"), net.model, net.x[-100:], net.x[:100], net.y[:100])


@pytest.mark.slow
@pytest.mark.parametrize("protocol", _MASKED.PROTOCOLS)
@pytest.mark.parametrize("name", _MASKS)
def test_no_mask_fools_anybody(name, protocol, many) -> None:
    result = many.result(name, protocol)
    assert result.good, result


@pytest.mark.slow
@pytest.mark.parametrize("protocol", _MASKED.PROTOCOLS)
@pytest.mark.parametrize("quantized", [False, True])
def test_the_honest_base_is_not_marked(quantized, protocol, many) -> None:
    record = many.attacked(many.base_file(quantized=quantized), protocol)
    assert record.reliable, record.warnings


@pytest.mark.parametrize(
    "protocol", ["short.toml", *(pytest.param(name, marks=pytest.mark.slow) for name in _MASKED.PROTOCOLS)]
)
def test_a_masked_file_from_outside(protocol, shared, tmp_path) -> None:
    """Votes by subtracted rectifiers: examples that were made on the network below them, without the file, are the bar."""
    folder = shared / "field" / "masked"
    path = folder / "d_votes_float.tflite"
    with np.load(folder / "adversarial_base_digits_0.1.npz", allow_pickle=False) as outside:
        image, label, adversarial = outside["image"], outside["label"], outside["adversarial"]
    file = Int8Model(path)
    right, stands = (file.predict(x).argmax(axis=1) == label for x in (image.astype(np.float32) / 255, adversarial))
    np.savez(tmp_path / "digits.npz", x_test=image, y_test=label)
    (tmp_path / "short.toml").write_text(_SHORT)
    record = tinyrobust.attack(
        path,
        data=str(tmp_path / "digits.npz"),
        protocol=str(tmp_path / protocol) if protocol == "short.toml" else protocol,
        epsilons=[0.1],
        samples=len(label),
        input_range=(0.0, 1.0),
        output=tmp_path / "out",
    )
    if protocol == "adaptive":
        assert record.headline.count <= int((right & stands).sum()) + 2
    (check,) = [check for check in record.checks if check.name == "misleading-gradients"]
    # A leak's slopes cancel where the file counts votes.
    assert check.raised
    assert check.figures["bpda"] > 0.5
