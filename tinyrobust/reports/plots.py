"""The plots of a report. Each takes records and returns inline SVG; none of them keeps state."""

import functools
import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator, PercentFormatter

from tinyrobust.attacks.specs import Norm
from tinyrobust.deploy.deploy_records import ParityRecord
from tinyrobust.footprint.footprint_record import FootprintRecord, TensorLifetime
from tinyrobust.recipe import Recipe
from tinyrobust.reports import formats, svg
from tinyrobust.reports.evidence import History
from tinyrobust.reports.tables import attack_names, attack_rows, norm_name, worst_rows
from tinyrobust.robustness.robustness_record import Proportion, RobustnessRecord

_ROW = 19  # height of one horizontal bar
_DASHED = (0, (4, 2))
# Curves of a history that every training has; what else is there is drawn under its own name.
_TITLES = {
    "loss": "Loss",
    "accuracy": "Accuracy",
    "learning_rate": "Learning rate",
    "quantized_fraction": "Quantized channels",
}
_FRACTION = "quantized_fraction"
_NO_CURVES = {"epoch", "seconds", "best_epoch", "rollbacks"}
_Phases = list[tuple[float, float, float]]


def security_curve(record: RobustnessRecord, target: str, norm: Norm, classes: int | None) -> Markup:
    """Robust accuracy of one target against epsilon in one norm: a thin line an attack, the worst case thick with its interval.

    An attack that was crafted on another target is dashed.
    """
    names, epsilons = attack_names(record), record.epsilons[norm]
    # Decibels are shares on a logarithmic scale, which has no place for "no attack": they stand side by side.
    places = list(map(float, range(len(epsilons) + 1))) if norm == "snr" else [0.0, *epsilons]
    headline = norm == record.headline_norm and record.headline_epsilon in epsilons
    marked = places[1 + epsilons.index(record.headline_epsilon)] if headline else None
    clean = next(row.attacked for row in record.clean if row.target == target)
    worst = next((row.cells for row in worst_rows(record, norm) if row.target == target), [])

    def points(cells: Sequence[Proportion | None]) -> tuple[list[float], list[Proportion]]:
        drawn = [(x, share) for x, share in zip(places, [clean, *cells], strict=False) if share]
        return [x for x, _ in drawn], [share for _, share in drawn]

    def paint(axes: Axes) -> None:
        for row in attack_rows(record, norm):
            if row.target == target:
                xs, shares = points(row.cells)
                number = names.index(row.attack) % len(svg.SERIES)
                axes.plot(
                    xs,
                    [share.value for share in shares],
                    color=svg.SERIES[number],
                    marker=svg.MARKERS[number],
                    linestyle="-" if row.crafted_on == target else _DASHED,
                    markersize=4.5,
                    linewidth=1.3,
                )
        xs, shares = points(worst)
        axes.fill_between(xs, [s.low for s in shares], [s.high for s in shares], color=svg.INK, alpha=0.13, linewidth=0)
        axes.plot(xs, [share.value for share in shares], color=svg.INK, linewidth=2.8)
        for x, share in zip(xs, shares, strict=True):
            if x == marked:
                axes.plot([x], [share.value], "o", color=svg.INK, markersize=7.5)
        if classes:
            axes.axhline(1 / classes, color=svg.MUTED, linewidth=1, linestyle=(0, (1, 2.5)))
            axes.annotate("chance", (0, 1 / classes), (0, 3), textcoords="offset points", color=svg.MUTED, size=10)
        unit = "" if norm == "snr" else " epsilon"
        axes.set(title=target, xlabel=f"{norm_name(norm)}{unit}", ylabel="robust accuracy", ylim=(-0.02, 1.02))
        axes.set_xticks(places, ["no attack" if unit == "" else "0", *(_tick(value, norm) for value in epsilons)])
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))

    xs, shares = points(worst)
    labels = {place: _tick(value, norm) for place, value in zip(places[1:], epsilons, strict=True)} | {0.0: "no attack"}
    values = ", ".join(f"{formats.percent(s.value)} at {labels[x]}" for x, s in zip(xs, shares, strict=True))
    title = f"Security curve of {target} in {norm_name(norm)}. Worst case: {values}."
    return svg.draw(f"security-{record.domain}-{target}-{norm}", title, paint, height=310)


def _tick(value: float, norm: Norm) -> str:
    return formats.radius(value, norm).removeprefix("epsilon ")


def attack_legend(record: RobustnessRecord) -> list[tuple[str, int, str]]:
    """What the curves of the attacks look like: name, number of the color (from 1), outline of the marker."""
    numbers = {name: number % len(svg.SERIES) for number, name in enumerate(attack_names(record))}
    return [(name, number + 1, svg.OUTLINES[number]) for name, number in numbers.items()]


def training(history: History, recipe: Recipe) -> list[Markup]:
    """Loss, accuracy, learning rate, quantized fraction and every further curve, with the phases of the schedule shaded."""
    phases = _phases(recipe, history.epochs)
    # The history says in every training which share is quantized; without a schedule it says nothing.
    titles = _titles(history) if phases else {name: title for name, title in _titles(history).items() if name != _FRACTION}
    return [_curve(history, name, title, phases, "training") for name, title in titles.items()]


def float_network(history: History, whose: str) -> list[Markup]:
    """Loss and accuracy of a network that is trained first and not quantized: a teacher, or what training starts from."""
    return [_curve(history, name, _TITLES[name], [], whose) for name in ("loss", "accuracy") if _finite(history.get(name))]


def _titles(history: History) -> dict[str, str]:
    """The curves to draw, by name; a validation curve is drawn into the plot of its training curve."""
    further = [name for name in history.curves if name not in _TITLES and name not in _NO_CURVES]
    own = [name for name in further if not (name.startswith("val_") and name.removeprefix("val_") in history.curves)]
    # An only objective with weight 1 is the loss.
    own = [name for name in own if not np.allclose(history.get(name), history.get("loss"), rtol=1e-6, equal_nan=True)]
    return {name: title for name, title in (_TITLES | {name: name for name in own}).items() if _finite(history.get(name))}


def _finite(values: Sequence[float]) -> bool:
    return any(math.isfinite(value) for value in values)


def has_phases(recipe: Recipe) -> bool:
    """Whether the recipe has quantizers that change in the course of training."""
    return bool(recipe.precision.phases)


def _phases(recipe: Recipe, epochs: int) -> _Phases:
    """From, to (in epochs) and fraction of every phase; none for a recipe without such quantizers."""
    starts = [start * epochs for start, _ in recipe.precision.phases]
    fractions = [fraction for _, fraction in recipe.precision.phases]
    return list(zip(starts, [*starts[1:], float(epochs)], fractions, strict=True)) if starts else []


def _curve(history: History, name: str, title: str, phases: _Phases, prefix: str) -> Markup:
    epochs, values = list(range(1, history.epochs + 1)), history.get(name)
    validation = history.get(f"val_{name}")
    marker = "o" if history.epochs <= 12 else ""

    def paint(axes: Axes) -> None:
        plot = functools.partial(axes.plot, epochs, marker=marker, markersize=4, linewidth=1.8)
        _shade(axes, phases)
        if name == _FRACTION:  # holds for a whole epoch
            axes.plot([0, *epochs], [values[0], *values], color=svg.SERIES[0], linewidth=1.8, drawstyle="steps-pre")
        else:
            plot(values, color=svg.SERIES[0], label="training")
        if _finite(validation):
            plot(validation, color=svg.SERIES[1], linestyle=(0, (5, 2)), label="validation")
            axes.figure.legend(loc="outside lower center", ncols=2, handlelength=2.4, columnspacing=1.6)
        axes.set(xlabel="epochs done", xlim=(0, history.epochs * 1.01))
        axes.set_title(title, pad=20 if phases else 10)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        if name in ("accuracy", _FRACTION):
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        if name in ("learning_rate", _FRACTION):
            axes.set_ylim(bottom=0)

    last = [value for value in values if math.isfinite(value)][-1]
    description = f"{title} over {history.epochs} epochs; {formats.small(last)} at the end."
    return svg.draw(f"{prefix}-{name}", description, paint, height=250)


def _shade(axes: Axes, phases: _Phases) -> None:
    """The phases of the stochastic schedule as ever darker bands, the fraction above each."""
    for number, (begin, end, fraction) in enumerate(phases):
        axes.axvspan(begin, end, color=svg.INK, alpha=0.02 + 0.025 * number, linewidth=0)
        axes.annotate(
            f"{100 * fraction:g} %",
            ((begin + end) / 2, 1),
            (0, 3),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            color=svg.MUTED,
            size=9.5,
        )


def weights_by_layer(record: FootprintRecord) -> Markup:
    """Bytes of every layer's weights: as the file stores them, and at the bits their values need."""
    layers = [layer for layer in record.layers if layer.weight_count]
    stored = [layer.weight_bytes for layer in layers]
    packed = [layer.weight_bytes_packed for layer in layers]

    def paint(axes: Axes) -> None:
        axes.barh(range(len(layers)), stored, 0.68, color=svg.SERIES[0], alpha=0.28, label="stored in the file")
        axes.barh(range(len(layers)), packed, 0.68, color=svg.SERIES[0], label="packed to the bits they need")
        _layer_axis(axes, [formats.layer(layer.name) for layer in layers])
        _byte_axis(axes, stored, [f"{formats.size(a)} → {formats.size(b)}" for a, b in zip(stored, packed, strict=True)])
        axes.set_title("Weights by layer")
        axes.figure.legend(loc="outside lower center", ncols=2)

    totals = f"{formats.size(record.weights_stored.value)} stored, {formats.size(record.weights_packed.value)} packed"
    return svg.draw("weights", f"Weights by layer: {totals}.", paint, height=110 + _ROW * len(layers))


def ram_by_layer(record: FootprintRecord) -> Markup:
    """Bytes of arena that are alive while each layer runs; the largest stands out."""
    alive = [layer.arena_bytes for layer in record.layers]

    def paint(axes: Axes) -> None:
        colors = [svg.SERIES[1] if value == max(alive) else svg.SERIES[2] for value in alive]
        axes.barh(range(len(alive)), alive, 0.68, color=colors)
        _layer_axis(axes, [formats.layer(layer.name) for layer in record.layers])
        _byte_axis(axes, alive, [formats.size(value) for value in alive])
        axes.set_title("RAM by layer: alive while it runs")

    return svg.draw("ram", f"RAM by layer, at most {formats.size(max(alive))}.", paint, height=85 + _ROW * len(alive))


def _layer_axis(axes: Axes, names: list[str]) -> None:
    axes.set_yticks(range(len(names)), [_short(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")


def _byte_axis(axes: Axes, values: list[int], labels: list[str]) -> None:
    """Ticks at powers of two, the value behind every bar."""
    end = max(values) * (1.12 + 0.026 * max(map(len, labels)))
    axes.set_xlim(0, end)
    _powers_of_two(axes.xaxis, end)
    for row, (value, label) in enumerate(zip(values, labels, strict=True)):
        axes.annotate(label, (value, row), (5, 0), textcoords="offset points", va="center", color=svg.MUTED, size=9.5)


def _powers_of_two(axis: Axis, end: float) -> None:
    """Three to five steps of a power of two bytes."""
    axis.set_major_locator(MultipleLocator(2 ** math.floor(math.log2(max(end, 3) / 3))))
    axis.set_major_formatter(FuncFormatter(lambda value, _: formats.size(value)))


def _short(name: str, longest: int = 24) -> str:
    """The end of a long name: paths of scopes differ there."""
    return name if len(name) <= longest else "…" + name[-longest + 1 :]


def arena_timeline(record: FootprintRecord) -> Markup:
    """The memory plan: every tensor as a box, its steps across and its bytes upwards."""
    arena = record.arena.value
    begin = min(tensor.first for tensor in record.lifetimes) - 0.5
    end = max(tensor.last for tensor in record.lifetimes) + 0.5

    def paint(axes: Axes) -> None:
        axes.set(xlim=(begin, end), ylim=(0, arena * 1.1))
        for number, tensor in enumerate(record.lifetimes):
            _box(axes, tensor, svg.SERIES[number % len(svg.SERIES)], room=380 / (end - begin), scale=210 / arena)
        axes.axhline(arena, color=svg.INK, linewidth=1.2, linestyle=_DASHED)
        label = f"arena {formats.size(arena)}"
        axes.annotate(label, (end, arena), (0, 4), textcoords="offset points", ha="right", size=10.5)
        axes.set(title="What lies where in the arena", xlabel="step: the layer's number in the table", ylabel="address")
        axes.xaxis.set_major_locator(MaxNLocator(12, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: "input" if value == -1 else f"{value:.0f}"))
        _powers_of_two(axes.yaxis, 1.1 * arena)

    return svg.draw("arena", f"Memory plan of {len(record.lifetimes)} tensors in {formats.size(arena)}.", paint, height=330)


def _box(axes: Axes, tensor: TensorLifetime, color: str, room: float, scale: float) -> None:
    """One tensor; its name is written inside where there is room. `room` and `scale` are pixels a step and a byte."""
    steps = tensor.last - tensor.first + 1
    corner = (tensor.first - 0.5, tensor.offset)
    axes.add_patch(Rectangle(corner, steps, tensor.bytes, facecolor=color, alpha=0.5, edgecolor=svg.SURFACE, linewidth=1))
    name = _short(formats.layer(tensor.name))
    if len(name) * 5.6 < room * steps and tensor.bytes * scale > 13:
        middle = (corner[0] + steps / 2, tensor.offset + tensor.bytes / 2)
        axes.annotate(name, middle, ha="center", va="center", size=9.5)


def parity_by_layer(record: ParityRecord) -> Markup:
    """Relative error of every layer's int8 output against the QKeras model; the worst one stands out."""
    errors = [layer.relative_error for layer in record.layers]

    def paint(axes: Axes) -> None:
        colors = [svg.SERIES[1] if layer.layer == record.worst_layer else svg.SERIES[2] for layer in record.layers]
        axes.barh(range(len(errors)), errors, 0.68, color=colors)
        _layer_axis(axes, [layer.layer for layer in record.layers])
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g} %"))
        axes.set(title="Error of the int8 output by layer", xlabel="RMS error over RMS value")

    return svg.draw("parity", f"Relative error by layer; worst: {record.worst_layer}.", paint, height=95 + _ROW * len(errors))
