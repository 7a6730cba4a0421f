"""`tinyrobust export` of what is trained already: the zoo's files, by name and by folder."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tinyrobust import assets, recipe
from tinyrobust.cli.app import app
from tinyrobust.cli.export import _existing
from tinyrobust.errors import RecipeError
from tinyrobust.files import sha256


def typed(*words: str | Path) -> Any:
    answer = CliRunner().invoke(app, ["export", *map(str, words)])
    assert answer.exit_code == 0, answer.output
    return answer


def test_a_name_of_the_zoo_gives_the_array_of_its_file(tmp_path: Path) -> None:
    arguments = ("--runs-dir", tmp_path / "runs", "--output", tmp_path / "out")
    answer = json.loads(typed("mnist-stq", *arguments, "--json").stdout)
    assert {Path(name).name for name in answer["files"]} == {"model_data.cc", "model_data.h"}
    recorded = assets.recipes()["mnist-stq"].with_name("generated.sha256").read_text().split()
    assert {sha256(Path(name)) for name in answer["files"]} == set(recorded[::2])
    assert answer["arena_bytes"]["measured"] > answer["arena_bytes"]["activations"]


def test_its_c_is_called_as_it_is(tmp_path: Path) -> None:
    typed("mnist-stq", "--format", "c", "--runs-dir", tmp_path / "runs", "--output", tmp_path / "out")
    assert "tr_mnist_stq_classes" in (tmp_path / "out" / "mnist_stq.h").read_text()


def test_a_spotter_gets_its_front_end_and_is_told_what_is_left_out(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("TINYROBUST_DATA", str(tmp_path / "nothing"))
    folder = assets.recipes()["kws-stq"].parent
    output = typed(folder, "--output", tmp_path / "out", "--data-dir", tmp_path / "nothing").output
    assert (tmp_path / "out" / "model_frontend.h").is_file()
    assert not (tmp_path / "out" / "model_frontend_vectors.h").exists()
    assert "Without test vectors:" in output


def test_files_of_a_recipe_with_a_run_go_where_they_are_wanted(tiny_recipe: Path, tiny_run: Any, tmp_path: Path) -> None:
    arguments = ("--runs-dir", tiny_run.path.parent, "--output", tmp_path / "out")
    answer = json.loads(typed(tiny_recipe, *arguments, "--json").stdout)
    assert [Path(name).parent for name in answer["files"]] == [tmp_path / "out"] * 2
    assert (tmp_path / "out" / "model_data.cc").read_bytes() == (tiny_run.path / "model_data.cc").read_bytes()


def test_settings_of_what_is_trained_already_are_refused(tiny_run: Any) -> None:
    with pytest.raises(RecipeError, match=r"Expected a recipe beside --set. Received: .*trained already"):
        _existing(str(tiny_run.path), ["train.epochs=1"], tiny_run.path.parent)


def test_what_stands_for_an_existing_model(tmp_path: Path) -> None:
    folder = assets.recipes()["mnist-stq"].parent
    assert _existing("mnist-stq", [], tmp_path) == folder
    assert _existing(str(folder), [], tmp_path) == folder
    assert _existing(str(folder / "model.tflite"), [], tmp_path) == folder / "model.tflite"
    assert _existing("mnist-stq", ["train.epochs=1"], tmp_path) is None  # another network than the zoo's
    assert _existing("digits-stq", [], tmp_path) is None  # not trained in the zoo
    (tmp_path / recipe.load("mnist-stq").run_name).mkdir()
    assert _existing("mnist-stq", [], tmp_path) is None  # the user's own run comes first
