"""Which part a clip is of: training, validation or test, none with a speaker of another.

By `testing_list.txt` and `validation_list.txt` where they are there, else by the rule that made them: the SHA-1 of the
speaker's name (README.md of the archive; Warden, arXiv 1804.03209, section 7.1).
"""

import hashlib
import re
from pathlib import Path

from tinyrobust.errors import DataError

LISTS = {"test": "testing_list.txt", "validation": "validation_list.txt"}
_HASHES = 2**27  # as in the archive's README: the hash modulo this, as a percentage
_SHARE = 10.0  # percent of the speakers for validation, and as many for the test


def lists(folder: Path) -> dict[str, str]:
    """What the two lists say: `word/name`, without suffix, to the part; empty where they are not both there.

    Suffixes do not count: who repacked .wav as .flac keeps the lists.
    """
    if not all((folder / name).is_file() for name in LISTS.values()):
        return {}
    listed: dict[str, str] = {}
    for part, name in LISTS.items():
        try:
            lines = (folder / name).read_text(encoding="utf-8").split()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{folder / name} cannot be read: {error}.") from error
        listed |= {line.rpartition(".")[0]: part for line in lines}
    return listed


def key(word: str, path: Path) -> str:
    """A clip's name in `lists`."""
    return f"{word}/{path.stem}"


def part_of(word: str, path: Path, listed: dict[str, str], staying: float = 1.0) -> str:
    """The part of a clip of that word: by what `lists` found, else by the archive's rule.

    Args:
        word: The name of its folder.
        path: Its file.
        listed: What `lists` found.
        staying: Share of the validation speakers who stay in that part; the others are of the training part.
    """
    part = listed.get(key(word, path), "train") if listed else sha1_part(path.name)
    # The hash's digits above those of the archive's rule, which are low for all speakers of the validation part.
    if part == "validation" and speaker_hash(path.name) // _HASHES % _HASHES >= staying * _HASHES:
        return "train"
    return part


def sha1_part(name: str) -> str:
    """The part of a clip by the archive's rule; all clips of a speaker share it.

    Args:
        name: The file's name, `<speaker>_nohash_<n>.wav`; of another file its name without suffix is the speaker.
    """
    percentage = (speaker_hash(name) % _HASHES) * (100.0 / (_HASHES - 1))
    if percentage < _SHARE:
        return "validation"
    return "test" if percentage < 2 * _SHARE else "train"


def speaker_hash(name: str) -> int:
    """The SHA-1 of a clip's speaker, as a number; `name` as in `sha1_part`."""
    speaker = re.sub(r"_nohash_.*$", "", name) if "_nohash_" in name else Path(name).stem
    return int(hashlib.sha1(speaker.encode(), usedforsecurity=False).hexdigest(), 16)
