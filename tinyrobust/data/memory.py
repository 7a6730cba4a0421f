"""How much memory a run's images may take: a machine's setting and no recipe's, because no result depends on it."""

import os
import re

from tinyrobust.errors import DataError

VARIABLE = "TINYROBUST_MEMORY"
# What fits beside training on a laptop of 8 GiB; CIFAR-10 in colour takes 0.3 GiB of it.
_DEFAULT = "2G"
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


def budget() -> int:
    """Bytes that the images of one data set may take in memory: `TINYROBUST_MEMORY`, such as 500M or 4G; 2G without it.

    What needs more is read from disk, batch by batch.

    Raises:
        DataError: The variable is no size.
    """
    text = os.environ.get(VARIABLE) or _DEFAULT
    match = re.fullmatch(r"(\d+)\s*([KMG]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if match is None:
        raise DataError(f"Expected {VARIABLE} as a size such as 500M or 4G. Received: {text!r}", hint="G is 1024^3 bytes.")
    return int(match[1]) * _UNITS[match[2].upper()]
