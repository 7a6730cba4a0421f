"""`tinyrobust datasets add`: your own images become a data set with a card."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tinyrobust.cli import console
from tinyrobust.cli.tables import table

if TYPE_CHECKING:
    from tinyrobust.data.own import Added

app = typer.Typer(name="datasets", no_args_is_help=True, rich_markup_mode="markdown")

_NAMED = 10  # so many skipped files are named on the screen; --json names all


class Color(StrEnum):
    """What images are made."""

    gray = "gray"
    rgb = "rgb"


@app.callback()
def _datasets() -> None:
    """Your own images as a data set: `tinyrobust datasets add photos/` writes its card."""


@app.command("add")
def add(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="A folder of class/*.png, a .csv of paths, or a .npz.")],
    name: Annotated[str | None, typer.Option(help="Of the data set; the source's when absent.")] = None,
    output: Annotated[Path, typer.Option(help="The folder of the card and the images.")] = Path("data"),
    title: Annotated[str, typer.Option(help="In words, for reports.")] = "",
    licence: Annotated[str, typer.Option(help="Of the images, for reports.")] = "Not stated",
    test: Annotated[float, typer.Option(min=0.01, max=0.9, help="Share for the test where the source does not say.")] = 0.2,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw of test images.")] = 0,
    color: Annotated[Color | None, typer.Option(help="Make all images so.")] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Resize all images to SIZE x SIZE pixels.")] = None,
    flip_allowed: Annotated[
        bool, typer.Option("--flip-allowed/--no-flip", help="A mirrored image is still of its class.")
    ] = False,
    as_json: console.Json = False,
    debug: console.Debug = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """Read images, check them, and write a card with splits, class names and fingerprint, and the images beside it.

    A folder has a folder for every class, or train/ and test/ (or val/) with these in them. A CSV file has the columns path
    and label, and split (train or test) if wanted; commas, semicolons or tabs separate. A .npz has x_train, y_train, x_test,
    y_test. Files that cannot be read are named and left out.

    **Examples**

        tinyrobust datasets add photos/ --name bolts --size 32 --color gray

        tinyrobust datasets add list.csv --test 0.3

        tinyrobust datasets add mine.npz --licence "CC BY 4.0" --json

    Then, in a recipe: `[data] name = "data/bolts.toml"`.
    """
    from tinyrobust.data.own import add as execute

    with console.progress(not as_json) as progress:
        done = execute(
            source,
            output,
            name=name or source.resolve().stem,
            title=title,
            licence=licence,
            test=test,
            seed=seed,
            color=color.value if color else None,
            size=size,
            flip_allowed=flip_allowed,
            progress=progress,
        )
    if as_json:
        facts = {"card": str(done.path), **done.card.model_dump(mode="json"), "leaked": done.leaked, "remarks": done.remarks}
        console.print_json(facts | {"skipped": [{"path": one.path, "reason": one.reason} for one in done.skipped]})
    else:
        _show(done)


def _show(done: "Added") -> None:
    rows = [(kind, f"{train:,}", f"{tested:,}") for kind, (train, tested) in done.counts.items()]
    rows.append(("together", f"{done.card.train_images:,}", f"{done.card.test_images:,}"))
    shape = "x".join(map(str, done.card.image))
    console.OUT.print(table(f"{done.path}: images of {shape}", "lrr", rows, ("Class", "Training", "Test")))
    if done.skipped:
        console.OUT.print(f"{len(done.skipped):,} files could not be read and are left out:", style="yellow")
        for one in done.skipped[:_NAMED]:
            console.OUT.print(f"  {one.path}: {one.reason}", markup=False, soft_wrap=True)
        if len(done.skipped) > _NAMED:
            console.OUT.print(f"  and {len(done.skipped) - _NAMED:,} more; --json names all")
    for remark in done.remarks:
        console.OUT.print(remark, style="yellow", markup=False)
    if done.leaked:
        leak = f"{done.leaked:,} test images are training images too, pixel for pixel: accuracy on them is no evidence."
        console.OUT.print(leak, style="yellow")
    console.OUT.print(f'In a recipe: [bold]name = "{done.path.as_posix()}"[/] in its table data', soft_wrap=True)
