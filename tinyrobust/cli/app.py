"""`tinyrobust`: the command line. One file a command; TensorFlow is imported inside the commands that need it."""

from typing import Annotated

import typer

from tinyrobust._version import __version__
from tinyrobust.cli import (
    attack,
    datasets,
    doctor,
    emulate,
    export,
    footprint,
    leaderboard,
    listen,
    listing,
    quantize,
    report,
    run,
    sweep,
    verify,
)
from tinyrobust.cli.console import keep_stderr, prepare_libraries, readable_errors

app = typer.Typer(
    name="tinyrobust",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"tinyrobust {__version__}")
        raise typer.Exit


@app.callback(
    epilog="**Start here:** `tinyrobust run digits-stq` trains, exports, attacks and sizes a small network in minutes.  \n"
    "**Your file:** `tinyrobust attack model.tflite --data cifar10`, `tinyrobust footprint model.tflite --board all`."
)
def _tinyrobust(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Small quantized neural networks for microcontrollers that are hard to fool, with honest evidence."""


app.command("run")(run.run)
app.command("train")(run.train)
app.command("export")(export.export)
app.command("quantize")(quantize.quantize)
app.command("sweep")(sweep.sweep)
app.command("attack")(attack.attack)
app.command("verify")(verify.verify)
app.command("footprint")(footprint.footprint)
app.command("listen")(listen.listen)
app.command("emulate")(emulate.emulate)
app.command("report")(report.report)
app.command("leaderboard")(leaderboard.leaderboard)
app.add_typer(datasets.app)
app.command("list")(listing.show)
app.command("doctor")(doctor.doctor)


def main() -> None:
    """The entry point of the console script."""
    prepare_libraries()
    keep_stderr()
    with readable_errors():
        app()


if __name__ == "__main__":
    main()
