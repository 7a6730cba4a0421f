"""The way of batches to the training step."""

from typing import Any

import numpy as np
import pytest

from tinyrobust.data.arrays import Split
from tinyrobust.data.batches import Batches, InOrder
from tinyrobust.recipe.data import Augment
from tinyrobust.training.feed import feed


@pytest.fixture
def images() -> Split:
    random = np.random.default_rng(0)
    return Split(random.integers(0, 256, (70, 8, 8, 1), np.uint8), random.integers(0, 10, 70))


def _equal(fed: Any, batches: Any) -> bool:
    pairs = list(zip(fed.as_numpy_iterator(), (batches[index] for index in range(len(batches))), strict=True))
    return all(np.array_equal(ours, theirs) for one, other in pairs for ours, theirs in zip(one, other, strict=True))


def test_the_same_batches_in_the_same_order_every_epoch(images: Split) -> None:
    batches = Batches(images, Augment(flip=True, crop=1), 16, seed=7)
    fed, clock = feed(batches), batches.clock()
    assert int(fed.cardinality()) == len(batches) == 4
    assert fed.element_spec[0].shape == (16, 8, 8, 1)  # a step is compiled for one shape
    seen = []
    for epoch in range(3):
        clock.on_epoch_begin(epoch, {})
        assert _equal(fed, batches)
        seen.append(batches[0][0].tobytes())
    assert len(set(seen)) == 3


def test_the_last_batch_may_be_smaller(images: Split) -> None:
    batches = InOrder(images, 32)
    fed = feed(batches)
    assert _equal(fed, batches)
    assert [len(y) for _, y in fed.as_numpy_iterator()] == [32, 32, 6]


def test_no_thread_sleeps_while_an_epoch_ends(images: Split) -> None:
    assert feed(InOrder(images, 32)).options().autotune.enabled is False
