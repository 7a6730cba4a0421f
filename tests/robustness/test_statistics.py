import math

import pytest

from tinyrobust.robustness.statistics import wilson


@pytest.mark.parametrize(
    ("count", "n", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (5, 10, 0.2366, 0.7634),
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, Table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_known_intervals(count: int, n: int, low: float, high: float) -> None:
    found = wilson(count, n)
    assert (found.count, found.n, found.value) == (count, n, count / n)
    assert found.low == pytest.approx(low, abs=5e-5)
    assert found.high == pytest.approx(high, abs=5e-5)


@pytest.mark.parametrize(("count", "n"), [(-1, 5), (6, 5), (0, 0)])
def test_what_is_no_proportion_is_refused(count: int, n: int) -> None:
    with pytest.raises(ValueError, match="Expected 0 <= count <= n"):
        wilson(count, n)


def _by_hand(count: int, n: int) -> tuple[float, float]:
    """Wilson 1927, equation 4; no and all samples have an interval that ends there."""
    z, share = 1.959963984540054, count / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return 0.0 if count == 0 else centre - half, 1.0 if count == n else centre + half


@pytest.mark.parametrize("n", [1, 2, 3, 7, 48, 200, 597, 10_000])
def test_it_is_the_formula_to_the_last_digits(n: int) -> None:
    for count in {0, 1, n // 3, n // 2, n - 1, n}:
        found = wilson(count, n)
        assert (found.low, found.high) == pytest.approx(_by_hand(count, n), abs=1e-12, rel=0)
    assert (wilson(0, n).low, wilson(n, n).high) == (0.0, 1.0)
