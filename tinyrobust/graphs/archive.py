"""Networks as `.keras` files: equal networks are equal files, so that what reads one is not done again for another date."""

import json
import zipfile
from pathlib import Path

import keras
from pydantic import JsonValue

from tinyrobust.files import atomic_path

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first time that a ZIP archive can state
_METADATA, _CONFIG = "metadata.json", "config.json"


def save(network: keras.Model, path: Path) -> None:
    """Writes a network atomically, as Keras does, but without what differs from one time to the next.

    That is the date, in `metadata.json` and as the time of the members, and in `config.json` the address in memory of every
    object that several layers share: here they are numbered.

    Raises:
        RunFolderError: The disk is full, or the folder cannot be written.
    """
    with atomic_path(path) as temporary:
        network.save(temporary)
        with zipfile.ZipFile(temporary) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        metadata = json.loads(members[_METADATA])
        metadata.pop("date_saved", None)
        members[_METADATA] = json.dumps(metadata).encode()
        members[_CONFIG] = json.dumps(_numbered(json.loads(members[_CONFIG]), {})).encode()
        with zipfile.ZipFile(temporary, "w") as archive:
            for name, content in members.items():
                archive.writestr(zipfile.ZipInfo(name, _EPOCH), content)


def _numbered(value: JsonValue, numbers: dict[str, int]) -> JsonValue:
    """A configuration with every `shared_object_id` as a number from 0, in the order in which they are met."""
    if isinstance(value, list):
        return [_numbered(one, numbers) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key: numbers.setdefault(str(one), len(numbers)) if key == "shared_object_id" else _numbered(one, numbers)
        for key, one in value.items()
    }
