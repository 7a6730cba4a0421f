"""An ensemble of draws under attack: the information plane, the detector's ROC curves, and what it looks at."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from tinyrobust.reports import formats, svg
from tinyrobust.robustness.information_record import InformationRecord, PlaneRow

_BINS = 24


def plots(record: InformationRecord) -> list[Markup]:
    """The three plots of a record; none without mutual information."""
    return [plane(record), roc(record), histogram(record)] if record.thresholds else []


def plane(record: InformationRecord) -> Markup:
    """Mean mutual information against accuracy, a point an attack and strength; those of one attack are joined."""
    lines: dict[str, list[PlaneRow]] = {}
    for row in (*record.rows, *record.evasive):
        if row.draws == record.passes:
            lines.setdefault(row.attack, []).append(row)

    def paint(axes: Axes) -> None:
        for number, (name, rows) in enumerate(lines.items()):
            color, marker = (look[number % len(look)] for look in (svg.SERIES, svg.MARKERS))
            shares = [row.accuracy.value for row in rows]
            axes.plot(
                [row.information or 0.0 for row in rows],
                shares,
                color=color,
                marker=marker,
                markersize=5,
                linewidth=1,
                label=name,
            )
        clean = record.clean
        axes.plot([clean.information or 0.0], [clean.accuracy.value], "*", color=svg.INK, markersize=12, label="without attack")
        axes.set(title="Adversarial information plane", xlabel="mutual information, nats a feature", ylabel="accuracy")
        axes.set_ylim(-0.02, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        axes.figure.legend(loc="outside lower center", ncols=3, handlelength=2.0)

    without = formats.percent(record.clean.accuracy.value)
    said = f"Accuracy against mutual information under {', '.join(lines)}; without attack {without}."
    return svg.draw("plane", said, paint, height=340)


def roc(record: InformationRecord) -> Markup:
    """Detected against false alarms at every threshold, a curve an attack at the headline's radius."""
    shown = _at_headline(record)

    def paint(axes: Axes) -> None:
        for number, row in enumerate(shown):
            label = row.attack if row.weight is None else f"{row.attack}, weight {row.weight:g}"
            axes.plot(*curve(record.clean.values, row.values), color=svg.SERIES[number % len(svg.SERIES)], label=label)
        axes.plot([0, 1], [0, 1], color=svg.MUTED, linewidth=0.9)
        axes.set(title="Detector", xlabel="false alarms", ylabel="attacked images detected")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        axes.figure.legend(loc="outside lower center", ncols=2, handlelength=2.0)

    areas = ", ".join(f"{row.attack} {row.area.value:.2f}" for row in shown if row.area)
    return svg.draw("roc", f"Areas under the ROC curve: {areas}.", paint, height=340)


def histogram(record: InformationRecord) -> Markup:
    """Mutual information of the images as they are, and under the attack that breaks most."""
    weakest = record.weakest(record.passes)
    ends = float(np.max([*record.clean.values, *weakest.values], initial=1e-9))

    def paint(axes: Axes) -> None:
        edges = [float(edge) for edge in np.linspace(0, ends, _BINS + 1)]
        named = {"without attack": record.clean.values, weakest.attack: weakest.values}
        for number, (name, values) in enumerate(named.items()):
            axes.hist(values, bins=edges, color=svg.SERIES[number], alpha=0.5, label=name)
        axes.axvline(record.thresholds[-1], color=svg.INK, linewidth=1)
        axes.set(title="Mutual information", xlabel="nats a feature; the line is the last threshold", ylabel="images")
        axes.figure.legend(loc="outside lower center", ncols=2)

    return svg.draw("information", f"Mutual information without attack and under {weakest.attack}.", paint, height=310)


def curve(clean: Sequence[float], attacked: Sequence[float]) -> tuple[list[float], list[float]]:
    """The ROC curve of a detector that alarms above a threshold: shares of false alarms and of detections, from 0 to 1."""
    levels = [np.inf, *sorted({*clean, *attacked}, reverse=True)]
    false = [float(np.mean(np.asarray(clean) >= level)) for level in levels]
    return false, [float(np.mean(np.asarray(attacked) >= level)) for level in levels]


def _at_headline(record: InformationRecord) -> list[PlaneRow]:
    """The rows at the headline's radius, and those of attacks without one, through as many draws as were found enough."""
    rows = [row for row in record.rows if row.draws == record.passes and row.epsilon in (None, record.headline_epsilon)]
    return [*rows, *record.evasive]
