from pathlib import Path

import pytest

from tinyrobust.errors import RecipeError
from tinyrobust.robustness import protocol

_PGD = """
description = "one attack"
[[attack]]
name = "pgd"
kind = "pgd"
steps = 10
relative_step = 0.25
random_starts = 1
transfer_to = ["int8"]
"""


def _written(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def test_quick_is_in_the_zoo_and_attacks_both_targets() -> None:
    quick = protocol.load("quick")
    assert quick.name == "quick"
    assert [(attack.kind, attack.on) for attack in quick.attacks] == [
        ("fgsm", "keras"),
        ("apgd", "keras"),
        ("apgd-t", "keras"),
        ("apgd", "bpda"),
        ("square", "int8"),
    ]


@pytest.mark.parametrize("name", ["paper", "autoattack", "adaptive"])
def test_the_other_protocols_are_valid(name) -> None:
    assert len(protocol.load(name).attacks) >= 4


def test_a_file_of_ones_own(tmp_path) -> None:
    mine = protocol.load(_written(tmp_path, _PGD))
    assert mine.name == "mine"
    assert mine.attacks[0].parameters() == {"kind": "pgd", "steps": 10, "relative_step": 0.25, "random_starts": 1, "loss": "ce"}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("steps", "stpes", r"attack\.0\.pgd\.stpes: there is no such key\. Did you mean 'steps'\?"),
        ('name = "pgd"', "", r"attack\.0\.pgd\.name: is missing"),
        ("steps = 10", "steps = 0", "greater than or equal to 1. Received: 0"),
        ("[[attack]]", "[[attacks]]", "attacks: there is no such key. Did you mean 'attack'"),
        ('kind = "pgd"', 'kind = "pdg"', r"There is no kind 'pdg'\. Did you mean 'pgd'\? Expected one of fgsm, pgd, apgd"),
        ('["int8"]', '["keras"]', "Expected other targets in transfer_to"),
        ("description", "name", "'name' is not a key of this file"),
        ("description =", "description", "cannot be read as TOML"),
    ],
)
def test_what_does_not_fit_is_named(before: str, after: str, expected: str, tmp_path) -> None:
    with pytest.raises(RecipeError, match=expected):
        protocol.load(_written(tmp_path, _PGD.replace(before, after)))


def test_gradient_attacks_need_gradients(tmp_path) -> None:
    with pytest.raises(RecipeError, match="'keras'"):
        protocol.load(_written(tmp_path, _PGD.replace('kind = "pgd"', 'kind = "pgd"\non = "int8"')))


def test_two_attacks_of_one_name_are_refused(tmp_path) -> None:
    with pytest.raises(RecipeError, match="name of its own"):
        protocol.load(_written(tmp_path, _PGD + _PGD.partition("\n")[2].partition("\n")[2]))


def test_a_misspelt_protocol_is_named() -> None:
    with pytest.raises(RecipeError, match="Did you mean 'quick'"):
        protocol.load("quik")


_CORRUPTIONS = """
description = "two corruptions"
[[corruption]]
kind = "contrast"
[[corruption]]
kind = "pixelate"
severities = [1, 5]
"""


def test_a_protocol_of_corruptions(tmp_path) -> None:
    mine = protocol.of_corruptions(_written(tmp_path, _CORRUPTIONS))
    assert [(each.kind, each.severities) for each in mine.corruptions] == [("contrast", (1, 2, 3, 4, 5)), ("pixelate", (1, 5))]
    assert mine.attacks == ()


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ('"pixelate"', '"frost"', "'pixelate'"),
        ('"pixelate"', '"contrast"', "Expected every corruption once"),
        ("[1, 5]", "[5, 1]", "Expected severities that rise"),
        ("[1, 5]", "[6]", "less than or equal to 5"),
        ("[1, 5]", "[]", "at least 1 item"),
        ('corruptions"\n', 'corruptions"\ncascade = true\n', "Expected cascade, convergence and file_search with"),
        ("severities = [1, 5]\n", 'severities = [1, 5]\n[[attack]]\nname = "fgsm"\nkind = "fgsm"\n', "Received: both"),
    ],
)
def test_corruptions_that_do_not_fit_are_named(before: str, after: str, expected: str, tmp_path) -> None:
    with pytest.raises(RecipeError, match=expected):
        protocol.load(_written(tmp_path, _CORRUPTIONS.replace(before, after)))


def test_a_protocol_of_nothing_is_refused(tmp_path) -> None:
    with pytest.raises(RecipeError, match="Received: neither"):
        protocol.load(_written(tmp_path, 'description = "nothing"'))
