"""How figures look in a terminal of 80 columns."""

from collections.abc import Iterable, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from tinyrobust.robustness.corruption_record import MeanShare
from tinyrobust.robustness.robustness_record import Proportion, decibels


def percent(share: Proportion | MeanShare | None) -> str:
    """A proportion with n and its 95 % interval: `96.7 % (n = 360, 94.3 to 98.1)`; `none` where checks withhold it."""
    if share is None:
        return "none"
    return f"{100 * share.value:.1f} % (n = {share.n}, {100 * share.low:.1f} to {100 * share.high:.1f})"


def radius(norm: str, epsilon: float) -> str:
    """A radius with its norm, where that is not L-inf: `0.03137`, `l2 0.5`, `20 dB`, `50 ms`."""
    if norm == "snr":
        return f"{decibels(epsilon):.4g} dB"
    if norm == "shift":
        return f"{epsilon:.4g} ms"
    return f"{epsilon:.4g}" if norm == "linf" else f"{norm} {epsilon:.4g}"


def kib(count: int) -> str:
    """Bytes as binary kilobytes, the unit of data sheets: `54.5`, `1,024`."""
    return f"{count / 1024:,.1f}".removesuffix(".0")


def table(title: str, columns: str, rows: Iterable[Sequence[object]], header: Sequence[str] = ()) -> Table:
    """A table without vertical lines; cells are plain text.

    Args:
        title: The line above it.
        columns: A letter a column: "l" left, "r" right, both kept on one line; "t" text that may wrap.
        rows: The cells.
        header: The names of the columns; none are shown when empty.
    """
    drawn = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_header=bool(header),
        padding=(0, 1, 0, 0),
    )
    for index, kind in enumerate(columns):
        name = header[index] if header else ""
        drawn.add_column(name, justify="right" if kind == "r" else "left", overflow="fold", no_wrap=kind != "t")
    for row in rows:
        drawn.add_row(*(Text(str(cell)) for cell in row))
    return drawn
