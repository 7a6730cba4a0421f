"""Which files are images of which class: folders, and lists in CSV, as people have them; what is done to them is remarked.

Nothing is dropped, merged or added without a remark that names it.
"""

import csv
import io
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tinyrobust.errors import DataError

LAYOUT = (
    "Expected a folder for every class (bolts/0001.png, nuts/0001.png), or these in train/ and test/; a CSV file with the "
    "columns path and label, and split (train or test) if wanted; or a .npz with x_train, y_train, x_test, y_test."
)
_TRAINING, _VALIDATION, _TESTING = ("train", "training"), ("val", "valid", "validation"), ("test", "testing")
_SPLITS = _TRAINING + _VALIDATION + _TESTING
_OF_SYSTEMS = ("__MACOSX", "__pycache__")  # folders that nobody made on purpose
_PATHS, _LABELS = ("path", "filename", "file", "image"), ("label", "class")
_SEPARATORS = ",;\t|"
_NAMED = 5  # so many names in a remark
_AS_TRAINING = "Validation images join the training images: a recipe draws its own from these."
_AS_TEST = "Validation images are the test: there are no others for it."


@dataclass(frozen=True)
class Listing:
    """Image files and what is known of them.

    Attributes:
        paths: The files.
        labels: The class of each.
        tested: Whether each is for the test; None where the source does not say which are.
        remarks: What was left out, merged or taken for something else, a sentence each.
    """

    paths: list[Path]
    labels: list[str]
    tested: list[bool] | None
    remarks: tuple[str, ...] = ()


def list_folder(source: Path) -> Listing:
    """Files of `source/<class>/`, or of `source/train/<class>/` and `source/test/<class>/`, in the order of their names.

    Without a test folder the validation folder is the test; with one, its images join the training images, of which a recipe
    draws its own. Hidden folders count nowhere. A folder named train or val that has images in it, not folders, is a class.
    """
    hidden = sorted({str(path.relative_to(source)) for path in source.rglob("*") if path.is_dir() and _is_hidden(path)})
    remarks = [f"Hidden folders are left out: {_some(hidden)}."] if hidden else []
    inside = _folders(source)
    splits = [path for path in inside if path.name.lower() in _SPLITS and _folders(path)]
    if not any(path.name.lower() in _TRAINING for path in splits):
        if splits:
            named = _some([f"{path.name}/" for path in splits])
            raise DataError(f"{source}: Expected train/ beside {named}. Received: no such folder", hint=LAYOUT)
        files, labels, empty = _classes(source)
        return Listing(files, labels, None, (*remarks, *empty))
    beside = [path.name for path in inside if path not in splits]
    if beside:
        remarks.append(f"Beside {_some([path.name for path in splits])}, in none of them, and left out: {_some(beside)}.")
    held_out = any(path.name.lower() in _TESTING for path in splits)
    validated = any(path.name.lower() in _VALIDATION for path in splits)
    if validated:
        remarks.append(_AS_TRAINING if held_out else _AS_TEST)
    files, labels, tested = [], [], []
    for part in splits:
        found, of_them, empty = _classes(part)
        remarks += empty
        files += found
        labels += of_them
        tested += [part.name.lower() in (_TESTING if held_out else _VALIDATION)] * len(found)
    return Listing(files, labels, tested if held_out or validated else None, tuple(remarks))


def _classes(folder: Path) -> tuple[list[Path], list[str], list[str]]:
    """Files and class of each, and what is to be said of classes without files."""
    files, labels, empty = [], [], []
    for kind in _folders(folder):
        found = [path for path in sorted(kind.rglob("*")) if path.is_file() and not path.name.startswith(".")]
        found = [path for path in found if not any(map(_hidden_name, path.relative_to(kind).parts[:-1]))]
        files += found
        labels += [kind.name] * len(found)
        empty += [] if found else [f"A class without images is left out: {kind.name} in {folder.name}."]
    return files, labels, empty


def _folders(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and not _is_hidden(path)]


def _is_hidden(path: Path) -> bool:
    return _hidden_name(path.name)


def _hidden_name(name: str) -> bool:
    return name.startswith(".") or name in _OF_SYSTEMS


def list_table(source: Path) -> Listing:
    """The rows of a CSV file; its paths are relative to it.

    Commas, semicolons, tabs and bars separate; UTF-8 and UTF-16 are read; columns are found whatever their letters' size.

    Raises:
        DataError: It cannot be read, columns are missing, or a row is not right.
    """
    text = _text(source)
    header = text.partition("\n")[0]
    separator = max(_SEPARATORS, key=header.count)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise DataError(f"{source} cannot be read as CSV: {error}.", hint=LAYOUT) from error
    columns = [name.casefold() for name in rows[0][1]] if rows else []
    where = [next((name for name in names if name in columns), None) for names in (_PATHS, _LABELS)]
    if None in where:
        raise DataError(
            f"{source}: Expected the columns path and label. Received: {', '.join(rows[0][1]) if rows else 'none'}",
            hint=f"The first line names the columns: path{separator}label. {LAYOUT}",
        )
    remarks = [f"Columns {' and '.join(map(str, where))} are path and label."] if where != ["path", "label"] else []
    at = {"path": columns.index(str(where[0])), "label": columns.index(str(where[1]))}
    if "split" in columns:
        at["split"] = columns.index("split")
    found = [(line, {name: (row[place] if place < len(row) else "") for name, place in at.items()}) for line, row in rows[1:]]
    for line, row in found:
        _check_row(source, line, row)
    splits = {row.get("split", "").lower() for _, row in found}
    held_out = not splits.isdisjoint(_TESTING)
    remarks += [] if splits.isdisjoint(_VALIDATION) else [_AS_TRAINING if held_out else _AS_TEST]
    tested = None
    if "split" in at and not splits.isdisjoint(_TESTING + _VALIDATION):
        tested = [row["split"].lower() in (_TESTING if held_out else _VALIDATION) for _, row in found]
    paths = [_path(source.parent, row["path"]) for _, row in found]
    twice = [str(path) for path, count in Counter(paths).items() if count > 1]
    remarks += [f"{len(twice):,} files are listed more than once, and count as often: {_some(twice)}."] if twice else []
    return Listing(paths, [row["label"] for _, row in found], tested, tuple(remarks))


def _text(source: Path) -> str:
    try:
        content = source.read_bytes()
        encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        return content.decode(encoding).replace("\ufeff", "")  # some programs write one at the end of what they append to
    except OSError as error:
        raise DataError(f"{source} cannot be read as CSV: {error}.", hint=LAYOUT) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{source} cannot be read as CSV: {error}.",
            hint="Save it as UTF-8: in Excel the file type CSV UTF-8, in a terminal iconv -f latin1 -t utf-8.",
        ) from error


def _check_row(source: Path, line: int, row: dict[str, str]) -> None:
    if row["path"] and row["label"] and row.get("split", "train").lower() in _SPLITS:
        return
    raise DataError(
        f"{source}, row {line}: Expected a path, a label, and a split that is train or test (or val). Received: {row}",
        hint="Every row needs all of them; rows without a class are left out of the list.",
    )


def _path(folder: Path, text: str) -> Path:
    """A path beside the list; of Windows' separators where there is no such file."""
    path = folder / text
    return folder / text.replace("\\", "/") if "\\" in text and not path.exists() else path


def with_one_name_each(listing: Listing) -> Listing:
    """The same, classes that are spelt alike made one, and those that differ in capitals only remarked.

    File systems write letters with accents in two ways (NFC and NFD); both look the same, and are.
    """
    spelt = {name: unicodedata.normalize("NFC", name) for name in set(listing.labels)}
    merged = sorted({new for new, count in Counter(spelt.values()).items() if count > 1})
    remarks = list(listing.remarks)
    if merged:
        remarks.append(f"Spelt in two ways that look the same (NFC and NFD), and made one class: {_some(merged)}.")
    alike: dict[str, set[str]] = defaultdict(set)
    for name in spelt.values():
        alike[name.casefold()].add(name)
    twins = sorted(sorted(names) for names in alike.values() if len(names) > 1)
    remarks += [f"Classes that differ in capitals only are kept apart: {_some(names)}." for names in twins]
    return Listing(listing.paths, [spelt[name] for name in listing.labels], listing.tested, tuple(remarks))


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
