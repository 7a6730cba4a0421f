"""What is said of a name that is none of those that there are; the registries of the seams."""

from typing import Annotated, Literal

import pytest
from pydantic import Field

from tinyrobust.choices import members, nearest, no_such
from tinyrobust.recipe.network import Network
from tinyrobust.recipe.table import Table


class _One(Table):
    kind: Literal["one"]


class _Two(Table):
    kind: Literal["two"]


@pytest.mark.parametrize(
    ("name", "known", "said"),
    [
        ("bord", ["board", "card"], "There is no thing 'bord'. Did you mean 'board'? Expected one of board, card."),
        ("xyz", ["board"], "There is no thing 'xyz'. Expected one of board."),
        ("xyz", [], "There is no thing 'xyz'. There are none."),
    ],
)
def test_it_names_the_nearest_and_all(name: str, known: list[str], said: str) -> None:
    assert no_such("thing", name, known) == said


def test_something_else_may_stand_instead() -> None:
    assert no_such("thing", "x", ["y"], "or a path").endswith("Expected one of y or a path.")


def test_nothing_near_is_nothing_said() -> None:
    assert nearest("digits-sqt", ["digits-stq"]) == "Did you mean 'digits-stq'?"
    assert nearest("zzz", ["digits-stq"]) == ""


def test_the_members_of_a_union_go_by_their_kind() -> None:
    union = Annotated[_One | _Two, Field(discriminator="kind")]
    assert members(union) == {"one": _One, "two": _Two}
    assert list(members(Annotated[_One, Field()])) == ["one"]
    assert {"stqnet", "dscnn"} <= set(members(Network))
