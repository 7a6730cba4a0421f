"""`tinyrobust list`: what there is to choose from."""

import inspect
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated

import typer

from tinyrobust.cli import console
from tinyrobust.cli.tables import table

Rows = list[tuple[str, ...]]


class What(StrEnum):
    """The lists."""

    recipes = "recipes"
    datasets = "datasets"
    networks = "networks"
    attacks = "attacks"
    boards = "boards"


def show(
    what: Annotated[What, typer.Argument(help="Which list.")],
    as_json: console.Json = False,
    debug: console.Debug = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """List recipes, data sets, networks, attack protocols or boards.

    **Examples**

        tinyrobust list recipes

        tinyrobust list boards --json
    """
    header, rows = _LISTS[what]()
    if as_json:
        keys = [name.lower() for name in header]
        console.print_json([dict(zip(keys, row, strict=True)) for row in rows])
        return
    console.OUT.print(table(what.value.capitalize(), [""] * len(header), rows, header))


def _recipes() -> tuple[tuple[str, ...], Rows]:
    from tinyrobust import assets, recipe

    loaded = [recipe.load(name) for name in assets.recipes()]
    return ("Name", "Description"), [(one.name, one.description) for one in loaded]


def _datasets() -> tuple[tuple[str, ...], Rows]:
    from tinyrobust.data.cards import cards

    return ("Name", "Title", "Licence", "URL"), [
        (name, card.title, card.licence, str(card.url)) for name, card in cards().items()
    ]


def _networks() -> tuple[tuple[str, ...], Rows]:
    with console.quiet_imports():
        from tinyrobust.networks.catalog import NETWORKS

    return ("Name", "Description"), [(name, str(inspect.getdoc(build)).partition("\n")[0]) for name, build in NETWORKS.items()]


def _attacks() -> tuple[tuple[str, ...], Rows]:
    with console.quiet_imports():
        from tinyrobust import assets
        from tinyrobust.robustness import protocol

    rows: Rows = []
    for name in assets.protocols():
        rows += [(name, attack.name, attack.kind, attack.on) for attack in protocol.load(name).attacks]
    return ("Protocol", "Attack", "Kind", "On"), rows


def _boards() -> tuple[tuple[str, ...], Rows]:
    from tinyrobust.footprints.boards import boards

    return ("Name", "Title", "Core", "Flash", "RAM", "Datasheet"), [
        (b.name, b.title, f"{b.core}, {b.clock_mhz} MHz", f"{b.flash // 1024} KiB", f"{b.ram // 1024} KiB", b.datasheet)
        for b in boards()
    ]


_LISTS: dict[What, Callable[[], tuple[tuple[str, ...], Rows]]] = {
    What.recipes: _recipes,
    What.datasets: _datasets,
    What.networks: _networks,
    What.attacks: _attacks,
    What.boards: _boards,
}
