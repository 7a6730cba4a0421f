"""How much memory a run's images may take: a machine's setting and no recipe's, because no result depends on it."""

import os

from tinyrobust import sizes
from tinyrobust.errors import DataError

VARIABLE = "TINYROBUST_MEMORY"
# What fits beside training on a laptop of 8 GiB; CIFAR-10 in colour takes 0.3 GiB of it.
_DEFAULT = "2G"


def budget() -> int:
    """Bytes that the images of one data set may take in memory: `TINYROBUST_MEMORY`, such as 500M or 4G; 2G without it.

    What needs more is read from disk, batch by batch.

    Raises:
        DataError: The variable is no size.
    """
    text = os.environ.get(VARIABLE) or _DEFAULT
    try:
        return sizes.parsed(text)
    except ValueError as error:
        raise DataError(f"Expected {VARIABLE} as a size such as 500M or 4G. Received: {text!r}", hint=sizes.ACCEPTED) from error
