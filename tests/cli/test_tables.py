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
