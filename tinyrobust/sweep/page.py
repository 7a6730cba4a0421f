"""The comparison for people: sweep.html, a page that needs nothing from anywhere else, and sweep.md, a table for a README."""

from jinja2 import ChoiceLoader, PackageLoader

from tinyrobust._version import __version__
from tinyrobust.reports import formats
from tinyrobust.reports.report import environment
from tinyrobust.sweep import pareto
from tinyrobust.sweep.columns import named
from tinyrobust.sweep.compare import conditions, spread, written
from tinyrobust.sweep.sweep_record import CellRecord, SweepRecord


def page(record: SweepRecord) -> str:
    """The comparison as HTML, in the style of a run's report."""
    templates = environment()
    templates.loader = ChoiceLoader([PackageLoader("tinyrobust.sweep"), PackageLoader("tinyrobust.reports")])
    units = {name: named(name).unit for name in record.columns}
    template = templates.get_template("sweep.html.j2")
    words = {"written": written, "spread": spread, "conditions": conditions}
    return template.render(sweep=record, units=units, pareto=pareto.plot(record), version=__version__, **words)


def markdown(record: SweepRecord) -> str:
    """The comparison as a Markdown table; how many runs a row has where it is not one."""
    several = any((row.complete, row.jobs) != (1, 1) for row in record.rows)
    header = [*record.rows[0].labels, *record.columns.values(), *(["Runs"] if several else [])]
    lines: list[list[str]] = [[formats.markdown(title) for title in header], ["---"] * len(header)]
    for row in record.rows:
        runs = [f"{row.complete} of {row.jobs}"] if several else []
        lines.append([*map(formats.markdown, row.labels.values()), *map(_said, row.cells), *runs])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _said(cell: CellRecord) -> str:
    unit = named(cell.column).unit
    reference = "" if cell.reference is None else f"; reference {written(unit, cell.reference)}"
    if cell.mean is None:
        return f"-{reference}"
    words = "; ".join(map(formats.markdown, conditions(cell)))
    return f"{written(unit, cell.mean)} {spread(unit, cell)}".rstrip() + (f" ({words})" if words else "") + reference
