"""A surrogate that is learned from a file's answers."""

import numpy as np
import pytest

from tinyrobust.robustness import learned, targets

_SETTINGS = {"epsilons": (0.2,), "headline": 0.2, "samples": 40}
_LEARNED = {"name": "pgd-learned", "kind": "pgd", "on": "learned", "steps": 20, "random_starts": 2, "transfer_to": ["keras"]}


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learned, "_ROUNDS", 2)
    monkeypatch.setattr(learned, "_STEPS", 60)
    monkeypatch.setattr(learned, "_QUESTIONS", 400)


def test_it_names_what_the_file_names_and_is_the_same_again(digits_net) -> None:
    flashed = targets.int8(digits_net.tflite)
    x, others = (digits_net.x[part].astype(np.float32) / 255 for part in (slice(40), slice(40, 300)))
    first, again = (learned.learn(flashed, x, others, (0.1,), 3) for _ in range(2))
    unseen = digits_net.x[300:].astype(np.float32) / 255
    logits = np.asarray(first.model(unseen))
    assert np.mean(logits.argmax(axis=1) == flashed.predict(unseen).argmax(axis=1)) > 0.85
    np.testing.assert_array_equal(np.asarray(again.model(unseen)), logits)
    kept = learned.restored(first.arrays(), (8, 8, 1), 10)
    np.testing.assert_array_equal(np.asarray(kept.model(unseen)), logits)
    assert (kept.agreement, kept.questions) == (first.agreement, first.questions)
    assert not kept.model.trainable_variables


def test_what_is_taught_does_not_depend_on_the_scale() -> None:
    logits = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    np.testing.assert_allclose(learned._taught(1000 * logits + 7), learned._taught(logits), rtol=1e-3, atol=1e-3)
    top = np.sort(learned._taught(logits), axis=1)
    assert np.median(top[:, -1] - top[:, -2]) == pytest.approx(learned._SURE, rel=1e-4)
    assert np.isfinite(learned._taught(np.zeros((5, 4), np.float32))).all()


@pytest.mark.parametrize("shape", [(1, 30, 1), (90, 1, 1), (5, 40, 3), (96, 96, 1)])
def test_inputs_of_any_shape(shape) -> None:
    model = learned._network(shape, 3, 0)
    assert model(np.zeros((2, *shape), np.float32)).shape == (2, 3)
    assert model.count_params() < 300_000


def test_its_examples_are_made_once_and_judged_by_the_file(digits_net, evaluated, tmp_path) -> None:
    arguments = {"attacks": [_LEARNED], "settings": _SETTINGS}
    record = evaluated(digits_net, tmp_path, **arguments)
    rows = {row.target: row for row in record.attacks}
    assert {row.crafted_on for row in rows.values()} == {"learned"}
    assert set(rows) == {"int8", "keras"}
    assert rows["int8"].robust.value < 0.6
    (note,) = [note for note in record.notes if "A surrogate was learned from" in note]
    # A surrogate's gradients do not make a white box.
    assert [check.name for check in record.checks if check.raised] == ["black-box-only"]
    piece = tmp_path / "attacks" / "learned-surrogate.npz"
    made = piece.stat().st_mtime_ns
    (tmp_path / "attacks" / "pgd-learned-0.2-0.npz").unlink()
    again = evaluated(digits_net, tmp_path, **arguments)
    assert piece.stat().st_mtime_ns == made
    assert (again.worst, note in again.notes) == (record.worst, True)
