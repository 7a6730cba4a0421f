"""How errors grow on their way through a network."""

from collections.abc import Sequence

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tinyrobust.reports import formats, svg
from tinyrobust.robustness.amplification_record import AmplificationRecord


def error_amplification(record: AmplificationRecord) -> Markup | None:
    """Adversarial and random changes by layer, as multiples of the input's; None where the attack changed nothing."""
    lines = {
        "adversarial": _line([layer.adversarial for layer in record.layers], record.adversarial),
        "random signs": _line([layer.random for layer in record.layers], record.random),
    }
    if not all(lines.values()):
        return None

    def paint(axes: Axes) -> None:
        for number, (name, values) in enumerate(lines.items()):
            places = range(1, len(values) + 1)
            axes.plot(places, values, color=svg.SERIES[number], marker=svg.MARKERS[number], markersize=4, label=name)
        axes.axhline(1, color=svg.MUTED, linewidth=0.9)
        axes.set_yscale("log")
        axes.set(title="Error amplification", xlabel="layer: its row in the table", ylabel="change, times the input's")
        axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: formats.small(value)))
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
        axes.figure.legend(loc="outside lower center", ncols=2, handlelength=2.4)

    ends = ", ".join(f"{name} {formats.small(values[-1])}" for name, values in lines.items())
    return svg.draw("amplification", f"Changes as multiples of the input's; at the logits: {ends}.", paint, height=310)


def _line(inside: Sequence[float | None], last: float | None) -> list[float]:
    """Of the layers and the logits; a change that a layer swallows has no place on a logarithmic axis, and is a gap."""
    values = [value for value in (*inside, last) if value is not None]
    return [value if value > 0 else float("nan") for value in values] if any(values) else []
