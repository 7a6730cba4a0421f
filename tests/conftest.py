"""Fixtures that every room's tests share."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

_CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The folder of this checkout."""
    return _CHECKOUT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real data and peer models beside the checkout.

    Absent on a user's machine: the test is skipped. Where it exists, a test that finds something missing in it fails.
    """
    folder = Path(os.environ.get("TINYROBUST_SHARED", _CHECKOUT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip("the development data (../shared) is not on this machine")
    return folder
