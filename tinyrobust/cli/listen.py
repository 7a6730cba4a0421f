"""`tinyrobust listen`: which words a model file hears in a recording, and when."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tinyrobust.cli import console
from tinyrobust.cli.tables import table
from tinyrobust.errors import DataError

if TYPE_CHECKING:
    from tinyrobust.listening.detector import Detection
    from tinyrobust.listening.files import FileDetections
    from tinyrobust.listening.spotter import Spotter
    from tinyrobust.recipe.listening import Listening


def listen(
    model: Annotated[
        Path,
        typer.Option("--model", metavar="MODEL", help="The folder of a run or of a model of the zoo, or a .tflite of theirs."),
    ],
    files: Annotated[list[Path] | None, typer.Argument(metavar="FILE.wav|.flac", help="Recordings, of any length.")] = None,
    frontend: Annotated[
        Path | None, typer.Option(metavar="FRONTEND.json", help="The model's front end; the one beside it when absent.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Of the smoothed score; that of detection.json when absent, else 0.5.")
    ] = None,
    microphone: Annotated[bool, typer.Option("--microphone", help="Listen to a microphone until Ctrl-C.")] = False,
    device: Annotated[str | None, typer.Option(help="Of the microphone: its number, or a part of its name.")] = None,
    as_json: console.Json = False,
    debug: console.Debug = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """Reports the words that a keyword spotter's `.tflite` hears in recordings, with times.

    The sound goes through the front end beside the model and the int8 file as on the device: a second at a time, every 0.1 s,
    scores averaged over 0.3 s. A time is when the word is reported, at the end of the window that decides. The end of a file is
    followed by silence, so that a single clip is heard.

    **Examples**

        tinyrobust listen --model runs/kws-dscnn-1a2b3c4d/model.tflite recording.wav

        tinyrobust listen --model model.tflite --frontend frontend.json --threshold 0.7 --json *.flac

        tinyrobust listen --model runs/kws-dscnn-1a2b3c4d --microphone
    """
    if bool(files) == microphone:
        raise DataError(
            f"Expected recordings to listen to, or --microphone. Received: {'both' if microphone else 'neither'}",
            hint="tinyrobust listen --model MODEL.tflite recording.wav",
        )
    from tinyrobust.listening.files import measured
    from tinyrobust.listening.spotter import Spotter
    from tinyrobust.pipeline.models import locate

    spotter = Spotter(locate(model)[1], frontend)
    settings, chosen, origin = measured(spotter)
    if threshold is not None:
        chosen, origin = threshold, "as asked for"
    if microphone:
        _live(spotter, settings, chosen, device, as_json)
    else:
        _recorded(spotter, settings, chosen, origin, files or [], as_json)


def _recorded(
    spotter: "Spotter", settings: "Listening", threshold: float, origin: str, files: list[Path], as_json: bool
) -> None:
    from tinyrobust.listening.files import listen_to
    from tinyrobust.listening.spotter import Listener

    with console.progress(not as_json) as progress:
        listened = [listen_to(path, Listener(spotter, settings, threshold), progress) for path in files]
    if as_json:
        rows = [
            {"file": str(path), "seconds": one.seconds, "detections": list(map(_row, one.detections))}
            for path, one in zip(files, listened, strict=True)
        ]
        console.print_json({"model": str(spotter.model.path), "threshold": threshold, "files": rows})
        return
    lines = [line for path, one in zip(files, listened, strict=True) for line in _rows(path, one)]
    console.OUT.print(table(f"Heard by {spotter.model.path}", "trlr", lines, ("File", "Time", "Word", "Score")))
    console.OUT.print(f"Threshold {threshold:g}: {origin}.", style="dim", highlight=False)


def _rows(path: Path, listened: "FileDetections") -> Iterator[tuple[str, str, str, str]]:
    """The table's rows of a file; a file without detections has one too."""
    for detection in listened.detections:
        yield path.name, _clock(detection.seconds), detection.word, f"{detection.score:.2f}"
    if not listened.detections:
        yield path.name, _clock(listened.seconds), "no keyword", ""


def _live(spotter: "Spotter", settings: "Listening", threshold: float, device: str | None, as_json: bool) -> None:
    """Prints each detection as it is made; with --json an object a line."""
    import json

    from tinyrobust.listening.microphone import microphone
    from tinyrobust.listening.spotter import Listener

    def lost() -> None:
        console.ERR.print("Some sound was lost: this computer is too slow.", style="yellow")

    listener = Listener(spotter, settings, threshold)
    try:
        for index, chunk in enumerate(microphone(settings.hop_ms, device, lost)):
            if not index:
                console.ERR.print("Listening. Ctrl-C ends it.", style="dim")
            for detection in listener.feed(chunk):
                line = f"{_clock(detection.seconds)}  {detection.word}  {detection.score:.2f}"
                typer.echo(json.dumps(_row(detection)) if as_json else line)
    except KeyboardInterrupt:
        console.ERR.print(f"Listened for {listener.seconds:.0f} s.", style="dim")


def _row(detection: "Detection") -> dict[str, str | float]:
    return {"word": detection.word, "seconds": detection.seconds, "score": round(detection.score, 4)}


def _clock(seconds: float) -> str:
    """Minutes and seconds: `0:01.30`."""
    return f"{int(seconds // 60)}:{seconds % 60:05.2f}"
