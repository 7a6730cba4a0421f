from pathlib import Path

import pytest

from tinyrobust import assets, toml
from tinyrobust.data import Card, available, cards, read_card
from tinyrobust.errors import DataError


def test_the_four_sets_have_cards() -> None:
    assert set(cards()) >= {"digits", "cifar10", "mnist", "svhn_cropped"}


@pytest.mark.parametrize(
    ("name", "image", "train", "test", "flip", "classes"),
    [
        ("digits", (8, 8, 1), 1437, 360, False, 10),
        ("cifar10", (32, 32, 3), 50000, 10000, True, 10),
        ("mnist", (28, 28, 1), 60000, 10000, False, 10),
        ("svhn_cropped", (32, 32, 3), 73257, 26032, False, 10),
        ("imagenette", (160, 160, 3), 9469, 3925, True, 10),
        ("resisc45", (256, 256, 3), 25200, 6300, True, 45),
    ],
)
def test_what_a_card_says(name: str, image: tuple[int, int, int], train: int, test: int, flip: bool, classes: int) -> None:
    card = read_card(name)
    assert (card.name, card.image, card.train_images, card.test_images, card.flip_allowed) == (name, image, train, test, flip)
    assert len(card.classes) == len(set(card.classes)) == classes
    assert card.url.startswith("http")


def test_an_unknown_set_names_the_nearest() -> None:
    with pytest.raises(DataError, match=r"There is no data set 'cifar'. Did you mean 'cifar10'\?.*tinyrobust list datasets"):
        read_card("cifar")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('license = "MIT"', r"license: there is no such key\. Did you mean 'licence'"),
        ('name = "digits"', "'name' is not a key"),
        ("= 3", "cannot be read as TOML"),
    ],
)
def test_a_card_with_a_wrong_line_is_refused(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(line + "\n" + assets.dataset_cards()["digits"].read_text())
    with pytest.raises(DataError, match=message):
        toml.named(path, Card, DataError)


def test_the_loader_is_one_of_those_there_are(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(assets.dataset_cards()["digits"].read_text().replace('"scikit-learn"', '"pickle"'))
    with pytest.raises(DataError, match=r"loader.*pickle"):
        toml.named(path, Card, DataError)


def test_available_says_what_is_on_this_machine(tmp_path: Path) -> None:
    assert available(read_card("digits"), tmp_path)
    assert not available(read_card("mnist"), tmp_path)
    (tmp_path / "mnist" / "3.0.1").mkdir(parents=True)
    (tmp_path / "mnist" / "3.0.1" / "dataset_info.json").touch()
    assert available(read_card("mnist"), tmp_path)


def test_images_that_vary_in_size_become_squares(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(assets.dataset_cards()["imagenette"].read_text().replace("[160, 160, 3]", "[160, 120, 3]"))
    with pytest.raises(DataError, match=r"square images where sizes vary.*160 x 120"):
        toml.named(path, Card, DataError)
