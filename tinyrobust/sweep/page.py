"""sweep.html: the comparison on one page that needs nothing from anywhere else."""

from jinja2 import ChoiceLoader, PackageLoader

from tinyrobust._version import __version__
from tinyrobust.reports.report import environment
from tinyrobust.sweep import pareto
from tinyrobust.sweep.columns import COLUMNS
from tinyrobust.sweep.compare import spread, written
from tinyrobust.sweep.record import SweepRecord


def page(record: SweepRecord) -> str:
    """The comparison as HTML, in the style of a run's report."""
    found = environment()
    found.loader = ChoiceLoader([PackageLoader("tinyrobust.sweep"), PackageLoader("tinyrobust.reports")])
    units = {name: COLUMNS[name].unit for name in record.columns}
    template = found.get_template("sweep.html.j2")
    values = {"sweep": record, "units": units, "written": written, "spread": spread, "pareto": pareto.plot(record)}
    return template.render(**values, version=__version__)
