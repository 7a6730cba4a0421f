"""Corruptions on a page: accuracy against severity, a line a corruption."""

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from tinyrobust.reports import formats, svg
from tinyrobust.robustness.corruption_record import CorruptionMean, CorruptionRecord

# More corruptions than colors: the second round of them is dashed.
_STYLES = ("-", (0, (4, 2)))


def curves(record: CorruptionRecord, place: int) -> list[Markup]:
    """A plot for each target of the record that is shown at this place on the page."""
    return [_curve(record, mean, place) for mean in record.means]


def legend(record: CorruptionRecord) -> list[tuple[str, int, str, bool]]:
    """What the lines look like: name, number of the color (from 1), outline of the marker, whether dashed."""
    return [
        (name, 1 + number % len(svg.SERIES), svg.OUTLINES[number % len(svg.OUTLINES)], number >= len(svg.SERIES))
        for number, name in enumerate(record.means[0].by_corruption)
    ]


def _curve(record: CorruptionRecord, mean: CorruptionMean, place: int) -> Markup:
    def paint(axes: Axes) -> None:
        for number, name in enumerate(mean.by_corruption):
            found = {severity: record.accuracy(mean.target, name, severity) for severity in record.severities}
            shares = {0: mean.clean.value, **{severity: share.value for severity, share in found.items() if share}}
            axes.plot(
                list(shares),
                list(shares.values()),
                color=svg.SERIES[number % len(svg.SERIES)],
                marker=svg.MARKERS[number % len(svg.MARKERS)],
                linestyle=_STYLES[number // len(svg.SERIES) % len(_STYLES)],
                markersize=4.5,
                linewidth=1.3,
            )
        axes.axhline(mean.mean.value, color=svg.INK, linewidth=1.2, linestyle=(0, (1, 2.5)))
        axes.annotate("mean", (0, mean.mean.value), (0, 3), textcoords="offset points", color=svg.MUTED, size=10)
        axes.set(title=mean.target, xlabel="severity", ylabel="accuracy", ylim=(-0.02, 1.02))
        axes.set_xticks([0, *record.severities], ["none", *map(str, record.severities)])
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))

    title = f"Accuracy of {mean.target} by severity of corruption. Mean: {formats.percent(mean.mean.value)}."
    return svg.draw(f"corruptions-{place}-{mean.target}", title, paint, height=310)
