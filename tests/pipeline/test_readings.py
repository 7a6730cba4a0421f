"""Files whose outputs are no scores of classes: anomaly detectors, and several labels that may hold at once."""

import json
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

import tinyrobust
from tinyrobust.cli.app import app
from tinyrobust.deploy import artefact
from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.deploy.reading import Anomaly, Label
from tinyrobust.deploy.rebuild import rebuild
from tinyrobust.errors import DataError, ModelFileError, RecipeError, TinyRobustError
from tinyrobust.pipeline.inputs import check, every_label, read_inputs
from tinyrobust.robustness.detection import area
from tinyrobust.robustness.robustness_record import RobustnessRecord

_FEATURES = 24
_RECONSTRUCTION = Anomaly(score="reconstruction")
_APGD = """
description = "one attack"
[[attack]]
name = "apgd"
kind = "apgd"
steps = 100
restarts = 3
on = "keras"
transfer_to = ["int8"]
"""


@pytest.fixture(scope="module")
def vibration() -> dict[str, np.ndarray]:
    """Normal windows lie near a plane of three dimensions among 24, anomalies farther from it."""
    draw = np.random.default_rng(0)
    basis = np.linalg.qr(draw.normal(size=(_FEATURES, 3)))[0].astype(np.float32)

    def normal(n: int) -> np.ndarray:
        return (draw.normal(size=(n, 3)) @ basis.T * 3 + 0.15 * draw.normal(size=(n, _FEATURES))).astype(np.float32)

    x_train, x_normal = normal(200), normal(100)
    x_anomaly = normal(100) + 0.3 * draw.normal(size=(100, _FEATURES)).astype(np.float32)
    x_test = np.concatenate([x_normal, x_anomaly])
    return {"basis": basis, "x_train": x_train, "x_test": x_test, "y_test": np.repeat([0, 1], 100)}


@pytest.fixture(scope="module")
def data(vibration: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vibration") / "vibration.npz"
    np.savez(path, y_train=np.zeros(200, np.int64), **{name: vibration[name] for name in ("x_train", "x_test", "y_test")})
    return path


@pytest.fixture(scope="module")
def autoencoder(vibration: dict[str, np.ndarray], converted: Callable[..., Path]) -> Path:
    """The projection on the plane, as an autoencoder of two dense layers."""
    window = keras.Input((_FEATURES,))
    network = keras.Model(window, keras.layers.Dense(_FEATURES)(keras.layers.Dense(3)(window)))
    basis = vibration["basis"]
    network.set_weights([basis, np.zeros(3), basis.T, np.zeros(_FEATURES)])
    return converted(network, vibration["x_train"], name="autoencoder")


@pytest.fixture(scope="module")
def distance(vibration: dict[str, np.ndarray], converted: Callable[..., Path]) -> Path:
    """A file that puts out one number itself: how much of a window lies off the plane."""
    off = np.eye(_FEATURES, dtype=np.float32) - vibration["basis"] @ vibration["basis"].T
    window = keras.Input((_FEATURES,))
    parts = keras.layers.ReLU()(keras.layers.Dense(2 * _FEATURES)(window))
    network = keras.Model(window, keras.layers.Dense(1)(parts))
    network.set_weights([np.hstack([off, -off]), np.zeros(2 * _FEATURES), np.ones((2 * _FEATURES, 1)), np.zeros(1)])
    return converted(network, vibration["x_train"], name="distance")


@pytest.fixture(scope="module")
def sigmoids(vibration: dict[str, np.ndarray], converted: Callable[..., Path]) -> Path:
    """Three labels: whether each coordinate in the plane is positive."""
    window = keras.Input((_FEATURES,))
    network = keras.Model(window, keras.layers.Dense(3, activation="sigmoid")(window))
    network.set_weights([4 * vibration["basis"], np.zeros(3)])
    return converted(network, vibration["x_train"], name="sigmoids")


@pytest.fixture(scope="module")
def labelled(vibration: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("labels") / "labels.npz"
    x = vibration["x_test"]
    np.savez(path, x_test=x, y_test=(x @ vibration["basis"] > 0).astype(np.float32))
    return path


def _attacked(model: Path, data: Path, folder: Path, **options: object) -> RobustnessRecord:
    (folder / "one.toml").write_text(_APGD)
    options = {"protocol": str(folder / "one.toml"), "epsilons": (0.01, 0.05), "samples": 60, **options}
    return tinyrobust.attack(model, data=str(data), output=folder / "out", **options)


def _error(model: Path, x: np.ndarray) -> np.ndarray:
    """Mean squared reconstruction errors, from the file's own integers."""
    parts = artefact.read(model)
    file = Int8Model(model)
    inputs = file.quantized(x)
    seen, made = (
        (raw.astype(np.float64) - tensor.zero_points[0]) * tensor.scales[0]
        for raw, tensor in ((inputs, parts.tensors[parts.inputs[0]]), (file.run(inputs), parts.tensors[parts.outputs[0]]))
    )
    return np.mean(np.square(seen - made), axis=1)


def test_an_anomaly_is_what_few_normal_inputs_exceed(autoencoder: Path, data: Path, vibration: dict[str, np.ndarray]) -> None:
    read = read_inputs(autoencoder, data, None, None, _RECONSTRUCTION)
    reading, errors = read.reading, _error(autoencoder, vibration["x_train"])
    assert isinstance(reading, Anomaly)
    assert reading.normals == 200
    assert np.mean(errors > reading.threshold * (1 + 1e-4)) <= 0.05 < np.mean(errors >= reading.threshold * (1 - 1e-4)) + 0.006
    assert any("at most 5 % of 200 normal inputs" in note for note in read.notes)
    x = vibration["x_test"]
    named = Int8Model(autoencoder, read_as=reading).predict(x).argmax(axis=1)
    clear = np.abs(_error(autoencoder, x) / reading.threshold - 1) > 1e-3  # not where the last digit decides
    np.testing.assert_array_equal(named[clear], (_error(autoencoder, x) > reading.threshold)[clear])


@pytest.mark.parametrize(("file", "score"), [("autoencoder", "reconstruction"), ("distance", "output")])
def test_the_twin_has_the_scores_of_the_file(
    file: str, score: str, data: Path, vibration: dict[str, np.ndarray], request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(file)
    reading = read_inputs(path, data, None, None, Anomaly(score=score)).reading
    x = vibration["x_test"]
    twin = np.asarray(rebuild(path, reading)(x, training=False))
    np.testing.assert_allclose(twin, Int8Model(path, read_as=reading).predict(x), atol=0.3)  # a step of the outputs


def test_what_is_found_under_attack(autoencoder: Path, data: Path, tmp_path: Path, vibration: dict[str, np.ndarray]) -> None:
    record = _attacked(autoencoder, data, tmp_path, reading=_RECONSTRUCTION)
    clean, near, far = record.detection
    errors = _error(autoencoder, vibration["x_test"])
    assert isinstance(record.reading, Anomaly)
    assert [row.epsilon for row in record.detection] == [0.0, 0.01, 0.05]
    assert clean.area is not None
    assert (clean.area.normals, clean.area.anomalies) == (100, 100)
    assert clean.area.value == pytest.approx(roc_auc_score(vibration["y_test"], errors), abs=1e-3)
    for row, epsilon in ((near, 0.01), (far, 0.05)):
        worst = next(worst.robust for worst in record.worst if (worst.target, worst.epsilon) == ("all", epsilon))
        assert row.detected.count + row.false_alarms.n - row.false_alarms.count == worst.count  # the same in other words
    assert far.area.value <= near.area.value < clean.area.value
    assert far.detected.value < clean.detected.value
    assert far.false_alarms.value > clean.false_alarms.value
    assert "unconstrained" not in {check.name for check in record.checks if check.raised}
    assert RobustnessRecord.load(tmp_path / "out" / "robustness.json").detection == record.detection


def test_what_hides_a_score_hides_the_anomaly_too(distance: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "weak.toml").write_text(_APGD.replace("steps = 100", 'norm = "l2"\nsteps = 1'))
    options = {"protocol": str(tmp_path / "weak.toml"), "l2": (0.001,), "epsilons": (0.05,), "samples": 30}
    record = _attacked(distance, data, tmp_path, reading=Anomaly(score="output"), **options)
    clean, far = record.detection
    assert far.area.value < clean.area.value
    assert far.false_alarms.value > clean.false_alarms.value  # though no attack of the protocol has this norm
    worst = next(worst.robust for worst in record.worst if (worst.target, worst.norm) == ("all", "linf"))
    assert far.detected.count + far.false_alarms.n - far.false_alarms.count == worst.count


def test_a_file_that_puts_out_the_score_itself(distance: Path, data: Path, tmp_path: Path) -> None:
    record = _attacked(distance, data, tmp_path, reading=Anomaly(score="output", false_alarms=0.1))
    clean, _, far = record.detection
    assert clean.area.value > 0.9 > far.area.value
    assert clean.false_alarms.value < 0.3


def test_without_training_inputs_every_second_normal_one_sets_the_threshold(
    autoencoder: Path, vibration: dict[str, np.ndarray], tmp_path: Path
) -> None:
    np.savez(tmp_path / "test.npz", x_test=vibration["x_test"], y_test=vibration["y_test"])
    read = read_inputs(autoencoder, tmp_path / "test.npz", None, None, _RECONSTRUCTION)
    assert read.reading.normals == 50
    np.testing.assert_array_equal(np.bincount(read.samples.y), [50, 100])
    assert any("not tested then" in note for note in read.notes)
    np.savez(tmp_path / "few.npz", x_test=vibration["x_test"][80:], y_test=vibration["y_test"][80:])
    with pytest.raises(DataError, match="at least 20 normal inputs"):
        read_inputs(autoencoder, tmp_path / "few.npz", None, None, _RECONSTRUCTION)


def test_other_files_are_refused(autoencoder: Path, distance: Path, sigmoids: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="as many outputs as inputs"):
        check(sigmoids, str(data), _RECONSTRUCTION)
    with pytest.raises(ModelFileError, match="one output, the anomaly score"):
        check(autoencoder, str(data), Anomaly(score="output"))
    with pytest.raises(ModelFileError, match="no probability") as caught:
        check(distance, str(data))
    assert "--anomaly output" in str(caught.value.hint)
    with pytest.raises(ModelFileError, match="one row of sigmoids") as caught:
        check(autoencoder, str(data), Label(index=0))
    assert "--label" in str(caught.value.hint)
    with pytest.raises(ModelFileError, match="a label from 0 to 2"):
        check(sigmoids, str(data), Label(index=3))
    with pytest.raises(TinyRobustError, match=r"but for the inputs of a \.npz"):
        tinyrobust.attack(autoencoder, data="digits", reading=_RECONSTRUCTION, output=tmp_path)


def test_an_autoencoder_may_end_in_sigmoids(data: Path, tmp_path: Path, converted: Callable[..., Path]) -> None:
    window = keras.Input((_FEATURES,))
    network = keras.Model(window, keras.layers.Dense(_FEATURES, activation="sigmoid")(keras.layers.Dense(3)(window)))
    with np.load(data) as arrays:
        own = {name: arrays[name] for name in arrays.files}
    x = 1 / (1 + np.exp(-own["x_test"]))
    path = converted(network, x, name="ends-in-sigmoids")
    np.savez(tmp_path / "unit.npz", x_test=x, y_test=own["y_test"])
    record = _attacked(path, tmp_path / "unit.npz", tmp_path, reading=_RECONSTRUCTION, samples=20, epsilons=(0.05,))
    clean, near = record.detection
    assert near.false_alarms.value > clean.false_alarms.value  # through the sigmoid there are gradients
    np.savez(tmp_path / "map.npz", x_test=x, y_test=np.ones(x.shape, np.int64))
    with pytest.raises(DataError, match="y_test of shape"):
        read_inputs(path, tmp_path / "map.npz", None, None, _RECONSTRUCTION)


@pytest.mark.parametrize("factor", [100, 255])
def test_normal_inputs_in_other_units_set_no_threshold(factor: int, autoencoder: Path, data: Path, tmp_path: Path) -> None:
    with np.load(data) as arrays:
        own = {name: arrays[name] for name in arrays.files}
    np.savez(tmp_path / "other.npz", **{**own, "x_train": own["x_train"] * factor})
    with pytest.raises(DataError, match="x_train in the units of x_test"):
        read_inputs(autoencoder, tmp_path / "other.npz", None, None, _RECONSTRUCTION)


def test_units_of_images_are_told_by_what_a_detector_finds(converted: Callable[..., Path], tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    clean = np.repeat(draw.integers(0, 2, (160, 4)), 4, axis=1).reshape(-1, 4, 4, 1)  # every row is dark or bright
    flipped = np.where(draw.random(clean.shape) < 0.2, 1 - clean, clean)
    y = np.repeat([0, 1], 80)
    x = np.abs(255 * np.where(y.reshape(-1, 1, 1, 1) == 0, clean, flipped) - draw.integers(0, 9, clean.shape)).astype(np.uint8)
    np.savez(tmp_path / "rows.npz", x_test=x, y_test=y)
    image, layers = keras.Input((4, 4, 1)), keras.layers
    rows = layers.Dense(4)(layers.Flatten()(image))
    network = keras.Model(image, layers.Reshape((4, 4, 1))(layers.Dense(16, activation="sigmoid")(rows)))
    of_row = np.kron(np.eye(4), np.ones((4, 1)))
    network.set_weights([of_row / 4, np.full(4, -0.5), of_row.T * 20, np.zeros(16)])
    read = read_inputs(converted(network, name="rows"), tmp_path / "rows.npz", None, None, _RECONSTRUCTION)
    assert read.attacked.units.input_range == (0, 1)  # a float file does not say it


def test_unlabelled_training_inputs_are_not_said_to_be_absent(autoencoder: Path, data: Path, tmp_path: Path) -> None:
    with np.load(data) as arrays:
        own = {name: arrays[name] for name in arrays.files if name != "y_train"}
    np.savez(tmp_path / "unlabelled.npz", **own)
    read = read_inputs(autoencoder, tmp_path / "unlabelled.npz", None, None, _RECONSTRUCTION)
    assert any("no input of x_train has y_train 0" in note for note in read.notes)


def test_a_reconstruction_with_other_axes_is_refused(converted: Callable[..., Path]) -> None:
    image = keras.Input((4, 6, 3))
    network = keras.Model(image, keras.layers.Permute((3, 1, 2))(keras.layers.Conv2D(3, 1)(image)))
    path = converted(network, np.random.default_rng(0).random((20, 4, 6, 3), np.float32), name="turned")
    with pytest.raises(ModelFileError, match="axes of the input"):
        Int8Model(path, read_as=_RECONSTRUCTION)


def test_an_autoencoder_that_is_taken_for_a_classifier_is_told_the_remedy(
    autoencoder: Path, data: Path, tmp_path: Path
) -> None:
    record = _attacked(autoencoder, data, tmp_path, samples=10, epsilons=(0.01,))
    assert record.headline is None
    raised = {check.name: check.explanation for check in record.checks if check.raised}
    assert "--anomaly reconstruction" in raised["no-classifier"]
    assert record.detection == []


def test_a_share_of_false_alarms_needs_an_anomaly_score(autoencoder: Path, data: Path) -> None:
    answer = CliRunner().invoke(app, ["attack", str(autoencoder), "--data", str(data), "--false-alarms", "0.1"])
    assert isinstance(answer.exception, RecipeError)
    assert "--anomaly" in str(answer.exception)


def test_what_is_no_reconstruction_has_no_headline(
    vibration: dict[str, np.ndarray], data: Path, converted: Callable[..., Path], tmp_path: Path
) -> None:
    window = keras.Input((_FEATURES,))
    network = keras.Model(window, keras.layers.Dense(_FEATURES)(window))
    network.set_weights([-np.eye(_FEATURES, dtype=np.float32), np.zeros(_FEATURES)])
    record = _attacked(converted(network, vibration["x_train"]), data, tmp_path, reading=_RECONSTRUCTION, samples=10)
    assert record.headline is None
    raised = {check.name: check for check in record.checks if check.raised}
    assert raised["no-classifier"].figures["explained"] == pytest.approx(-3, abs=0.1)


def test_data_of_one_kind_are_remarked(autoencoder: Path, vibration: dict[str, np.ndarray], tmp_path: Path) -> None:
    arrays = {"x_train": vibration["x_train"], "y_train": np.zeros(200, np.int64)}
    np.savez(tmp_path / "one.npz", x_test=vibration["x_test"][100:], y_test=np.ones(100, np.int64), **arrays)
    record = _attacked(autoencoder, tmp_path / "one.npz", tmp_path, reading=_RECONSTRUCTION, samples=10, epsilons=(0.01,))
    assert any("All test samples have the label 1" in note for note in record.notes)
    assert [(row.false_alarms, row.area) for row in record.detection] == [(None, None)] * 2
    assert record.detection[0].detected is not None


def test_every_label_is_a_figure_of_its_own(
    sigmoids: Path, labelled: Path, tmp_path: Path, vibration: dict[str, np.ndarray]
) -> None:
    assert every_label(sigmoids, str(labelled)) == [0, 1, 2]
    (tmp_path / "one.toml").write_text(_APGD)
    options = [
        "--protocol",
        str(tmp_path / "one.toml"),
        "--epsilon",
        "0.05",
        "--samples",
        "30",
        "--output",
        str(tmp_path / "o"),
    ]
    answer = CliRunner().invoke(app, ["attack", str(sigmoids), "--data", str(labelled), *options, "--json"])
    assert answer.exit_code == 0, answer.output
    records = [RobustnessRecord.model_validate(record) for record in json.loads(answer.stdout)]
    assert [record.reading for record in records] == [Label(index=index) for index in range(3)]
    outputs = Int8Model(sigmoids).predict(vibration["x_test"])
    truth = vibration["x_test"] @ vibration["basis"] > 0
    for index, record in enumerate(records):
        right = int(((outputs[:, index] > 0.5) == truth[:, index]).sum())
        assert record.clean[0].test.count == pytest.approx(right, abs=1)  # one half is no answer
        assert record.worst[-1].robust.value < record.clean[0].test.value
        assert (tmp_path / "o" / f"label-{index}" / "robustness.json").is_file()


def test_one_label_of_several(sigmoids: Path, labelled: Path, vibration: dict[str, np.ndarray], tmp_path: Path) -> None:
    truth = vibration["x_test"] @ vibration["basis"] > 0
    read = read_inputs(sigmoids, labelled, None, None, Label(index=1))
    np.testing.assert_array_equal(read.samples.y, truth[:, 1])
    np.savez(tmp_path / "one.npz", x_test=vibration["x_test"], y_test=truth[:, 2].astype(int))
    alone = read_inputs(sigmoids, tmp_path / "one.npz", None, None, Label(index=2))
    np.testing.assert_array_equal(alone.samples.y, truth[:, 2])
    reading = Label(index=2)
    twin = np.asarray(rebuild(sigmoids, reading)(vibration["x_test"], training=False))
    file = Int8Model(sigmoids, read_as=reading)
    np.testing.assert_allclose(twin, file.logits(file.quantized(vibration["x_test"])), atol=0.2)


def test_the_area_under_the_curve() -> None:
    draw = np.random.default_rng(1)
    labels = np.repeat([0, 1], [40, 25])
    scores = (draw.normal(size=65) + labels).round(1).astype(np.float32)  # rounded: some tie
    found = area(scores, labels)
    assert found is not None
    assert found.value == pytest.approx(roc_auc_score(labels, scores))
    assert found.low < found.value < found.high
    perfect = area(labels.astype(np.float32), labels)
    assert perfect is not None
    assert perfect.value == perfect.high == 1
    assert 0.8 < perfect.low < 1  # of 40 and 25, nobody knows that it is 1
    assert area(scores, np.zeros(65, np.int64)) is None


def test_the_interval_of_an_area_holds_what_it_promises() -> None:
    draw = np.random.default_rng(2)
    labels, true = np.repeat([0, 1], 30), 0.7602  # of two normal distributions one standard deviation apart
    found = [area((draw.normal(size=60) + labels).astype(np.float32), labels) for _ in range(400)]
    assert 0.92 <= np.mean([one.low <= true <= one.high for one in found if one]) <= 0.98
