"""When a word is reported: smoothed as in Chen et al. 2014, once, and never what is not a word."""

import numpy as np
import pytest

from tinyrobust.errors import ModelFileError
from tinyrobust.listening.detector import Detection, Smoother, Trigger, posteriors
from tinyrobust.recipe.listening import Listening

CLASSES = ("up", "down", "unknown", "silence")
SETTINGS = Listening(hop_ms=100, smoothing_ms=300, refractory_ms=1000)


def _rows(*tops: tuple[int, float] | None) -> np.ndarray:
    """A row for each window: so much for a class, the rest for silence."""
    rows = np.zeros((len(tops), 4))
    rows[:, 3] = 1
    for row, top in zip(rows, tops, strict=True):
        if top:
            row[top[0]], row[3] = top[1], 1 - top[1]
    return rows


def _reported(rows: np.ndarray, threshold: float = 0.6, settings: Listening = SETTINGS) -> list[tuple[str, float]]:
    return [(found.word, found.seconds) for found in Trigger(CLASSES, settings, threshold).feed(rows)]


def test_the_smoothed_posterior_is_the_mean_of_the_last() -> None:
    """Equation 1, w_smooth = 3: of the first windows there are fewer to average."""
    random = np.random.default_rng(0)
    rows = random.dirichlet(np.ones(4), 20)
    expected = [rows[max(0, j - 2) : j + 1].mean(axis=0) for j in range(20)]
    smoother = Smoother(SETTINGS)
    smoothed = np.concatenate(
        [smoother.feed(rows[:1]), smoother.feed(rows[1:8]), smoother.feed(rows[8:8]), smoother.feed(rows[8:])]
    )
    np.testing.assert_allclose(smoothed, expected, atol=1e-15)


def test_a_hop_longer_than_the_smoothing_smooths_nothing() -> None:
    rows = _rows((0, 0.9), None, (1, 0.7))
    np.testing.assert_array_equal(Smoother(Listening(hop_ms=500, smoothing_ms=200)).feed(rows), rows)


def test_a_word_is_reported_at_the_end_of_its_window() -> None:
    trigger = Trigger(CLASSES, SETTINGS, 0.6)
    assert trigger.feed(_rows(None, None, (0, 0.5))) == []
    assert trigger.feed(_rows((0, 0.75))) == [Detection("up", 1.3, 0.75)]


def test_the_threshold_is_reached_not_passed() -> None:
    assert _reported(_rows((1, 0.6))) == [("down", 1.0)]
    assert _reported(_rows((1, 0.599))) == []


def test_a_word_that_goes_on_is_one_detection() -> None:
    assert _reported(_rows(*[(0, 0.9)] * 60)) == [("up", 1.0)]


def test_a_word_said_again_is_two_when_its_score_fell_and_time_has_passed() -> None:
    said, quiet = [(0, 0.9)] * 3, [None] * 3
    assert _reported(_rows(*said, *quiet, *said, *quiet)) == [("up", 1.0)]  # 0.6 s later: within the refractory time
    assert _reported(_rows(*said, *quiet * 3, *said)) == [("up", 1.0), ("up", 2.2)]


def test_another_word_waits_for_the_refractory_time() -> None:
    rows = _rows(*[(0, 0.9)] * 5, *[(1, 0.9)] * 10)
    assert _reported(rows) == [("up", 1.0), ("down", 2.0)]
    assert _reported(rows, settings=SETTINGS.model_copy(update={"refractory_ms": 0})) == [("up", 1.0), ("down", 1.5)]


def test_what_is_no_keyword_is_never_reported() -> None:
    assert _reported(_rows(*[(2, 0.99)] * 30, *[(3, 1.0)] * 30)) == []
    # Nor a keyword that is less likely than it, however low the threshold.
    assert _reported(np.tile([0.3, 0.1, 0.5, 0.1], (30, 1)), threshold=0.1) == []


def test_a_file_without_keywords_cannot_listen() -> None:
    with pytest.raises(ModelFileError, match="a class that is a keyword"):
        Trigger(("unknown", "silence"), SETTINGS, 0.5)


def test_posteriors_of_logits_and_of_a_softmax() -> None:
    logits = np.array([[1000.0, 998.0, -50.0]], np.float32)
    np.testing.assert_allclose(posteriors(logits, False), [[0.8808, 0.1192, 0.0]], atol=1e-4)
    given = np.array([[0.25, 0.5, 0.25]], np.float32)
    np.testing.assert_array_equal(posteriors(given, True), given)
