"""`tinyrobust run` and `train`: a recipe through its stages."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from tinyrobust import recipe as recipes
from tinyrobust.cli import console
from tinyrobust.cli.tables import kib, percent, table

if TYPE_CHECKING:
    from tinyrobust.pipeline.run import Run

RecipeArgument = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A name from `list recipes`, or the path of a TOML file.")
]


def run(
    recipe: RecipeArgument,
    overrides: console.Settings = [],  # noqa: B006 - Typer wants a list, and nobody changes it
    beside: Annotated[
        list[str] | None,
        typer.Option(metavar="RECIPE", help="Run this one first, and show it beside the other in the report. Repeatable."),
    ] = None,
    runs_dir: console.RunsDir = Path("runs"),
    jobs: console.Jobs = 1,
    data_dir: console.DataDir = None,
    as_json: console.Json = False,
    debug: console.Debug = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """Train, export, attack, size and report: everything a recipe says.

    Stages that are complete are skipped; a run that was interrupted goes on where it stopped.

    **Examples**

        tinyrobust run digits-stq

        tinyrobust run models/digits-stq/recipe.toml --set train.epochs=80

        tinyrobust run cifar10-stq --data-dir ~/tensorflow_datasets

        tinyrobust run digits-robust --beside digits-stq
    """
    recipes.load(recipe, overrides)  # its errors come before the others' hours
    others = [until("report", other, [], runs_dir, data_dir, as_json, jobs) for other in beside or ()]
    done = until("report", recipe, overrides, runs_dir, data_dir, as_json, jobs)
    if others:
        from tinyrobust.pipeline.run import report

        report(done.path, beside=[other.path for other in others])
    show_everything(done, as_json)


def show_everything(done: "Run", as_json: bool) -> None:
    """What a run that is complete came to."""
    if done.recipe.stochastic:
        _show_information(done, as_json)
        return
    robustness, footprint = done.robustness, done.footprint
    clean = next(accuracy.test for accuracy in robustness.clean if accuracy.target == "int8")
    if as_json:
        headline = {
            "robust_accuracy": robustness.headline and robustness.headline.model_dump(),
            "epsilon": robustness.headline_epsilon,
        }
        console.print_json(
            paths(done)
            | headline
            | {"accuracy": clean.model_dump(), "reliable": robustness.reliable, "warnings": robustness.warnings}
            | {"flash_bytes": footprint.file.value, "arena_bytes": footprint.arena.value}
        )
        return
    rows = [
        ("Accuracy of the int8 file, test set", percent(clean)),
        (
            f"Robust accuracy, worst case, epsilon {robustness.headline_epsilon:.4g}",
            percent(robustness.headline) + ("" if robustness.reliable else ", unreliable"),
        ),
        ("Flash, .tflite", f"{kib(footprint.file.value)} KiB"),
        ("Weights at their true bits", f"{kib(footprint.weights_packed.value)} KiB"),
        ("RAM, tensor arena", f"{kib(footprint.arena.value)} KiB"),
    ]
    console.OUT.print(table(done.path.name, "tl", rows))
    for warning in robustness.warnings:
        console.OUT.print(f"[yellow]Not to be trusted as it stands:[/] {warning}")
    _show_remarks(done)
    console.OUT.print(f"\nOpen the report: [bold]{done.path / 'report.html'}[/]", soft_wrap=True)


def train(
    recipe: RecipeArgument,
    overrides: console.Settings = [],  # noqa: B006
    runs_dir: console.RunsDir = Path("runs"),
    data_dir: console.DataDir = None,
    as_json: console.Json = False,
    debug: console.Debug = False,  # noqa: ARG001
) -> None:
    """Train the network of a recipe, and stop there.

    **Examples**

        tinyrobust train digits-stq

        tinyrobust train digits-stq --set train.learning_rate=3e-3 --set seed=1
    """
    show_trained(until("train", recipe, overrides, runs_dir, data_dir, as_json), as_json)


def show_trained(done: "Run", as_json: bool) -> None:
    """What training came to."""
    last = done.history[-1]
    if as_json:
        console.print_json(paths(done) | {"last_epoch": last})
        return
    watch = done.recipe.train.watch
    kept = done.history[int(last["best_epoch"]) - 1] if watch and watch.keep == "best" and "best_epoch" in last else last
    rows = [(f"Validation accuracy after epoch {kept['epoch']}", f"{100 * kept['val_accuracy']:.1f} %")]
    console.OUT.print(table(f"{done.path / 'model.keras'}", "tl", rows))
    _show_remarks(done)


def _show_information(done: "Run", as_json: bool) -> None:
    """Of a network that is random at inference."""
    found = done.information
    single, mean = found.weakest(draws=1), found.weakest(draws=found.passes)
    if as_json:
        robust = {"robust_accuracy": mean.accuracy.model_dump(), "epsilon": found.headline_epsilon, "passes": found.passes}
        console.print_json(paths(done) | robust | {"accuracy": found.clean.accuracy.model_dump(), "notes": found.notes})
        return
    at = f"epsilon {found.headline_epsilon:.4g}"
    rows = [(f"Accuracy of {found.members} draws together, n = {found.n}", percent(found.clean.accuracy))]
    if found.passes > 1:
        rows.append((f"Under {single.attack}, {at}, attacked through one draw", percent(single.accuracy)))
    rows.append((f"Under {mean.attack}, {at}, through the mean of {found.passes} (EOT)", percent(mean.accuracy)))
    console.OUT.print(table(done.path.name, "tl", rows))
    for note in found.notes:
        console.OUT.print(f"[yellow]Of the attacks:[/] {escape(note)}")
    _show_remarks(done)
    console.OUT.print(f"\nOpen the report: [bold]{done.path / 'report.html'}[/]", soft_wrap=True)


def _show_remarks(done: "Run") -> None:
    for remark in done.remarks:
        console.OUT.print(f"[yellow]Of the training:[/] {escape(remark)}")


def until(
    stage: str, recipe: str, overrides: list[str], runs_dir: Path, data_dir: Path | None, as_json: bool, jobs: int = 1
) -> "Run":
    """A recipe's run, executed as far as `stage`, with its progress on the screen unless `as_json`."""
    resolved = recipes.load(recipe, overrides)  # before the wait for TensorFlow: a misspelt key is told at once
    return execute(resolved, stage, runs_dir, data_dir, as_json, jobs)


def execute(recipe: recipes.Recipe, stage: str, runs_dir: Path, data_dir: Path | None, as_json: bool, jobs: int = 1) -> "Run":
    """The run of a resolved recipe, as `until`."""
    with console.quiet_imports():
        from tinyrobust.pipeline.run import run
    with console.progress(not as_json) as progress:
        return run(recipe, until=stage, runs_dir=runs_dir, data_dir=data_dir, jobs=jobs, progress=progress)


def paths(done: "Run") -> dict[str, str]:
    """What every command says of a run in JSON."""
    return {"run": str(done.path), "recipe": done.recipe.name, "hash": done.recipe.hash}
