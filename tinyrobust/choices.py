"""Things that people choose by name: which there are, and what is said when there is no such thing.

What a recipe can name is a pydantic table with a `kind`; the tables of one seam form a union that pydantic tells apart by it,
which is the seam's registry: to add a thing, add its table to the union.
"""

import difflib
from collections.abc import Iterable
from typing import Any, get_args

from pydantic import BaseModel


def nearest(name: str, known: Iterable[str]) -> str:
    """`Did you mean 'x'?` for the known name closest to `name`, which is not among them; empty where none is close."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.4)
    return f"Did you mean {close[0]!r}?" if close else ""


def no_such(what: str, name: str, known: Iterable[str], other: str = "") -> str:
    """What to say where a name is none of those that there are: `There is no board 'x'. Did you mean 'y'? Expected one of y.`.

    Args:
        what: The kind of thing, such as "board".
        name: What was asked for.
        known: All names that there are.
        other: What may stand instead of a name, such as "or the path of a TOML file".
    """
    known = list(known)
    expected = f"Expected one of {', '.join(known)}" if known else "There are none"
    sentences = (f"There is no {what} {name!r}.", nearest(name, known), f"{expected}{f' {other}' if other else ''}.")
    return " ".join(filter(None, sentences))


def members(union: Any) -> dict[str, type[BaseModel]]:
    """The tables of a seam by kind, in order.

    Args:
        union: `Annotated[A | B, Field(discriminator="kind")]`: every member has a field `kind` of one literal.
    """
    tables = get_args(get_args(union)[0]) or (get_args(union)[0],)
    return {get_args(table.model_fields["kind"].annotation)[0]: table for table in tables}
