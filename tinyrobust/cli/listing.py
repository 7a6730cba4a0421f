"""`tinyrobust list`: what there is to choose from."""

import inspect
from collections.abc import Callable
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer
from pydantic import BaseModel

from tinyrobust.cli import console
from tinyrobust.cli.tables import kib, percent, radius, table

Rows = list[dict[str, object]]


class What(StrEnum):
    """The lists."""

    recipes = "recipes"
    models = "models"
    datasets = "datasets"
    networks = "networks"
    formats = "formats"
    attacks = "attacks"
    boards = "boards"
    sweeps = "sweeps"


def show(
    what: Annotated[What, typer.Argument(help="Which list.")],
    as_json: console.Json = False,
    debug: console.Debug = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """List recipes, trained models, data sets, networks, formats of weights and activations, attacks, boards or sweeps.

    **Examples**

        tinyrobust list recipes

        tinyrobust list models

        tinyrobust list boards --json
    """
    rows = _LISTS[what]()
    if as_json:
        console.print_json(rows)
        return
    title, shown = _SHOWN[what]
    cells = [[row[key] for key in shown] for row in rows]
    header = [key[0].upper() + key[1:] for key in shown]
    console.OUT.print(table(title, "l" + "t" * (len(shown) - 1), cells, header))


def _recipes() -> Rows:
    from tinyrobust import assets, recipe

    loaded = {name: (recipe.load(name), path) for name, path in assets.recipes().items()}
    return [{"name": name, "description": one.description, "path": str(path)} for name, (one, path) in loaded.items()]


def _models() -> Rows:
    from tinyrobust import assets
    from tinyrobust.footprint.footprint_record import FootprintRecord
    from tinyrobust.robustness.robustness_record import RobustnessRecord

    rows: Rows = []
    for name, path in assets.recipes().items():
        if not path.with_name("model.tflite").is_file():
            continue
        attacked = RobustnessRecord.load(path.with_name("robustness.json"))
        size = FootprintRecord.load(path.with_name("footprint.json"))
        clean = next(one.test for one in attacked.clean if one.target == "int8")
        standing = percent(attacked.headline) if attacked.reliable else f"{percent(attacked.headline)}, unreliable"
        rows.append(
            {
                "name": name,
                "accuracy": percent(clean),
                "robust": f"{standing} at {radius(attacked.headline_norm, attacked.headline_epsilon)}, {attacked.protocol}",
                "packed KiB": kib(size.weights_packed.value),
                "file KiB": kib(size.file.value),
                "path": str(path.with_name("model.tflite")),
            }
        )
    return rows


def _datasets() -> Rows:
    from tinyrobust.data.cards import cards

    return [card.model_dump(mode="json") for card in cards().values()]


def _networks() -> Rows:
    from tinyrobust.choices import members
    from tinyrobust.recipe.network import Network, NetworkTable

    return [
        {
            "name": kind,
            "keys": _keys(network),
            **asdict(network.size),
            "parameters (K)": f"{network.size.parameters / 1e3:,.0f}",
            "MACs (M)": f"{network.size.macs / 1e6:,.1f}",
            "description": str(inspect.getdoc(network)).partition("\n")[0],
        }
        for kind, network in members(Network).items()
        if issubclass(network, NetworkTable) and not network.trained  # a file has its own size
    ]


def _formats() -> Rows:
    from tinyrobust.choices import members
    from tinyrobust.recipe.activations import Activations
    from tinyrobust.recipe.weights import Weights

    return [
        {"of": of, "name": kind, "keys": _keys(table), "description": str(inspect.getdoc(table)).partition("\n")[0]}
        for of, union in (("weights", Weights), ("activations", Activations))
        for kind, table in members(union).items()
    ]


def _keys(table: type[BaseModel]) -> str:
    """The keys of a table beside its kind, with their defaults."""
    fields = {key: field for key, field in table.model_fields.items() if key != "kind"}
    return ", ".join(key if field.is_required() else f"{key} = {field.default}" for key, field in fields.items())


def _attacks() -> Rows:
    from tinyrobust import assets
    from tinyrobust.robustness import protocol

    protocols = {name: protocol.load(name) for name in assets.protocols()}
    attacks = [
        {"protocol": name, **attack.model_dump(mode="json")} for name, one in protocols.items() for attack in one.attacks
    ]
    return attacks + [
        {"protocol": name, "name": each.kind, "kind": "corruption", "on": "every target", "severities": each.severities}
        for name, one in protocols.items()
        for each in one.corruptions
    ]


def _boards() -> Rows:
    from tinyrobust.footprint.boards import boards

    return [
        {**board.model_dump(mode="json"), "flash KiB": f"{board.flash // 1024:,}", "RAM KiB": f"{board.ram // 1024:,}"}
        for board in boards()
    ]


def _sweeps() -> Rows:
    from tinyrobust import assets
    from tinyrobust.sweep import spec
    from tinyrobust.sweep.expand import expand

    loaded = [spec.load(name) for name in assets.sweeps()]
    return [{"name": one.name, "runs": len(expand(one, path)), "description": one.description} for one, path in loaded]


_FIGURES = ("name", "accuracy", "robust", "packed KiB", "file KiB")
_LISTS: dict[What, Callable[[], Rows]] = {
    What.recipes: _recipes,
    What.models: _models,
    What.datasets: _datasets,
    What.networks: _networks,
    What.formats: _formats,
    What.attacks: _attacks,
    What.boards: _boards,
    What.sweeps: _sweeps,
}
_SHOWN: dict[What, tuple[str, tuple[str, ...]]] = {
    What.recipes: ("Recipes", ("name", "description")),
    What.models: ("Trained models; shares of the test set with 95 % intervals", _FIGURES),
    What.datasets: ("Data sets", ("name", "title", "licence")),
    What.networks: ("Networks, their keys at their defaults", ("name", "keys", "parameters (K)", "MACs (M)", "description")),
    What.formats: ("Formats that a precision rule names, their keys at their defaults", ("of", "name", "keys", "description")),
    What.attacks: ("Attacks and corruptions, by protocol", ("protocol", "name", "kind", "on")),
    What.boards: ("Boards", ("name", "title", "core", "flash KiB", "RAM KiB")),
    What.sweeps: ("Sweeps", ("name", "runs", "description")),
}
