"""Tables in a terminal of 80 columns lose no figure."""

import io

from rich.console import Console

from tinyrobust.cli.tables import percent, radius, table
from tinyrobust.robustness.statistics import wilson


def test_the_longest_row_of_an_attack_is_whole() -> None:
    share = percent(wilson(8703, 10_000))
    row = ("ensemble", "apgd-ce-temperature on keras/T", radius("linf", 2 / 255), share)
    page = io.StringIO()
    Console(file=page, width=80).print(table("model.tflite", "ltrl", [row], ("Target", "Attack", "Epsilon", "Robust accuracy")))
    assert all(cell in page.getvalue() for cell in ("ensemble", "apgd-ce-temperature", "0.007843", share, "Target", "Epsilon"))


def test_radii_have_the_unit_that_people_use() -> None:
    assert [radius("linf", 0.001), radius("snr", 0.1), radius("snr", 10**-1.5), radius("shift", 50.0)] == [
        "0.001",
        "20 dB",
        "30 dB",
        "50 ms",
    ]
