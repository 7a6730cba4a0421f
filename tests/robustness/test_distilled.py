"""Distillation at T = 50 looks robust to the attacks of papers, and is not."""

import pytest

from tinyrobust.robustness import protocol

_AT = {"epsilons": (0.3,), "headline": 0.3}


def _left(record, attack: str, target: str) -> float:
    return next(row.robust.value for row in record.attacks if (row.attack, row.target) == (attack, target))


def _raised(record) -> set[str]:
    return {check.name for check in record.checks if check.raised}


def _looks_robust_and_is_not(paper, adaptive) -> None:
    # Figures of 60 samples: PGD-20 leaves 95 %, adaptive 0 %.
    assert _left(paper, "pgd", "keras") > 0.8
    assert _left(paper, "pgd", "int8") > 0.8
    assert not paper.reliable
    assert {"zero-gradients", "half-grey", "unconstrained"} <= _raised(paper)
    assert adaptive.headline.value <= 0.02
    assert adaptive.reliable, adaptive.warnings


def test_pgd_of_the_paper_against_adaptive(distilled_net, evaluated, tmp_path) -> None:
    pgd = next(attack for attack in protocol.load("paper").attacks if attack.name == "pgd")
    settings = {**_AT, "samples": 60}
    paper = evaluated(distilled_net, tmp_path / "paper", attacks=[pgd], settings=settings)
    adaptive = evaluated(distilled_net, tmp_path / "adaptive", protocol_name="adaptive", settings=settings, temperature=50.0)
    _looks_robust_and_is_not(paper, adaptive)


@pytest.mark.slow
def test_all_attacks_of_the_paper_against_adaptive(distilled_net, evaluated, tmp_path) -> None:
    settings = {**_AT, "samples": 200}
    paper, adaptive = (
        evaluated(distilled_net, tmp_path / name, protocol_name=name, settings=settings, temperature=50.0)
        for name in ("paper", "adaptive")
    )
    _looks_robust_and_is_not(paper, adaptive)
    assert "black-box-wins" in _raised(paper)
