"""JSON records: a schema that must fit, and nothing accepted that was not meant."""

import json
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import ValidationError

from tinyrobust.errors import RunFolderError
from tinyrobust.records import Part, Record


class Row(Part):
    value: float


class Example(Record):
    SCHEMA: ClassVar[str] = "tinyrobust.example/2"
    name: str
    rows: tuple[Row, ...] = ()


_EXAMPLE = Example(name="a", rows=(Row(value=0.5),))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "new" / "example.json"
    _EXAMPLE.save(path)
    return path


def test_a_record_reads_back(saved):
    assert Example.load(saved) == _EXAMPLE


def test_the_file_names_its_schema_first_and_ends_with_a_newline(saved):
    text = saved.read_text()
    assert next(iter(json.loads(text).items())) == ("schema", "tinyrobust.example/2")
    assert text.endswith("}\n")


def _changed(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize("schema", ["tinyrobust.example/1", "tinyrobust.other/2", "", None, 2])
def test_another_schema_is_refused(saved, schema):
    _changed(saved, schema=schema)
    with pytest.raises(RunFolderError, match=r"\n  file: Expected schema 'tinyrobust.example/2'. Received: ") as caught:
        Example.load(saved)
    assert str(saved) in caught.value.message
    assert "run the stage again" in caught.value.hint
    assert len(str(caught.value).splitlines()) == 2


def test_an_unknown_key_is_refused(saved):
    _changed(saved, other=1)
    with pytest.raises(RunFolderError, match="other"):
        Example.load(saved)


@pytest.mark.parametrize("content", [b"", b"[]", b'"text"', b'{"schema": ', b"\xff\xfe"], ids=repr)
def test_what_is_no_record_is_refused(saved, content):
    saved.write_bytes(content)
    with pytest.raises(RunFolderError, match=r"Cannot read .*example.json as tinyrobust.example/2"):
        Example.load(saved)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(RunFolderError, match=r"Cannot read .*none.json"):
        Example.load(tmp_path / "none.json")


def test_a_record_is_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        _EXAMPLE.name = "b"
