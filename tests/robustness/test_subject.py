"""Whatever can be attacked goes through one front door: ensembles, random networks, surrogates, strange files."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from tinyrobust.errors import ModelFileError, RecipeError

_SETTINGS = {"epsilons": (0.15,), "headline": 0.15, "samples": 60}
_PGD = {"name": "pgd", "kind": "pgd", "steps": 10, "random_starts": 1, "transfer_to": ["int8"]}
_APGD = {"name": "apgd", "kind": "apgd", "loss": "ce", "steps": 20}
_SQUARE_INT8 = {"name": "square-int8", "kind": "square", "on": "int8", "iterations": 30, "restarts": 1}


@keras.saving.register_keras_serializable("tests")
class Noise(keras.layers.Layer):
    """Random at inference too, as some defences are."""

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.generator = keras.random.SeedGenerator(0)

    def call(self, inputs):
        return inputs + keras.random.normal(keras.ops.shape(inputs), stddev=0.2, seed=self.generator)


def _left(record, attack: str, target: str) -> float:
    return next(row.robust.value for row in record.attacks if (row.attack, row.target) == (attack, target))


def _check(record, name: str):
    return next(check for check in record.checks if check.name == name)


def test_an_ensemble_is_judged_beside_the_file_of_its_first_member(digits_net, robust_net, evaluated, tmp_path) -> None:
    attacks = [_PGD, {**_APGD, "on": "repaired"}]
    members = [digits_net.model, robust_net.model]
    record = evaluated(digits_net, tmp_path, attacks=attacks, settings=_SETTINGS, networks=members)
    assert [clean.target for clean in record.clean] == ["ensemble", "int8"]
    assert "mean of the probabilities of 2 networks" in record.notes[0]
    assert _left(record, "apgd", "ensemble") < 0.6
    # Twice as many samples go through networks as through one.
    row = next(row for row in record.attacks if (row.attack, row.target) == ("pgd", "ensemble"))
    assert row.backward == 2 * 10 * row.given
    with np.load(tmp_path / "per_sample.npz", allow_pickle=False) as arrays:
        assert "predicted/pgd/ensemble" in arrays


def test_a_random_network_is_recognised_and_followed_in_the_mean(digits_net, evaluated, tmp_path) -> None:
    image = keras.Input((8, 8, 1))
    noisy = keras.Model(image, digits_net.model(Noise()(image)))
    attacks = [_PGD, {"name": "fgsm-bpda", "kind": "fgsm", "on": "bpda"}]
    arguments = {"attacks": attacks, "settings": {**_SETTINGS, "samples": 40}, "networks": [noisy]}
    record = evaluated(digits_net, tmp_path, **arguments)
    assert [clean.target for clean in record.clean] == ["stochastic", "int8"]
    assert "an answer is the mean of" in record.notes[0]
    check = _check(record, "random-predictions")
    assert not check.raised
    assert check.figures["passes"] >= 2
    assert not _check(record, "no-examples").raised
    # Random, and still the same when half of it is done again.
    (tmp_path / "attacks" / "fgsm-bpda-0.15-0.npz").unlink()
    resumed = evaluated(digits_net, tmp_path, **arguments)
    assert (resumed.worst, resumed.checks) == (record.worst, record.checks)


def test_examples_of_a_surrogate_are_judged_on_all(digits_net, robust_net, evaluated, tmp_path) -> None:
    transfer = {**_PGD, "name": "transfer", "on": "surrogate", "transfer_to": ["keras", "int8"]}
    record = evaluated(
        digits_net,
        tmp_path,
        attacks=[_PGD, transfer, _SQUARE_INT8],
        settings=_SETTINGS,
        surrogate=robust_net.model,
        remarks=("where it comes from",),
    )
    rows = {row.target: row for row in record.attacks if row.attack == "transfer"}
    assert {row.crafted_on for row in rows.values()} == {"surrogate"}
    assert set(rows) == {"keras", "int8"}
    assert _left(record, "pgd", "keras") <= rows["keras"].robust.value < 0.9
    assert "where it comes from" in record.notes


def test_a_surrogate_makes_no_white_box(digits_net, robust_net, evaluated, tmp_path) -> None:
    transfer = {**_PGD, "name": "transfer", "on": "surrogate", "transfer_to": ["int8"]}
    record = evaluated(digits_net, tmp_path, attacks=[transfer], settings=_SETTINGS, networks=(), surrogate=robust_net.model)
    assert _check(record, "black-box-only").raised


def test_a_surrogate_of_another_shape_is_refused(digits_net, evaluated, tmp_path) -> None:
    other = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    with pytest.raises(ModelFileError, match=r"same input shape and number of classes.*surrogate \(8, 8, 1\) and 3"):
        evaluated(digits_net, tmp_path, attacks=[_PGD], settings=_SETTINGS, surrogate=other)


def test_every_norm_and_the_grid(digits_net, evaluated, tmp_path) -> None:
    attacks = [_PGD, *({**_PGD, "name": f"pgd-{norm}", "norm": norm} for norm in ("l2", "l1"))]
    settings = {**_SETTINGS, "grid": True, "l2": (0.5, 1.0), "l1": (2.0, 5.0)}
    record = evaluated(digits_net, tmp_path, attacks=attacks, settings=settings)
    assert record.epsilons == {"linf": [0.15], "l2": [0.5, 1.0], "l1": [2.0, 5.0]}
    for norm, radii in record.epsilons.items():
        found = [worst.robust.value for worst in record.worst if (worst.target, worst.norm) == ("all", norm)]
        assert len(found) == len(radii)
        assert found == sorted(found, reverse=True)
        assert found[-1] < 0.5
        (nearest,) = [row for row in record.minimal if (row.target, row.norm) == ("int8", norm)]
        assert 0 < nearest.median <= radii[-1] * 1.0001
    survived = [row.on_grid for row in record.attacks if row.robust.value < 0.5]
    # Steps of 1/255 are small beside these radii: nearly all examples survive them.
    assert survived
    assert all(share.value > 0.8 for share in survived)


def test_a_float_file(digits_net, evaluated, converted, tmp_path) -> None:
    net = dataclasses.replace(digits_net, tflite=converted(digits_net.model))
    record = evaluated(
        net, tmp_path / "out", attacks=[_PGD, _SQUARE_INT8], settings=_SETTINGS, networks=(), input_range=(0.0, 1.0)
    )
    assert [clean.target for clean in record.clean] == ["int8"]
    assert record.clean[0].test.value > 0.95
    assert record.headline.value < 0.3


def test_two_classes(digits_net, evaluated, int8_of, tmp_path) -> None:
    """Even or odd: the losses of AutoAttack are made for four classes and more."""
    y = digits_net.y % 2
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Flatten(), keras.layers.Dense(32, activation="relu"), keras.layers.Dense(2)]
    model = keras.Sequential([keras.Input((8, 8, 1)), *layers])
    model.compile(keras.optimizers.Adam(5e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(digits_net.x[:400].astype(np.float32) / 255, y[:400], epochs=15, verbose=0)
    net = dataclasses.replace(digits_net, model=model, tflite=int8_of(model, digits_net.x), x=digits_net.x[400:], y=y[400:])
    kinds = ({"kind": "apgd-t"}, {"kind": "apgd", "loss": "dlr", "on": "bpda"}, {"kind": "fab", "targets": 9, "on": "repaired"})
    attacks = [{"name": f"attack-{place}", "steps": 20, **kind} for place, kind in enumerate(kinds)]
    record = evaluated(net, tmp_path, attacks=attacks, settings={**_SETTINGS, "samples": 30})
    assert record.clean[0].test.value > 0.8
    assert all(row.robust.value <= 0.2 for row in record.attacks)
    assert record.reliable, record.warnings


_BPDA = {**_APGD, "on": "bpda"}


@pytest.fixture(scope="module")
def plain(digits_net, evaluated, tmp_path_factory):
    """The file whose inputs are images in [0, 1]."""
    return evaluated(digits_net, tmp_path_factory.mktemp("plain"), attacks=[_BPDA], settings=_SETTINGS, networks=())


@pytest.mark.parametrize(
    ("given", "recorded"),
    [((0.0, 255.0), (0.0, 255.0)), ((-128.0, 127.0), (-128.0, 127.0)), (((-2.0,), (2.0,)), ([-2.0], [2.0]))],
    ids=["0..255", "pixel - 128", "normalised"],
)
def test_a_stated_input_range(given, recorded, plain, digits_net, evaluated, int8_of, tmp_path) -> None:
    """The same network behind another preprocessing is as robust as before: a radius means the same."""
    low, high = (np.ravel(bound).item() for bound in given)
    own = keras.Input((8, 8, 1))
    shifted = keras.Model(own, digits_net.model(keras.layers.Rescaling(1 / (high - low), -low / (high - low))(own)))
    path = int8_of(shifted, digits_net.x, lambda x: low + x * (high - low))
    net = dataclasses.replace(digits_net, tflite=path)
    record = evaluated(net, tmp_path / "own", attacks=[_BPDA], settings=_SETTINGS, networks=(), input_range=given)
    assert record.input_range == recorded
    assert record.clean[0].test.value == pytest.approx(plain.clean[0].test.value, abs=0.02)
    assert record.headline.value == pytest.approx(plain.headline.value, abs=0.1)
    with pytest.raises(ModelFileError, match="Expected an input range of 1 or 1 channels"):
        evaluated(net, tmp_path / "wrong", attacks=[_PGD], settings=_SETTINGS, input_range=((0.0, 0.0), (1.0, 1.0)))


def test_white_box_attacks_on_a_file_without_a_twin_are_refused(digits_net, evaluated, converted, tmp_path) -> None:
    image = keras.Input((8, 8, 1), batch_size=1)
    flat = keras.layers.Flatten()(keras.layers.Conv2D(3, 3, activation=tf.sort)(image))
    net = dataclasses.replace(digits_net, tflite=converted(keras.Model(image, keras.layers.Dense(10)(flat))))
    with pytest.raises(
        RecipeError, match=r"Expected an attack on int8 in protocol 'test'. Received: attacks on keras"
    ) as caught:
        evaluated(net, tmp_path / "white", attacks=[_PGD], settings=_SETTINGS, networks=(), input_range=(0.0, 1.0))
    assert "no twin can be rebuilt" in str(caught.value.hint)
    record = evaluated(
        net, tmp_path / "black", attacks=[_PGD, _SQUARE_INT8], settings=_SETTINGS, networks=(), input_range=(0.0, 1.0)
    )
    assert _check(record, "black-box-only").raised
    assert any("no twin could be rebuilt" in note for note in record.notes)
    assert any(note.startswith("Left out: pgd") for note in record.notes)
