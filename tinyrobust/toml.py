"""TOML files that people write: read, validated, and refused in words that name the nearest valid key."""

import json
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from tinyrobust.choices import nearest, no_such
from tinyrobust.errors import TinyRobustError

_Model = TypeVar("_Model", bound=BaseModel)


def values(path: Path, error: type[TinyRobustError]) -> dict[str, Any]:
    """What a TOML file says, unchecked.

    Raises:
        TinyRobustError: Of type `error`: the file cannot be read, is not UTF-8 or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as problem:
        raise error(f"{path} cannot be read as TOML: {problem}.") from problem


def named(path: Path, model: type[_Model], error: type[TinyRobustError]) -> _Model:
    """A TOML file as a `model` whose field `name` is the file's name: it is no key of the file.

    Raises:
        TinyRobustError: Of type `error`: the file cannot be read, or keys or values do not fit; every one is listed.
    """
    found = values(path, error)
    if "name" in found:
        raise error(f"{path}: 'name' is not a key of this file: its file name names it.", hint="Remove the line.")
    return validated(model, {"name": path.stem, **found}, str(path), error)


def validated(model: type[_Model], values: dict[str, Any], what: str, error: type[TinyRobustError]) -> _Model:
    """`values` as a `model`; its field `name`, if it has one, is no key that people write.

    Raises:
        TinyRobustError: Of type `error`: keys or values do not fit; every one is listed.
    """
    try:
        # As JSON, because its strict mode takes lists for tuples; strict: "3" is no number, and true is not 1.
        return model.model_validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as problem:
        raise error(f"{what} is not valid:\n{explain(problem, model, hidden={'name'})}") from problem


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Both, key by key: tables are merged, and of anything else that both have, `above` counts.

    A table of another `kind` replaces the one below: their keys have nothing in common.
    """
    both = {
        key: merged(below[key], above[key])
        for key in below
        if isinstance(below[key], dict) and isinstance(above.get(key), dict)
    }
    if above.get("kind", below.get("kind")) != below.get("kind"):
        return above
    return {**below, **above, **both}


def removed(values: dict[str, Any], key: str) -> bool:
    """Takes a key, such as `train.distillation`, out of nested tables; False where it is not there."""
    *tables, last = key.split(".")
    place: Any = values
    for table in tables:
        place = place.get(table) if isinstance(place, dict) else None
    if not isinstance(place, dict) or last not in place:
        return False
    del place[last]
    return True


def assign(values: dict[str, Any], setting: str, error: type[TinyRobustError]) -> None:
    """Writes a setting such as `train.epochs=3` into nested tables; its value is TOML, or text where it is not.

    Raises:
        TinyRobustError: Of type `error`: it is no KEY=VALUE, or there is no such place.
    """
    key, equals, text = setting.partition("=")
    if not equals or not key.strip():
        raise error(f"Expected --set KEY=VALUE, for instance train.epochs=3. Received: {setting!r}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    *tables, last = key.strip().split(".")
    place: Any = values
    try:
        for table in tables:
            place = place[int(table)] if isinstance(place, list) else place.setdefault(table, {})
        place[int(last) if isinstance(place, list) else last] = value
    except (AttributeError, IndexError, TypeError, ValueError) as problem:
        raise error(f"--set {setting}: {key!r} is not a key that can be set.") from problem


def explain(error: ValidationError, model: type[BaseModel], hidden: Collection[str] = ()) -> str:
    """What does not fit, a line a problem: where, why, what was received, and for an unknown key the nearest valid one.

    Args:
        error: What pydantic found.
        model: The model that was validated.
        hidden: Fields of `model` that are no keys of the file, so never proposed.
    """
    lines = []
    for problem in error.errors():
        if problem["type"] == "too_short" and problem["ctx"]["actual_length"] < len(problem["input"]):
            continue  # pydantic did not count members that do not fit: what is wrong with them is said anyway
        place = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            table, key = problem["loc"][:-1], str(problem["loc"][-1])
            valid = [name for name in _fields_at(model, table) if table or name not in hidden]
            known = f"Valid keys: {', '.join(valid)}." if valid else ""
            lines.append(" ".join(filter(None, (f"  {place}: there is no such key.", nearest(key, valid), known))))
        elif problem["type"] == "union_tag_invalid":
            known, tag = problem["ctx"]["expected_tags"].replace("'", "").split(", "), str(problem["ctx"]["tag"])
            lines.append(f"  {place}: {no_such('kind', tag, known)}")
        elif problem["type"] == "union_tag_not_found":
            lines.append(f"  {place}: kind is missing: it says which of the tables of this place it is.")
        elif problem["type"] == "missing":
            lines.append(f"  {place}: is missing.")
        elif problem["type"] == "value_error":  # raised by a model of ours: it says what was received
            lines.append(f"  {place or 'file'}: {problem['ctx']['error']}")
        else:
            lines.append(f"  {place or 'file'}: {problem['msg']}. Received: {problem['input']!r}")
    return "\n".join(lines)


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The valid keys of the table at `location`, following models, optional models and tuples of models.

    In a union told apart by a field, pydantic puts that field's value into the location: it picks the member.
    """
    candidates = [model]
    for part in location:
        if isinstance(part, int):
            continue
        members = [m for m in candidates if len(candidates) > 1 and _is_tagged(m, part)]
        if members:
            candidates = members
            continue
        if len(candidates) > 1 and part not in _keys(candidates[0]):
            continue  # the tag of the first member, which has no field for it
        field = _keys(candidates[0]).get(part)
        candidates = _models_in(field.annotation) if field else []
        if not candidates:
            return []
    return list(_keys(candidates[0]))


def _keys(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _is_tagged(model: type[BaseModel], tag: str) -> bool:
    return any(tag in get_args(field.annotation) for field in model.model_fields.values())


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models_in(inner)]
