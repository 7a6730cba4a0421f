"""Anybody's images: folders, lists and arrays of real files, made by Pillow; what is wrong with them is named."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from typer.testing import CliRunner

from tinyrobust import recipe as recipes
from tinyrobust.cli.app import app
from tinyrobust.data import load
from tinyrobust.data.own import Added, add
from tinyrobust.errors import DataError
from tinyrobust.pipeline.facts import run_facts
from tinyrobust.pipeline.run_record import RunRecord
from tinyrobust.recipe.data import Augment, Data


def picture(value: int, size: int = 6, channels: int = 1) -> Image.Image:
    shape = (size, size) if channels == 1 else (size, size, channels)
    return Image.fromarray(np.random.default_rng(value).integers(0, 256, shape, dtype=np.uint8))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Ten gray images of each of three classes, in three formats."""
    for label, kind in enumerate(("bolt", "nut", "pin")):
        folder = tmp_path / "photos" / kind
        folder.mkdir(parents=True)
        for index in range(10):
            picture(100 * label + index).save(folder / f"{index}.{('png', 'bmp', 'tif')[index % 3]}")
    return tmp_path / "photos"


def added(source: Path, **settings: Any) -> Added:
    return add(source, source.parent / "data", **{"name": "mine"} | settings)


def loaded(done: Added, **settings: Any) -> Any:
    return load(Data(name=str(done.path), **settings), seed=1)


def test_a_folder_becomes_a_data_set(photos: Path) -> None:
    done = added(photos, licence="CC0", title="Three kinds")
    assert done.counts == {"bolt": (8, 2), "nut": (8, 2), "pin": (8, 2)}
    assert (done.skipped, done.leaked) == ((), 0)
    assert (done.card.title, done.card.licence, done.card.image) == ("Three kinds", "CC0", (6, 6, 1))
    dataset = loaded(done)
    assert (dataset.name, dataset.classes, dataset.input_shape) == ("mine.toml", ("bolt", "nut", "pin"), (6, 6, 1))
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (22, 2, 6)
    expected = {np.asarray(picture(100 * label + index)).tobytes(): label for label in range(3) for index in range(10)}
    for split in (dataset.train, dataset.validation, dataset.test):
        assert [expected.pop(image.tobytes()) for image in split.x] == split.y.tolist()
    assert expected == {}


def test_again_gives_the_same_card_and_another_seed_another_test(photos: Path) -> None:
    one, again, other = added(photos), added(photos, name="again"), added(photos, name="other", seed=1)
    assert one.card.loader.fingerprint == again.card.loader.fingerprint != other.card.loader.fingerprint


def test_train_and_test_folders_are_kept_and_validation_is_for_training(photos: Path) -> None:
    split = photos.parent / "split"
    split.mkdir()
    for part, kinds in (("train", "0123"), ("val", "45"), ("Test", "6789")):
        for kind in ("bolt", "nut", "pin"):
            (split / part / kind).mkdir(parents=True)
            for path in (photos / kind).iterdir():
                if path.stem in kinds:
                    path.rename(split / part / kind / path.name)
    done = added(split)
    assert done.counts == {"bolt": (6, 4), "nut": (6, 4), "pin": (6, 4)}
    (remark,) = done.remarks
    assert "Validation images join the training images" in remark
    assert done.card.splits == f"As the folders or the list say. {remark}"


@pytest.mark.parametrize("with_split", [False, True])
def test_a_list_names_paths_beside_it(photos: Path, with_split: bool) -> None:
    rows = [f"{path.relative_to(photos.parent)}, {path.parent.name}" for path in sorted(photos.rglob("*.*"))]
    if with_split:
        rows = [f"{row}, {'test' if index % 5 == 0 else 'train'}" for index, row in enumerate(rows)]
    source = photos.parent / "list.csv"
    source.write_text("path, label" + ", split" * with_split + "\n" + "\n".join(rows) + "\n", encoding="utf-8-sig")
    done = added(source)
    assert (done.card.train_images, done.card.test_images) == (24, 6)
    assert loaded(done).classes == ("bolt", "nut", "pin")


def _moved(photos: Path, parts: dict[str, str]) -> Path:
    """The photos in `split/<part>/<class>/`, by the digits of their names."""
    for part, kinds in parts.items():
        for kind in ("bolt", "nut", "pin"):
            (photos.parent / "split" / part / kind).mkdir(parents=True)
            for path in (photos / kind).iterdir():
                if path.stem in kinds:
                    path.rename(photos.parent / "split" / part / kind / path.name)
    return photos.parent / "split"


def test_validation_is_the_test_where_there_is_no_other(photos: Path) -> None:
    done = added(_moved(photos, {"train": "01234567", "val": "89"}))
    assert done.counts == {"bolt": (8, 2), "nut": (8, 2), "pin": (8, 2)}
    assert done.remarks == ("Validation images are the test: there are no others for it.",)


def test_nothing_beside_the_splits_vanishes_unnamed(photos: Path) -> None:
    split = _moved(photos, {"train": "01234567", "test": "89"})
    (split / "washer").mkdir()
    picture(1).save(split / "washer" / "1.png")
    (split / "train" / "screw").mkdir()
    done = added(split)
    assert done.counts == {"bolt": (8, 2), "nut": (8, 2), "pin": (8, 2)}
    assert any("left out: washer" in remark for remark in done.remarks)
    assert any("without images is left out: screw in train" in remark for remark in done.remarks)
    assert all(remark in done.card.splits for remark in done.remarks)
    (split / "train").rename(split / "other")
    with pytest.raises(DataError, match="Expected train/ beside test/"):
        added(split)


def test_a_class_may_be_called_train(photos: Path) -> None:
    (photos / "bolt").rename(photos / "train")
    done = added(photos)
    assert (set(done.counts), done.remarks) == ({"train", "nut", "pin"}, ())


def test_hidden_folders_count_nowhere(photos: Path) -> None:
    for folder in (".ipynb_checkpoints", "__MACOSX", "bolt/.thumbnails"):
        (photos / folder).mkdir()
        picture(1).save(photos / folder / "1.png")
    done = added(photos)
    assert done.counts == {"bolt": (8, 2), "nut": (8, 2), "pin": (8, 2)}
    assert done.remarks == ("Hidden folders are left out: .ipynb_checkpoints, __MACOSX, bolt/.thumbnails.",)


def test_names_that_look_the_same_are_one_class_and_capitals_are_remarked(photos: Path) -> None:
    (photos / "bolt").rename(photos / "St\u00fcck")
    (photos / "nut").rename(photos / "Stu\u0308ck")
    (photos / "pin").rename(photos / "Pin")
    (photos / "pin").mkdir()
    for index in range(5):
        picture(index).save(photos / "pin" / f"{index}.png")
    done = added(photos)
    assert {name: sum(count) for name, count in done.counts.items()} == {"Pin": 10, "St\u00fcck": 20, "pin": 5}
    assert any("made one class: St\u00fcck" in remark for remark in done.remarks)
    assert any("capitals only are kept apart: Pin, pin" in remark for remark in done.remarks)


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_pixels_of_a_sensor_with_few_bits_are_not_black(bits: int, tmp_path: Path) -> None:
    white = 2**bits - 1
    for kind in "ab":
        (tmp_path / "deep" / kind).mkdir(parents=True)
        for index in range(4):
            Image.fromarray(np.array([[0, white], [white // 2, index]], np.uint16)).save(
                tmp_path / "deep" / kind / f"{index}.png"
            )
    done = added(tmp_path / "deep", test=0.5)
    assert all(image[0, 1, 0] == 255 and 126 <= image[1, 0, 0] <= 128 for image in loaded(done, validation=0.5).test.x)
    expected = [] if bits == 16 else [f"8 images of 16 bits hold no value above {white:,}: {bits} bits"]
    assert [remark.split(", so")[0] for remark in done.remarks] == expected


@pytest.mark.parametrize(
    ("encoding", "separator", "header"),
    [
        ("utf-8-sig", ";", "path;label;split"),
        ("utf-16", "\t", "Path\tLabel\tSplit"),
        ("utf-8", "|", "split|LABEL|filename"),
    ],
)
def test_lists_as_programs_write_them(photos: Path, encoding: str, separator: str, header: str) -> None:
    rows = []
    for index, path in enumerate(sorted(photos.rglob("*.*"))):
        row = [str(path.relative_to(photos.parent)), path.parent.name, "Test" if index % 5 == 0 else "val"]
        rows.append(separator.join(row if header.lower().split(separator)[-1] == "split" else reversed(row)))
    (photos.parent / "list.csv").write_text("\r\n".join([header, *rows]), encoding=encoding)
    done = added(photos.parent / "list.csv")
    assert done.counts == {"bolt": (8, 2), "nut": (8, 2), "pin": (8, 2)}
    assert any("Validation images join" in remark for remark in done.remarks)


def test_a_list_that_is_not_utf8_says_how_to_save_it(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_bytes("path,label\n1.png,St\u00fcck\n".encode("latin1"))
    with pytest.raises(DataError, match="cannot be read as CSV") as caught:
        added(tmp_path / "list.csv")
    assert "Save it as UTF-8" in str(caught.value.hint)


def test_a_npz_stays_where_it_is(tmp_path: Path) -> None:
    digits = load_digits()
    x, y = digits.images.astype(np.uint8), digits.target
    np.savez(tmp_path / "digits.npz", x_train=x[:1500], y_train=y[:1500], x_test=x[1500:], y_test=y[1500:])
    done = added(tmp_path / "digits.npz", flip_allowed=True)
    assert [path.name for path in done.path.parent.iterdir()] == ["mine.toml"]
    assert done.card.loader.file == "../digits.npz"
    assert len(loaded(done, augment=Augment(flip=True)).test) == 297
    with pytest.raises(DataError, match="neither --color nor --size"):
        added(tmp_path / "digits.npz", size=8)


def test_damaged_files_are_named_and_left_out(photos: Path) -> None:
    whole = (photos / "nut" / "0.png").read_bytes()
    (photos / "nut" / "0.png").write_bytes(whole[: len(whole) // 2])
    (photos / "nut" / "3.png").write_bytes(whole[:45] + bytes(8) + whole[53:])
    (photos / "pin" / "1.bmp").write_bytes(b"")
    (photos / "pin" / "notes.txt").write_text("the pins of Tuesday")
    (photos / "pin" / ".DS_Store").write_bytes(b"hidden files are no images, and nobody is told")
    done = added(photos)
    assert sorted(Path(one.path).name for one in done.skipped) == ["0.png", "1.bmp", "3.png", "notes.txt"]
    assert all(one.reason for one in done.skipped)
    assert "4 files could not be read" in done.card.preprocessing
    assert done.card.train_images + done.card.test_images == 27


def test_sizes_and_channels_are_checked_and_can_be_made_equal(photos: Path) -> None:
    picture(1, size=9).save(photos / "bolt" / "large.png")
    with pytest.raises(DataError, match=r"one size\. Received: 2: 6x6: 30 .*9x9: 1 \(such as .*large\.png.*--size 32"):
        added(photos)
    picture(2, channels=3).save(photos / "bolt" / "colour.png")
    with pytest.raises(DataError, match=r"one number of channels\. Received: 2: 1: 31 .*colour\.png.*--color gray"):
        added(photos)
    assert loaded(added(photos, size=8, color="rgb"), color="rgb").input_shape == (8, 8, 3)


def test_what_pixels_mean_is_kept(tmp_path: Path) -> None:
    """16 bits become 8, what is transparent becomes black."""
    for kind, image in {
        "deep": Image.fromarray(np.array([[0, 128], [129, 65535]], np.uint16)),
        "clear": Image.fromarray(np.array([[[200, 255], [200, 0]], [[200, 255], [10, 255]]], np.uint8), "LA"),
    }.items():
        (tmp_path / "gray" / kind).mkdir(parents=True)
        for index in range(2):
            image.save(tmp_path / "gray" / kind / f"{index}.png")
    test = loaded(added(tmp_path / "gray", test=0.5), validation=0.5).test
    values = {("clear", "deep")[label]: image[..., 0].tolist() for image, label in zip(test.x, test.y, strict=True)}
    assert values == {"deep": [[0, 0], [1, 255]], "clear": [[200, 0], [200, 10]]}


def test_images_in_both_splits_are_counted(photos: Path) -> None:
    for index in range(10):
        (photos / "bolt" / f"copy{index}.png").write_bytes((photos / "bolt" / "0.png").read_bytes())
    done = added(photos)
    assert done.leaked > 0
    assert f"{done.leaked} test images are training images too" in done.card.splits


def test_changed_images_are_noticed(photos: Path) -> None:
    done = added(photos)
    added(photos, name="other", seed=3).path.with_suffix(".npz").replace(done.path.with_suffix(".npz"))
    with pytest.raises(DataError, match="Expected the images of the card, fingerprint"):
        loaded(done)


def test_a_mirrored_image_is_refused_unless_the_card_allows_it(photos: Path) -> None:
    with pytest.raises(DataError, match=r"data\.augment\.flip = false"):
        loaded(added(photos), augment=Augment(flip=True))
    loaded(added(photos, flip_allowed=True), augment=Augment(flip=True))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: None, "Expected a folder, a .csv or a .npz"),
        (lambda at: at.mkdir(), "two or more classes. Received: none"),
        (lambda at: [(at / "one").mkdir(parents=True), picture(1).save(at / "one" / "1.png")], "Received: one"),
        (lambda at: [(at / k).mkdir(parents=True) or (at / k / "1.png").touch() for k in "ab"], "2 files, none of which"),
        (lambda at: [(at / k).mkdir(parents=True) or picture(1).save(at / k / "1.png") for k in "ab"], "test images of every"),
    ],
)
def test_what_is_no_data_set_is_refused(tmp_path: Path, make: Any, message: str) -> None:
    make(tmp_path / "it")
    with pytest.raises(DataError, match=message):
        added(tmp_path / "it")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,kind\n1.png,bolt\n", "columns path and label. Received: file, kind"),
        ("path,label\n1.png,\n", "row 2: Expected a path, a label"),
        ("path,label,split\n1.png,bolt,maybe\n", "row 2: .*split that is train or test"),
        ("path,label\n1.png,bolt\n2.png,nut\n", "none of which can be read.*there is no such file"),
        ("", "Received: none"),
    ],
)
def test_a_list_that_is_not_right_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        added(tmp_path / "list.csv")


def test_a_name_is_no_path(photos: Path) -> None:
    with pytest.raises(DataError, match=r"Received: '\.\./mine'"):
        added(photos, name="../mine")


def test_what_people_type(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos.parent)
    (photos / "pin" / "notes.txt").write_text("no image")
    people = CliRunner().invoke(app, ["datasets", "add", "photos", "--name", "bolts", "--size", "8"])
    machines = CliRunner().invoke(app, ["datasets", "add", "photos", "--size", "8", "--json"])
    assert people.exit_code == machines.exit_code == 0, people.output
    assert "data/bolts.toml" in people.output
    assert "notes.txt: not an image" in people.output
    facts = json.loads(machines.output)
    assert (facts["card"], facts["train_images"], facts["image"]) == ("data/photos.toml", 24, [8, 8, 1])
    assert [Path(one["path"]).name for one in facts["skipped"]] == ["notes.txt"]
    assert load(Data(name="data/bolts.toml"), seed=1).input_shape == (8, 8, 1)


def test_a_report_names_title_and_licence(photos: Path) -> None:
    done = added(photos, title="Three kinds", licence="CC0")
    recipe = recipes.load("digits-stq", [f"data.name='{done.path}'"])
    dataset = loaded(done)
    sizes = {"train": 22, "validation": 2, "test": 6}
    words = dict.fromkeys(("name", "recipe_hash", "platform"), "x")
    record = RunRecord(
        **words,
        seed=1,
        dataset=dataset.name,
        dataset_fingerprint=dataset.fingerprint,
        dataset_sizes=sizes,
        dataset_notes=[],
        classes=list(dataset.classes),
        input_shape=[6, 6, 1],
        versions={},
    )
    data = run_facts(recipe, record).data
    assert data is not None
    assert (data.name, data.title, data.licence) == ("mine.toml", "Three kinds", "CC0")
    done.path.unlink()
    data = run_facts(recipe, record).data
    assert data is not None
    assert data.licence == ""


def test_help_has_an_example() -> None:
    assert "tinyrobust datasets add photos/" in CliRunner().invoke(app, ["datasets", "add", "--help"]).output
