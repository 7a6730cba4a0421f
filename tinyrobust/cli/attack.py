"""`tinyrobust attack`: how robust is exactly the file that is flashed."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.text import Text

from tinyrobust.cli import console, corruptions
from tinyrobust.cli.tables import percent, radius, table
from tinyrobust.errors import RecipeError
from tinyrobust.robustness.corruption_record import CorruptionRecord
from tinyrobust.robustness.robustness_record import NOT_ATTACKED, Area, RobustnessRecord

if TYPE_CHECKING:
    from tinyrobust.attacks.target import InputRange
    from tinyrobust.deploy.reading import AnomalyScore, Reading

_AnyRecord = RobustnessRecord | CorruptionRecord
_HEADER = ("Target", "Attack", "Epsilon", "Robust accuracy (95 % interval)")
_DETECTION = ("Epsilon", "Figure", "Worst case (95 % interval)")


_Model = Annotated[
    Path, typer.Argument(metavar="MODEL", help="The folder of a run or of a model of the zoo, or anybody's .tflite.")
]
_Domain = Annotated[
    Literal["features", "waveform"],
    typer.Option(help="What enters the network, or the sound before a spotter's front end."),
]
_Data = Annotated[
    str | None,
    typer.Option("--data", help="A data set, or a .npz with x_test and y_test of any shape, for a file that is not of a run."),
]
_Protocol = Annotated[str | None, typer.Option(help="A protocol from `list attacks`.")]
_Epsilons = Annotated[
    list[float],
    typer.Option("--epsilon", help="An L-inf radius in input units (0 to 1; of sound, of the 16-bit range). Repeatable."),
]
_L2 = Annotated[list[float], typer.Option(help="An L2 radius, for attacks in that norm. Repeatable.")]
_L1 = Annotated[list[float], typer.Option(help="An L1 radius, for attacks in that norm. Repeatable.")]
_SnrDb = Annotated[list[float], typer.Option("--snr", help="Of sound: a signal-to-noise ratio in dB. Repeatable.")]
_Samples = Annotated[int | None, typer.Option(min=1, help="How many test samples are attacked.")]
_Seed = Annotated[int, typer.Option(min=0, help="For a file that is not of a run.")]
_Output = Annotated[
    Path | None, typer.Option(help="Folder for the results; an interrupted evaluation goes on from what is there.")
]
_Fresh = Annotated[bool, typer.Option("--fresh", help="Throw away what another evaluation left in the output folder.")]
_Grid = Annotated[bool, typer.Option("--grid", help="Try every example rounded to the sensor's 8 bits too.")]
_Temperature = Annotated[
    float | None, typer.Option(min=1, help="That the network was distilled at; the recipe's, or estimated.")
]
_Surrogate = Annotated[
    Path | None,
    typer.Option(metavar="RUN", help="A run (or .keras) trained apart, whose adversarial examples are transferred."),
]
_Members = Annotated[
    list[Path],
    typer.Option("--member", metavar="RUN", help="A run (or .keras) that answers together with MODEL. Repeatable."),
]
_InputRange = Annotated[
    tuple[str, str] | None,
    typer.Option(
        metavar="LOW HIGH",
        help="What the inputs are for black and white, like -128 127, or per channel; recognised when absent.",
    ),
]
_Normalised = Annotated[
    tuple[str, str] | None,
    typer.Option(metavar="MEAN STD", help="The same for inputs (x - mean) / std, x from 0 to 1, like 0.5,0.4,0.4 0.2,0.2,0.2."),
]
_Scale = Annotated[
    Literal["feature", "all", "std"] | None,
    typer.Option(help="Of inputs that are no pixels: an epsilon is a share of each feature's range, of all, or in deviations."),
]
_Label = Annotated[
    int | None, typer.Option(min=0, help="Of a file with several sigmoids: attack this one alone; all of them when absent.")
]
_Anomaly = Annotated[
    Literal["reconstruction", "output"] | None,
    typer.Option(help="Of an anomaly detector: its score is the error of its reconstruction, or the number that it puts out."),
]
_FalseAlarms = Annotated[
    float | None,
    typer.Option(
        min=1e-6,
        max=0.5,
        help="Of an anomaly detector: at most so many normal inputs, as a share, are above its threshold; 0.05 when absent.",
    ),
]
_FrontEnd = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Of sound: frontend.json, where it is not beside the model.")
]


def attack(
    model: _Model,
    domain: _Domain = "features",
    data: _Data = None,
    protocol: _Protocol = None,
    epsilons: _Epsilons = [],  # noqa: B006 - typer makes a list of its own for every call, here and below
    l2: _L2 = [],  # noqa: B006
    l1: _L1 = [],  # noqa: B006
    snr_db: _SnrDb = [],  # noqa: B006
    samples: _Samples = None,
    seed: _Seed = 7,
    output: _Output = None,
    fresh: _Fresh = False,
    grid: _Grid = False,
    temperature: _Temperature = None,
    surrogate: _Surrogate = None,
    members: _Members = [],  # noqa: B006
    input_range: _InputRange = None,
    normalised: _Normalised = None,
    scale: _Scale = None,
    label: _Label = None,
    anomaly: _Anomaly = None,
    false_alarms: _FalseAlarms = None,
    frontend: _FrontEnd = None,
    jobs: console.Jobs = 1,
    data_dir: console.DataDir = None,
    as_json: console.Json = False,
    debug: console.Debug = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """Attack a run, or any `.tflite` classifier or anomaly detector, and print what holds: the per-sample worst case.

    A file of a run, or of the zoo where it has its `network.npz`, is attacked through its network too (white box, and transfer
    to the file), another through a twin that is rebuilt from it. Checks say whether the figures can be trusted. It can be
    interrupted: the same command goes on. A file of several sigmoids is attacked label by label; --json prints a list then.

    **Examples**

        tinyrobust attack runs/digits-stq-1a2b3c4d --protocol adaptive --epsilon 0.05 --epsilon 0.15

        tinyrobust attack models/cifar10-stq-adversarial

        tinyrobust attack somebodys.tflite --data cifar10 --samples 100 --input-range -128 127

        tinyrobust attack runs/cifar10-stq-1a2b3c4d --protocol corruptions

        tinyrobust attack pump.tflite --data spectra.npz --anomaly reconstruction --epsilon 0.05

        tinyrobust attack runs/kws-stq-1a2b3c4d --domain waveform --snr 20 --snr 30
    """
    chosen_range = _range(input_range, normalised)
    readings = _readings(model, data if domain == "features" else None, label, anomaly, false_alarms)
    work = _work(protocol)
    with console.progress(not as_json) as progress:
        records = [work(
            model, domain=domain, data=data, protocol=protocol, epsilons=epsilons, l2=l2, l1=l1, snr_db=snr_db, samples=samples,
            seed=seed, data_dir=data_dir, frontend=frontend, input_range=chosen_range, output=folder, temperature=temperature,
            surrogate=surrogate, members=members, grid=grid or None, scale=scale, reading=reading, fresh=fresh, jobs=jobs,
            progress=progress,
        ) for folder, reading in _folders(output, model, readings)]  # fmt: skip
    _print_all(records, as_json)


def _work(protocol: str | None) -> Callable[..., _AnyRecord]:
    """What is done with the model: an attack, or corruptions."""
    if corruptions.wanted(protocol):
        return corruptions.measure
    with console.quiet_imports():
        from tinyrobust.pipeline.attack import attack as existing
    return existing


def _folders(
    output: Path | None, model: Path, readings: "Sequence[Reading | None]"
) -> "Iterator[tuple[Path | None, Reading | None]]":
    """Where the results go: of several labels, each into a folder of its own."""
    for place, reading in enumerate(readings):
        yield output if len(readings) == 1 else (output or Path(f"attack-{model.stem}")) / f"label-{place}", reading


def _print_all(records: Sequence[_AnyRecord], as_json: bool) -> None:
    if as_json and len(records) > 1:
        console.print_json(json.dumps([json.loads(record.to_json()) for record in records]))
        return
    for record in records:
        if as_json:
            console.print_json(record.to_json())
        elif isinstance(record, CorruptionRecord):
            corruptions.show(record)
        else:
            _print(record)


def _readings(
    model: Path, data: str | None, label: int | None, anomaly: "AnomalyScore | None", false_alarms: float | None
) -> "Sequence[Reading | None]":
    """What the outputs mean, one for each evaluation; checked with the data before TensorFlow is loaded."""
    from tinyrobust.deploy.reading import Anomaly, Label, Reading
    from tinyrobust.pipeline import inputs

    if label is not None and anomaly is not None:
        raise RecipeError("Expected one of --label and --anomaly. Received: both")
    chosen: Reading | None = None if label is None else Label(index=label)
    if anomaly is not None:
        chosen = Anomaly(score=anomaly) if false_alarms is None else Anomaly(score=anomaly, false_alarms=false_alarms)
    elif false_alarms is not None:
        raise RecipeError(f"Expected --anomaly with --false-alarms. Received: --false-alarms {false_alarms:g} alone")
    every = inputs.every_label(model, data) if chosen is None else []
    readings: list[Reading | None] = [Label(index=index) for index in every] or [chosen]
    inputs.check(model, data, readings[0])
    return readings


def _print(record: RobustnessRecord) -> None:
    label = f", label {record.reading.index}" if record.reading and record.reading.kind == "label" else ""
    console.OUT.print(table(f"{record.model}{label}", "ltrl", list(_rows(record)), _HEADER))
    if record.units:
        console.OUT.print(Text(f"Units: {record.units}"))
    if record.detection:
        console.OUT.print(
            table("Of the file as an anomaly detector; no attack: whole test set", "rll", list(_found(record)), _DETECTION)
        )
    trust = "" if record.reliable else " [red]unreliable[/]"
    at = _radius(record, record.headline_norm, record.headline_epsilon)
    at = f"epsilon {at}" if record.headline_norm == "linf" else at
    if record.headline is None and record.attacked_at_headline:
        console.OUT.print("[bold]No headline[/]: what the file answers without attack says that something is wrong.")
    elif record.headline is None:
        console.OUT.print(f"[bold]No headline[/]: not attacked at {at}.", highlight=False)
    else:
        headline = f"Worst case over all attacks and targets at {at}: {percent(record.headline)}"
        console.OUT.print(f"[bold]{headline}[/]{trust}", highlight=False)
    for note in record.notes:
        console.OUT.print(Text(note))
    for row in record.convergence:
        if not row.converged:
            at, run = _radius(record, row.norm, row.epsilon), row.runs[-1]
            console.OUT.print(
                Text(f"At {at} {row.attack} with {run.steps} times its steps still broke {run.broken} of {run.standing}.")
            )
    for check in record.checks:
        if check.raised:
            line = Text.assemble(("Not to be trusted as it stands", "yellow"), f" ({check.name}): {check.explanation}")
            console.OUT.print(line)


def _range(input_range: tuple[str, str] | None, normalised: tuple[str, str] | None) -> "InputRange | None":
    """The range that one of the two options states."""
    texts = input_range or normalised
    if texts is None:
        return None
    if input_range and normalised:
        raise RecipeError("Expected one of --input-range and --normalised. Received: both")
    try:
        first, second = ([float(number) for number in text.split(",")] for text in texts)
    except ValueError:
        raise RecipeError(f"Expected two numbers, or two lists like 0.5,0.4,0.4. Received: {' '.join(texts)}") from None
    from tinyrobust.robustness import ranges

    return ranges.normalised(first, second) if normalised else ranges.checked(first, second)


def _rows(record: RobustnessRecord) -> Iterator[tuple[str, str, str, str]]:
    for clean in record.clean:
        yield clean.target, "no attack, whole test set", "", percent(clean.test)
    for row in record.attacks:
        name = row.attack if row.crafted_on == row.target else f"{row.attack} on {row.crafted_on}"
        grid = f", {row.on_grid.value:.1%} of the examples survive 8 bits" if row.on_grid else ""
        yield row.target, name, _radius(record, row.norm, row.epsilon), f"{percent(row.robust)}{grid}"
    for worst in record.worst:
        trust, remark = "" if record.reliable else ", unreliable", record.remark(worst)
        share = remark if remark == NOT_ATTACKED else percent(worst.robust) + (f", {remark}" if remark else "")
        yield worst.target, f"worst case{trust}", _radius(record, worst.norm, worst.epsilon), share


def _found(record: RobustnessRecord) -> Iterator[tuple[str, str, str]]:
    for row in record.detection:
        at = _radius(record, "linf", row.epsilon) if row.epsilon else "no attack"
        yield at, "anomalies found", percent(row.detected)
        yield "", "false alarms", percent(row.false_alarms)
        yield "", "area under the ROC curve", "none" if row.area is None else _area(row.area)


def _area(area: Area) -> str:
    n = f"n = {area.normals}+{area.anomalies}"
    return f"{area.value:.3f} ({n}, {area.low:.3f} to {area.high:.3f})"


def _radius(record: RobustnessRecord, norm: str, epsilon: float) -> str:
    """A radius, in standard deviations where the record's are."""
    if record.per_unit == 1 or norm == "l0":
        return radius(norm, epsilon)
    return f"{radius(norm, epsilon / record.per_unit)} std"
