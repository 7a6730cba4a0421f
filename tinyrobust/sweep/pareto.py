"""Cost against gain: which rows of a comparison no other row beats in both, and the plot of them."""

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from tinyrobust.reports import svg
from tinyrobust.sweep.columns import named
from tinyrobust.sweep.compare import written
from tinyrobust.sweep.sweep_record import SweepRecord

_SHORT = 24  # letters of a label


def front(points: list[tuple[float, float]]) -> list[int]:
    """The Pareto front: the (cost, gain) that no other point beats in one without losing in the other; sorted."""

    def beaten(cost: float, gain: float) -> bool:
        return any(c <= cost and g >= gain and (c, g) != (cost, gain) for c, g in points)

    kept = [index for index, point in enumerate(points) if not beaten(*point)]
    return sorted(kept, key=lambda index: points[index])


def plot(record: SweepRecord) -> Markup | None:
    """Every row as a point with the interval of its gain, the front as a line; None where the sweep asks for none."""
    if record.pareto is None:
        return None
    names, points, cells = [], [], []
    for row in record.rows:
        by_column = {cell.column: cell for cell in row.cells}
        cost, gain = (by_column[name] for name in record.pareto)
        if cost.mean is not None and gain.mean is not None:
            names.append(", ".join(row.labels.values()))
            points.append((cost.mean, gain.mean))
            cells.append(gain)
    if not points:
        return None
    best = front(points)
    cost_column, gain_column = (named(name) for name in record.pareto)

    def paint(axes: Axes) -> None:
        line = [points[index] for index in best]
        axes.plot(*zip(*line, strict=True), color=svg.SERIES[0], linewidth=1.4, drawstyle="steps-post")
        for index, ((cost, gain), cell) in enumerate(zip(points, cells, strict=True)):
            color = svg.SERIES[0] if index in best else svg.MUTED
            if cell.low is not None and cell.high is not None:
                axes.plot([cost, cost], [cell.low, cell.high], color=color, linewidth=1)
            axes.plot([cost], [gain], svg.MARKERS[0], color=color, markersize=6)
            label = names[index] if len(names[index]) <= _SHORT else names[index][: _SHORT - 1] + "…"
            axes.annotate(label, (cost, gain), (5, -11), textcoords="offset points", size=9.5, color=svg.INK)
        axes.margins(x=0.12, y=0.12)
        axes.set(xlabel=cost_column.title, ylabel=gain_column.title)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda number, _: written(cost_column.unit, max(0.0, number))))
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))

    words = "; ".join(
        f"{names[index]}: {written('share', points[index][1])} at {written(cost_column.unit, points[index][0])}"
        for index in best
    )
    return svg.draw(
        "pareto", f"{gain_column.title} against {cost_column.title}. On the Pareto front: {words}.", paint, height=330
    )
