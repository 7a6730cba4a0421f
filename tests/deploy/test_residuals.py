"""Grids of residual branches: a sum of roundings against the rounding of the sum, over all values."""

import keras
import numpy as np
import pytest

from tinyrobust.deploy import residuals
from tinyrobust.deploy.grids import Grid


def _twin(*shortcuts: str) -> keras.Model:
    image = keras.Input((4, 4, 3))
    shortcut = keras.layers.ReLU(name="shortcut")(keras.layers.Conv2D(3, 1, name="stem")(image))
    branch = keras.layers.Conv2D(3, 1, name="branch")(shortcut)
    beside = keras.layers.Conv2D(3, 1, name="beside")(image)
    others = [{"shortcut": shortcut, "beside": beside}[name] for name in shortcuts]
    return keras.Model(image, keras.layers.ReLU(name="after")(keras.layers.Add()([branch, *others])))


def _moved(grid: Grid, level: float, shortcut: Grid) -> float:
    """The share of values, evenly spread over those that matter, that end on another level than they should."""
    values = np.linspace(-shortcut.scale * shortcut.steps, 6, 20_011)[:, None]
    beside = shortcut.scale * np.arange(shortcut.steps + 1)
    stored = np.clip(np.round(values / grid.scale) + grid.zero_point, -128, 127) - grid.zero_point
    steps = round(6 / level)
    expected = np.clip(np.round((values + beside) / level), 0, steps)
    return float(np.mean(np.clip(np.round((grid.scale * stored + beside) / level), 0, steps) != expected))


@pytest.mark.parametrize("bits", range(1, 8))
def test_with_equal_bounds_no_value_is_moved(bits):
    level = Grid.up_to(6.0, 2**bits - 1)
    measured = {"branch": Grid.around(-6.0, 6.0)}
    found = residuals.aligned(_twin("shortcut"), {"shortcut": level, "after": level}, measured)
    assert found.keys() == {"branch"}
    assert _moved(found["branch"], level.scale, level) == 0
    assert _moved(measured["branch"], level.scale, level) > 0


@pytest.mark.parametrize(("bits", "share"), [(1, 0.1), (2, 0.4), (3, 0.8)])
def test_with_other_bounds_fewer_values_are_moved(bits, share):
    """Learned bounds of every ratio, on average."""
    after = Grid.up_to(6.0, 2**bits - 1)
    before, now = [], []
    for bound in np.linspace(2.1, 11.9, 40):
        shortcut = Grid.up_to(float(bound), 2**bits - 1)
        measured = Grid.around(-bound, 6.0)
        found = residuals.aligned(_twin("shortcut"), {"shortcut": shortcut, "after": after}, {"branch": measured})
        before.append(_moved(measured, after.scale, shortcut))
        now.append(_moved(found.get("branch", measured), after.scale, shortcut))
    assert np.mean(now) < share * np.mean(before)


def test_only_sums_of_a_branch_and_an_activation_are_aligned():
    level, eight = Grid.up_to(6.0, 7), Grid.up_to(6.0)
    trained, measured = {"shortcut": level, "after": level}, dict.fromkeys(("branch", "beside"), Grid.around(-6.0, 6.0))
    assert residuals.aligned(_twin("shortcut"), trained, measured)
    assert not residuals.aligned(_twin("beside"), trained, measured)
    assert not residuals.aligned(_twin("shortcut", "beside"), trained, measured)
    assert not residuals.aligned(_twin("shortcut"), {**trained, "after": eight}, measured)
    assert not residuals.aligned(_twin("shortcut"), {"shortcut": level}, measured)
    assert not residuals.aligned(_twin("shortcut"), trained, {})


def test_a_branch_of_next_to_nothing_takes_no_time(within):
    """A batch norm may scale a branch down to nothing in training: its range is not zero, but has any number of steps."""
    trained = {"shortcut": Grid.up_to(5.0, 15), "after": Grid.up_to(6.0, 15)}
    with within(5):
        found = residuals.aligned(_twin("shortcut"), trained, {"branch": Grid.around(-1e-7, 1e-7)})
    assert not found
