"""How numbers and names are written: with units, with sensible precision, and harmless in HTML, Markdown and YAML."""

import json
import math
import re

from markupsafe import Markup

from tinyrobust.attacks.specs import Norm
from tinyrobust.footprint.footprint_record import BoardFit
from tinyrobust.recipe.weights import WeightFormat
from tinyrobust.robustness.corruption_record import MeanShare
from tinyrobust.robustness.robustness_record import Proportion, decibels

_MARKDOWN = re.compile(r"[\\`*_{}\[\]#+!|~$&<>]")
_NOT_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
_NBSP = "\u00a0"  # keeps a number and its unit on one line
_TIMES = "\u00d7"
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(share: float, digits: int = 1) -> str:
    """A share in [0, 1] as a number of percent without the sign; never rounded up to 100 or down to 0."""
    text = f"{100 * share:.{digits}f}"
    rounded_away = (float(text) == 100 and share < 1) or (float(text) == 0 and share > 0)
    return number(share, digits + 1) if rounded_away and digits < 4 else text


def percent(share: float, digits: int = 1) -> str:
    """A share in [0, 1] as `83.5 %`."""
    return f"{number(share, digits)}{_NBSP}%"


def interval(share: Proportion | MeanShare) -> str:
    """The 95 % interval as `77.7 to 88.0`."""
    return f"{number(share.low)} to {number(share.high)}"


def proportion(share: Proportion | MeanShare | None) -> str:
    """A share with all that belongs to it: `83.5 % (n = 200, 77.7 to 88.0)`; in words where checks withhold it."""
    if share is None:
        return "no figure"
    return f"{percent(share.value)} (n = {count(share.n)}, {interval(share)})"


def count(value: int) -> str:
    """A whole number with thousands separators: `15,042`."""
    return f"{value:,}"


def size(value: float) -> str:
    """Bytes in the largest binary unit that keeps them above 1: `812 B`, `14.7 KiB`, `1.2 MiB`."""
    for unit, limit in (("MiB", 2**20), ("KiB", 2**10)):
        if value >= limit:
            digits = 0 if value >= 100 * limit or value % limit == 0 else 1
            return f"{value / limit:.{digits}f}{_NBSP}{unit}"
    return f"{value:,.0f}{_NBSP}B"


def total(value: int) -> str:
    """A large count in short: `2.7 M`, `31.0 k`, `812`."""
    for unit, limit in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if value >= limit:
            return f"{value / limit:.1f}{_NBSP}{unit}"
    return str(value)


def epsilon(value: float) -> str:
    """A radius as whoever chose it wrote it: `8/255` where it is a whole number of 8-bit steps below 1/8, else `0.1`."""
    steps = 255 * value
    if 0 < round(steps) < 32 and math.isclose(steps, round(steps), abs_tol=1e-4):
        return f"{round(steps)}/255"
    return f"{value:.3g}"


def radius(value: float, norm: Norm) -> str:
    """How far an attack may go, in the words of its norm: `epsilon 8/255`, `20 dB`, `50 ms`."""
    if norm == "snr":
        return f"{decibels(value):.3g}{_NBSP}dB"
    return f"{value:g}{_NBSP}ms" if norm == "shift" else f"epsilon {epsilon(value)}"


def small(value: float) -> str:
    """A positive number of unknown magnitude with two digits: `0.034`, or a power of ten where that is shorter."""
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:.2g}" if abs(value) < 100 else f"{value:.0f}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa} {_TIMES} 10{str(int(exponent)).translate(_SUPERSCRIPTS)}"


def duration(seconds: float) -> str:
    """A time span: `40 ms`, `8.2 s`, `3 min 12 s`, `1 h 04 min`."""
    if seconds < 0.0995:
        return f"{1000 * seconds:.0f}{_NBSP}ms"
    if seconds < 59.95:
        return f"{seconds:.1f}{_NBSP}s"
    minutes, rest = divmod(round(seconds), 60)
    words = f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
    return words.replace(" ", _NBSP)


def shape(sizes: list[int] | tuple[int, ...]) -> str:
    """A tensor's shape, its sizes with a multiplication sign between them."""
    return _TIMES.join(map(str, sizes)) or "scalar"


def layer(name: str) -> str:
    """A tensor's name without what the converter put around the layer's: `block1-relu` for `stqnet_1/block1-relu_1/Relu6`.

    The output of a converted function has no layer's name left, and is called `output`.
    """
    if name.startswith("StatefulPartitionedCall"):
        return "output"
    model, *scopes = name.split("/")
    if len(scopes) < 2:
        return name
    copy = re.search(r"_\d+$", model)  # Keras numbers the model's layers along with the model
    return "/".join(scopes[:-1]).removesuffix(copy[0] if copy else "")


def settings(parameters: dict[str, float | int | str | bool]) -> str:
    """Parameters of an attack: `steps = 20, relative_step = 0.125`."""
    return ", ".join(
        f"{key} = {value:.4g}" if isinstance(value, float) else f"{key} = {value}" for key, value in parameters.items()
    )


def scheme(weights: WeightFormat) -> str:
    """A weight format in a few words: its kind, and its bits where it has several widths."""
    settings = weights.model_dump()
    return f"{settings['kind']}, {settings['bits']} bits" if "bits" in settings else str(settings["kind"])


def verdict(fit: BoardFit) -> str:
    """What binds on a board: `fits`, `flash too small`, `RAM too small`, `flash and RAM too small`, `not run`."""
    if fit.binds == "runtime":
        return "not run by TensorFlow Lite Micro"
    return "fits" if fit.fits else f"{fit.binds.replace('ram', 'RAM')} too small"


def markdown(text: object) -> Markup:
    """Text that stays text in Markdown: one line, special characters escaped, no HTML."""

    def escaped(match: re.Match[str]) -> str:
        return {"<": "&lt;", ">": "&gt;"}.get(match[0], "\\" + match[0])

    return Markup(_MARKDOWN.sub(escaped, " ".join(str(text).split())))  # noqa: S704 (escaped here)


def yaml(value: object) -> Markup:
    """A YAML scalar that reads back as `value`: JSON is YAML, once the characters that YAML forbids are escaped too."""
    text = json.dumps(str(value) if not isinstance(value, int | float) else value, ensure_ascii=False)
    return Markup(_NOT_YAML.sub(lambda match: f"\\u{ord(match[0]):04x}", text))  # noqa: S704 (quoted here)


def fenced(text: str) -> Markup:
    """Text for a fenced block of code in Markdown, which it cannot end."""
    return Markup(text.replace("```", ""))  # noqa: S704 (a fenced block shows markup as text)


FILTERS = {
    function.__name__: function
    for function in (
        number,
        percent,
        interval,
        proportion,
        count,
        size,
        total,
        epsilon,
        radius,
        small,
        duration,
        shape,
        layer,
        settings,
        scheme,
        verdict,
        markdown,
        yaml,
        fenced,
    )
}
