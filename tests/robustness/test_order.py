"""A network that is more robust comes out as more robust, whatever the protocol."""

import pytest

_AT = {"epsilons": (0.15,), "headline": 0.15}  # what `robust_net` was trained at


@pytest.mark.parametrize(
    ("name", "samples"),
    [
        ("quick", 40),
        pytest.param("paper", 40, marks=pytest.mark.slow),
        pytest.param("autoattack", 100, marks=pytest.mark.slow),
        pytest.param("adaptive", 100, marks=pytest.mark.slow),
    ],
)
def test_adversarial_training_shows(name, samples, digits_net, robust_net, evaluated, tmp_path) -> None:
    undefended, robust = (
        evaluated(net, tmp_path / str(place), protocol_name=name, settings={**_AT, "samples": samples})
        for place, net in enumerate((digits_net, robust_net))
    )
    targets = [(worst.target, worst.norm, worst.epsilon) for worst in undefended.worst]
    assert targets == [(worst.target, worst.norm, worst.epsilon) for worst in robust.worst]
    for worse, better in zip(undefended.worst, robust.worst, strict=True):
        assert worse.robust.value <= better.robust.value, (worse, better)
    # The intervals do not even overlap.
    assert undefended.headline.high < robust.headline.low
