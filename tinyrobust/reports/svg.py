"""matplotlib figures as inline SVG that follows the page's colours, fonts and width, in light and dark."""

import io
import re
from collections.abc import Callable

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Colours are drawn as these stand-ins, and become CSS variables of the page (report.css) in the SVG text.
INK, MUTED, LINE, SURFACE = "#010101", "#010102", "#010103", "#010104"
SERIES = ("#010111", "#010112", "#010113", "#010114", "#010115", "#010116")
_VARIABLES = {INK: "ink", MUTED: "muted", LINE: "line", SURFACE: "surface"} | {
    color: f"series-{number}" for number, color in enumerate(SERIES, start=1)
}
# Told apart by shape as well as by color: matplotlib's marker, and its outline around (0, 0) for a legend in HTML.
MARKERS = ("o", "s", "^", "D", "v", "P")
OUTLINES = (
    "M-3.5 0A3.5 3.5 0 1 0 3.5 0A3.5 3.5 0 1 0 -3.5 0",
    "M-3.2 -3.2H3.2V3.2H-3.2Z",
    "M0 -4L4 3.5H-4Z",
    "M0 -4.4L4.4 0L0 4.4L-4.4 0Z",
    "M0 4L4 -3.5H-4Z",
    "M-1.4 -4H1.4V-1.4H4V1.4H1.4V4H-1.4V1.4H-4V-1.4H-1.4Z",
)

WIDTH = 460  # units of the SVG: CSS pixels on a page that shows two plots side by side
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tinyrobust",
    "text.parse_math": False,  # names of layers and classes are text
    "font.size": 11,
    "axes.labelsize": 11,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 10.5,
    "legend.labelcolor": INK,
    "lines.solid_capstyle": "round",
}


def draw(name: str, description: str, paint: Callable[[Axes], None], *, height: float = 290) -> Markup:
    """Draws one plot.

    Args:
        name: Unique on the page: it prefixes the ids inside.
        description: What the plot shows, for people who do not see it.
        paint: Draws into the matplotlib Axes it is given, in the stand-in colours.
        height: In units of the SVG, which is `WIDTH` units wide.

    Returns:
        An `<svg>` element without scripts, styles, links or metadata; the same text every time.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH / 72, height / 72), layout="constrained")
        paint(figure.add_subplot())
        return _inline(figure, name, description)


def _inline(figure: Figure, name: str, description: str) -> Markup:
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<defs>\s*<style.*?</style>\s*</defs>", "", text, count=1, flags=re.DOTALL)
    # Ids are numbered anew in every figure: on one page they need a name in front.
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text).replace("xlink:href", "href")
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text)
    text = re.sub(r"#0101[01][0-9a-f]", lambda match: f"var(--{_VARIABLES[match[0]]})", text)
    width, height = np.round(figure.get_size_inches() * 72)
    head = f'<svg class="plot" role="img" aria-label="{escape(description)}" viewBox="0 0 {width:g} {height:g}">'
    return Markup(head + text[text.index(">") + 1 :].strip())  # noqa: S704 (matplotlib escapes the text it is given)
