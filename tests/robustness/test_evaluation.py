import numpy as np
import pytest

from tinyrobust.data.arrays import scale
from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.errors import DataError, TinyRobustError
from tinyrobust.robustness.bounds import inside
from tinyrobust.robustness.robustness_record import RobustnessRecord

_TINY = {"epsilons": (0.1,), "samples": 10}
_EPSILONS = (0.05, 0.1, 0.2, 0.3)
_FGSM = {"name": "fgsm", "kind": "fgsm", "transfer_to": ["int8"]}
_PGD = {"name": "pgd", "kind": "pgd", "steps": 10, "relative_step": 0.25, "random_starts": 1, "transfer_to": ["int8"]}
_SQUARE = {"name": "square", "kind": "square", "on": "keras", "iterations": 100, "restarts": 1, "initial_share": 0.8}
_SQUARE_INT8 = {**_SQUARE, "name": "square-int8", "on": "int8"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("evaluation")


@pytest.fixture(scope="module")
def record(digits_net, folder, evaluated) -> RobustnessRecord:
    return evaluated(digits_net, folder, attacks=[_FGSM, _PGD, _SQUARE, _SQUARE_INT8])


def _robust(record, attack, target) -> list[float]:
    return [row.robust.value for row in record.attacks if (row.attack, row.target) == (attack, target)]


def _worst(record, target) -> list[float]:
    return [row.robust.value for row in record.worst if row.target == target]


def test_an_undefended_network_is_right_and_falls(record) -> None:
    assert all(clean.test.value > 0.95 and clean.test.n == 597 and clean.attacked.n == 100 for clean in record.clean)
    assert _robust(record, "pgd", "keras")[-1] <= 0.02
    assert _robust(record, "pgd", "int8")[-1] <= 0.05


def test_the_confusion_matrix_counts_the_whole_test_set(record, digits_net) -> None:
    predicted = Int8Model(digits_net.tflite).predict(scale(digits_net.x)).argmax(axis=1)
    for true in range(10):
        assert record.confusion[true] == np.bincount(predicted[digits_net.y == true], minlength=10).tolist()
    int8 = next(row for row in record.clean if row.target == "int8")
    assert np.trace(record.confusion) == int8.test.count


def test_square_breaks_samples_of_the_file_itself(record) -> None:
    assert _robust(record, "square-int8", "int8")[-1] < 0.3


def test_the_worst_case_is_at_most_every_attack_and_never_rises(record) -> None:
    for target in ("keras", "int8"):
        worst = _worst(record, target)
        assert worst == sorted(worst, reverse=True)
        for row in record.attacks:
            if row.target == target:
                assert worst[_EPSILONS.index(row.epsilon)] <= row.robust.value
    assert all(a <= min(k, i) for a, k, i in zip(*(_worst(record, t) for t in ("all", "keras", "int8")), strict=True))


def test_the_headline_is_the_worst_case_of_all(record) -> None:
    assert record.headline == record.worst[[(w.target, w.epsilon) for w in record.worst].index(("all", 0.1))].robust
    assert record.headline.low < record.headline.value < record.headline.high


def test_no_example_leaves_its_ball(record) -> None:
    assert all(0 < row.largest_distance <= row.epsilon + 1e-6 for row in record.attacks)
    assert all(row.queries > 0 for row in record.attacks if row.crafted_on == row.target)


def test_the_record_is_written_and_reads_back(record, folder) -> None:
    assert RobustnessRecord.load(folder / "robustness.json") == record
    assert {path.name for path in folder.iterdir()} == {"attacks", "per_sample.npz", "robustness.json"}


def test_per_sample_results_give_the_record_again(record, folder, digits_net) -> None:
    with np.load(folder / "per_sample.npz", allow_pickle=False) as arrays:
        found = dict(arrays)
    np.testing.assert_array_equal(found["label"], digits_net.y[found["index"]])
    right = {target: found[f"clean/{target}"] == found["label"] for target in ("keras", "int8")}
    for row in record.attacks:
        predicted = found[f"predicted/{row.attack}/{row.target}"][_EPSILONS.index(row.epsilon)]
        assert int((right[row.target] & (predicted == found["label"])).sum()) == row.robust.count
        assert found[f"distance/{row.attack}/linf"][found[f"given/{row.attack}"]].max() <= 0.3 + 1e-6
    minimal = np.minimum(found["minimal/keras/linf"], found["minimal/int8/linf"])
    assert int((minimal > 0.1 + 1e-5).sum()) == record.headline.count
    shown = found["example/adversarial"]
    assert shown.shape == (8, 8, 8, 1)
    assert (found["example/predicted"] != found["example/label"]).all()
    assert np.abs(shown - found["example/image"] / 255).max() <= found["example/epsilon"] + 1e-6


def test_equal_seeds_give_equal_results(digits_net, folder, record, tmp_path, evaluated) -> None:
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    again = evaluated(digits_net, tmp_path, attacks=[_FGSM, _PGD, _SQUARE, _SQUARE_INT8])
    assert (np.random.get_state()[1] == state).all(), "the caller's generator was left changed"  # noqa: NPY002
    first, second = (np.load(path / "per_sample.npz", allow_pickle=False) for path in (folder, tmp_path))
    assert set(first) == set(second)
    for key in first:
        np.testing.assert_array_equal(first[key], second[key], err_msg=key)
    times = {"seconds": True, "attacks": {"__all__": {"seconds"}}}
    assert again.model_dump(exclude=times) == record.model_dump(exclude=times)


def test_another_seed_attacks_other_samples(digits_net, folder, tmp_path, evaluated) -> None:
    evaluated(digits_net, tmp_path, attacks=[_FGSM], seed=4)
    first, second = (np.load(path / "per_sample.npz", allow_pickle=False)["index"] for path in (folder, tmp_path))
    assert (first != second).any()


def test_an_attack_draws_the_same_whatever_else_is_listed(digits_net, record, tmp_path, evaluated) -> None:
    alone = evaluated(digits_net, tmp_path, attacks=[_SQUARE_INT8], settings={"epsilons": (0.1,)})
    assert _robust(alone, "square-int8", "int8")[0] == _robust(record, "square-int8", "int8")[1]


def test_a_strangers_file_is_attacked_through_a_twin(digits_net, tmp_path, evaluated) -> None:
    attacks = [_FGSM, _PGD, _SQUARE_INT8]
    record = evaluated(digits_net, tmp_path, attacks=attacks, networks=(), settings={"samples": 30})
    assert {row.attack for row in record.attacks} == {"fgsm", "pgd", "square-int8"}
    assert {row.crafted_on for row in record.attacks} == {"twin", "int8"}
    assert [clean.target for clean in record.clean] == ["int8"]
    assert "rebuilt from the file" in record.notes[0]


def test_more_samples_than_there_are_means_all(digits_net, tmp_path, evaluated) -> None:
    x, y = digits_net.x[:40], digits_net.y[:40]
    assert evaluated(digits_net, tmp_path, attacks=[_FGSM], samples=x, labels=y).samples == 40


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"samples": np.zeros((5, 32, 32, 3), np.uint8)}, r"Expected uint8 images of shape \(8, 8, 1\)"),
        ({"samples": np.zeros((597, 8, 8, 1), np.float32)}, "Received: float32"),
        ({"labels": np.full(597, 10)}, "labels .* from 0 to 9"),
        ({"labels": np.zeros(3, np.int64)}, "Expected 597 labels"),
    ],
)
def test_data_that_do_not_fit_are_refused(change, expected, digits_net, tmp_path, evaluated) -> None:
    with pytest.raises(DataError, match=expected):
        evaluated(digits_net, tmp_path, attacks=[_FGSM], **change)


def test_an_attack_that_leaves_its_ball_is_an_error() -> None:
    x = np.full((2, 4, 4, 1), 0.5, np.float32)
    with pytest.raises(TinyRobustError, match="left its bounds"):
        inside(x + np.float32(0.2), x, 0.1, "linf", "broken")
    with pytest.raises(TinyRobustError, match="left its bounds"):
        inside(x * np.nan, x, 0.1, "linf", "broken")
    assert np.abs(inside(x + np.float32(0.1 + 5e-7), x, 0.1, "linf", "fine") - x).max() <= 0.1 + 1e-7


def test_an_honest_network_raises_no_check(record) -> None:
    assert record.reliable
    assert record.warnings == []


def test_a_radius_at_which_nothing_breaks(digits_net, tmp_path, evaluated) -> None:
    record = evaluated(digits_net, tmp_path, attacks=[_FGSM, _PGD], settings={"epsilons": (1e-5,), "headline": 1e-5})
    assert record.headline.count == min(clean.attacked.count for clean in record.clean)
    assert [row.largest_distance for row in record.attacks] == [0.0] * 4
    with np.load(tmp_path / "per_sample.npz", allow_pickle=False) as arrays:
        assert arrays["example/adversarial"].shape == (0, 8, 8, 1)
    assert "0 examples were looked at again" in next(c.explanation for c in record.checks if c.name == "no-examples")


def test_a_model_that_is_never_right(digits_net, tmp_path, evaluated) -> None:
    record = evaluated(digits_net, tmp_path, attacks=[_PGD, _SQUARE_INT8], labels=(digits_net.y + 5) % 10, settings=_TINY)
    assert record.headline is None
    assert {"at-chance", "permuted-classes"} <= {check.name for check in record.checks if check.raised}
    assert next(row for row in record.worst if row.target == "all").robust.value < 0.2
    assert np.isfinite([row.robust.value for row in record.attacks]).all()


def test_progress_is_told(digits_net, tmp_path, evaluated) -> None:
    told = []
    evaluated(digits_net, tmp_path, attacks=[_FGSM], progress=lambda *news: told.append(news))
    assert ("attack: fgsm at epsilon 0.05", 0, 4) in told
    assert ("attack: done", 4, 4) in told
