"""report.html: one run on one page that needs nothing from anywhere else, and reads well in light, dark and print."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tinyrobust import files
from tinyrobust._version import __version__
from tinyrobust.reports import beside, confusion, corruptions, formats, information, plots, tables, tradeoff
from tinyrobust.reports.amplification import error_amplification
from tinyrobust.reports.evidence import Evidence, gather
from tinyrobust.reports.facts import RunFacts
from tinyrobust.robustness.robustness_record import RobustnessRecord


def render(folder: Path, run: RunFacts) -> Path:
    """Writes `report.html` into a run folder from the records that are there.

    A section whose record is missing says so in a sentence. The same records give the same page, byte for byte.

    Args:
        folder: The run folder.
        run: What the records do not say.

    Returns:
        The path of the page.

    Raises:
        RunFolderError: A record cannot be read, or the page cannot be written.
    """
    evidence = gather(folder, run)
    page = (
        environment()
        .get_template("report.html.j2")
        .render(
            e=evidence,
            run=evidence.run,
            tables=tables,
            beside=beside,
            confusion=confusion,
            corruptions=corruptions,
            legend=plots.attack_legend,
            plots=_plots(evidence),
            version=__version__,
        )
    )
    path = folder / "report.html"
    files.write_atomic(path, page)
    return path


def environment() -> Environment:
    """The templates of this room: everything is escaped unless it is marked as safe, and a misspelt name is an error."""
    found = Environment(
        loader=PackageLoader("tinyrobust.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(formats.FILTERS)
    return found


def _plots(evidence: Evidence) -> dict[str, Any]:
    run, footprint, robustness = evidence.run, evidence.footprint, evidence.robustness
    classes = len(run.data.classes) if run.data else None
    return {
        "security": _security(robustness, classes),
        "beside": beside.curves(run.name, robustness, evidence.beside) if robustness and evidence.beside else None,
        "waveform": _security(evidence.waveform, classes),
        "amplification": error_amplification(evidence.amplification) if evidence.amplification else None,
        "information": information.plots(evidence.information) if evidence.information else [],
        "tradeoff": tradeoff.tradeoff_curve(evidence.detection) if evidence.detection else None,
        "training": plots.training(evidence.history, run.recipe),
        "phases": plots.has_phases(run.recipe),
        "teacher": plots.float_network(evidence.teacher, "teacher"),
        "start": plots.float_network(evidence.start, "start"),
        "footprint": [plots.weights_by_layer(footprint), plots.ram_by_layer(footprint)] if footprint else [],
        "arena": [plots.arena_timeline(footprint)] if footprint else [],
        "parity": [plots.parity_by_layer(evidence.parity)] if evidence.parity else [],
    }


def _security(record: RobustnessRecord | None, classes: int | None) -> list[Markup]:
    """A curve for every target in every norm that has radii; a shift in time has a row in the table only."""
    if record is None:
        return []
    return [
        plots.security_curve(record, target, norm, classes)
        for norm in tables.measured(record)
        if norm != "shift"
        for target in tables.targets(record)
    ]
