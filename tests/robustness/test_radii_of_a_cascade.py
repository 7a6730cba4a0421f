"""Several radii in a cascade: what the smallest one broke is not tried again at the larger ones."""

import numpy as np

_APGD = {"name": "apgd-ce", "kind": "apgd", "loss": "ce", "steps": 20, "transfer_to": ["int8"]}


def test_what_a_smaller_radius_broke_counts_as_broken(digits_net, evaluated, tmp_path) -> None:
    settings = {"epsilons": (0.25, 0.3), "headline": 0.3, "samples": 40}
    record = evaluated(digits_net, tmp_path, attacks=[_APGD], cascade=True, settings=settings)
    assert record.cascade
    first, last = (row for row in record.attacks if row.target == "keras")
    assert first.robust.value <= 0.05
    assert last.given == max(row.robust.count for row in record.attacks if row.epsilon == 0.25)
    check = next(check for check in record.checks if check.name == "more-steps")
    assert check.figures["standing"] == last.robust.count  # not those that fell before
    assert not check.raised
    with np.load(tmp_path / "per_sample.npz", allow_pickle=False) as found:
        assert len(found["example/index"]) == 8
        assert found["example/epsilon"] == 0.25
