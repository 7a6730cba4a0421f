"""The trade-off of a spotter that listens: words that it misses against words that nobody spoke."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup
from matplotlib.ticker import FuncFormatter, PercentFormatter

from tinyrobust.listening.detection_record import DetectionRecord, Measured, Point
from tinyrobust.reports import formats, svg

_DASHED = (0, (4, 2))


def tradeoff_curve(record: DetectionRecord) -> Markup:
    """Missed keywords against false accepts an hour, a point a threshold; the default threshold stands out."""
    test, validation, chosen = record.test, record.validation, record.test.chosen
    # Rates are counts over hours: there is nothing between none and one, so the axis is linear up to one and then logarithmic.
    one = 1 / min(test.material.hours, validation.material.hours)

    def paint(axes: Any) -> None:
        axes.plot(*_line(validation), color=svg.MUTED, linewidth=1.3, linestyle=_DASHED, label=validation.material.part)
        points = _by_rate(test.points)
        xs = [point.false_accepts_per_hour for point in points]
        rates = [point.false_rejects for point in points]
        axes.fill_between(xs, [r.low for r in rates], [r.high for r in rates], color=svg.SERIES[0], alpha=0.15, linewidth=0)
        axes.plot(*_line(test), color=svg.SERIES[0], linewidth=2.2, marker="o", markersize=3.5, label=test.material.part)
        rate, missed = chosen.false_accepts, chosen.false_rejects
        axes.plot([rate.low, rate.high], [missed.value] * 2, color=svg.INK, linewidth=1.4)
        axes.plot([rate.per_hour] * 2, [missed.low, missed.high], color=svg.INK, linewidth=1.4)
        axes.plot([rate.per_hour], [missed.value], "o", color=svg.INK, markersize=7.5)
        label = f"threshold {record.threshold:.3g}"
        axes.annotate(label, (rate.per_hour, missed.value), (9, 7), textcoords="offset points", size=10.5)
        axes.set_xscale("symlog", linthresh=one)
        axes.set_xlim(left=0)
        axes.set_ylim(-0.02, 1.02)
        axes.set(title="Missed words against false alarms", xlabel="false accepts an hour", ylabel="keywords missed")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        axes.figure.legend(loc="outside lower center", ncols=2, handlelength=2.4)

    description = (
        f"Trade-off over {len(test.points)} thresholds. At the default, {record.threshold:.3g}: "
        f"{formats.small(chosen.false_accepts_per_hour)} false accepts an hour, "
        f"{formats.percent(chosen.false_reject_rate)} of the keywords missed."
    )
    return svg.draw("tradeoff", description, paint, height=330)


def _by_rate(points: Sequence[Point]) -> list[Point]:
    return sorted(points, key=lambda point: (point.false_accepts_per_hour, -point.false_reject_rate))


def _line(measured: Measured) -> tuple[list[float], list[float]]:
    points = _by_rate(measured.points)
    return [point.false_accepts_per_hour for point in points], [point.false_reject_rate for point in points]
