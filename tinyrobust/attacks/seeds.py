"""Seeds for ART, which draws from Python's and NumPy's global generators."""

import contextlib
import random
from collections.abc import Iterator

import numpy as np


@contextlib.contextmanager
def seeded(*seed: int) -> Iterator[int]:
    """Seeds the global generators that ART draws from, and puts them back afterwards; yields the number they were seeded with.

    Args:
        seed: Any number of them, each at least 0; another number of them, or another order, is another seed.
    """
    # ART knows no other generators.
    before = np.random.get_state(), random.getstate()  # noqa: NPY002
    drawn = int(np.random.SeedSequence(seed).generate_state(1)[0] >> 1)
    np.random.seed(drawn)  # noqa: NPY002
    random.seed(drawn)
    try:
        yield drawn
    finally:
        np.random.set_state(before[0])  # noqa: NPY002
        random.setstate(before[1])
