"""The folders that a user edits are found, in a checkout and in a wheel."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tinyrobust import assets


@pytest.mark.parametrize("name", ["models", "datasets", "export"])
def test_in_a_checkout_they_stand_beside_the_package(checkout, name):
    assert assets.folder(name) == checkout / name


@pytest.mark.parametrize(
    ("listing", "known"),
    [
        (assets.recipes, "digits-stq"),
        (assets.protocols, "quick"),
        (assets.dataset_cards, "digits"),
    ],
)
def test_a_listing_has_names_and_files(listing, known):
    found = listing()
    assert known in found
    assert list(found) == sorted(found)
    assert all(path.is_file() and path.suffix == ".toml" for path in found.values())


def test_boards_are_listed():
    assert len(assets.boards()) >= 6


def test_protocols_are_no_recipes():
    assert "protocols" not in assets.recipes()


def test_installed_from_a_wheel_they_are_inside_the_package(checkout: Path, tmp_path: Path):
    installed = tmp_path / "site" / "tinyrobust"
    installed.mkdir(parents=True)
    for file in ("__init__.py", "_version.py", "assets.py"):
        shutil.copy(checkout / "tinyrobust" / file, installed)
    shutil.copytree(checkout / "models", installed / "_models")
    (tmp_path / "site" / "models").mkdir()  # somebody else's folder of that name beside the installed package
    script = "from tinyrobust import assets; print(assets.recipes()['digits-stq'])"
    command = [sys.executable, "-c", script]
    found = subprocess.run(command, cwd=tmp_path / "site", capture_output=True, text=True, check=True).stdout.strip()
    assert Path(found) == installed / "_models" / "digits-stq" / "recipe.toml"
