"""How figures look in a terminal."""

from collections.abc import Iterable, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from tinyrobust.robustness.record import Proportion


def percent(share: Proportion) -> str:
    """A proportion with n and its 95 % interval: `96.7 % (n = 360, 94.3 to 98.1)`."""
    return f"{100 * share.value:.1f} % (n = {share.n}, {100 * share.low:.1f} to {100 * share.high:.1f})"


def size(count: int) -> str:
    """Bytes, with kilobytes (1,000 B) where that reads better: `51,120 B`."""
    return f"{count:,} B"


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], header: Sequence[str] = ()) -> Table:
    """A table without vertical lines. `columns` are justifications ("" or "right"); cells are plain text."""
    drawn = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_header=bool(header))
    for index, justify in enumerate(columns):
        drawn.add_column(header[index] if header else "", justify="right" if justify == "right" else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(str(cell)) for cell in row))
    return drawn
