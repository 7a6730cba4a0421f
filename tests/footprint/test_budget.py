"""Budgets as people write them, and what is held against them."""

import json

import pytest
from typer.testing import CliRunner

from tinyrobust.cli.app import app
from tinyrobust.errors import TinyRobustError
from tinyrobust.footprint.budget import Budget, check, parse
from tinyrobust.footprint.measure import footprint


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("flash=256K,ram=64K", Budget(262_144, 65_536)),
        ("ram = 64k", Budget(None, 65_536)),
        ("flash=1MiB, ram=20480", Budget(2**20, 20_480)),
        ("flash=2MB", Budget(2**21)),
        ("flash=1.5M,ram=1G", Budget(3 * 2**19, 2**30)),
    ],
)
def test_units(text, budget):
    assert parse(text) == budget


@pytest.mark.parametrize(
    "text", ["", "256K", "flash", "flash=", "flash=-1", "flash=1e5", "flash=1Q", "rom=1K", "ram=1K,ram=2K", "ram=K"]
)
def test_what_is_no_budget_is_refused(text):
    with pytest.raises(TinyRobustError, match=r"flash=256K,ram=64K.*Received"):
        parse(text)


def test_a_byte_too_much_binds(small_tflite):
    record = footprint(small_tflite)
    flash, ram = record.tflm_flash.value, record.tflm_ram.value
    assert ram > record.arena.value + record.tflm_own.value
    assert check(record, Budget(flash, ram)).fits
    assert check(record, Budget()).fits
    assert check(record, Budget(flash - 1, ram)).binds == "flash"
    assert check(record, Budget(ram=ram - 1)).binds == "ram"
    assert check(record, Budget(flash - 1, ram - 1)).binds == "flash and ram"


@pytest.mark.parametrize(("budget", "status", "fits"), [("flash=256K,ram=64K", 0, True), ("flash=256K,ram=2K", 3, False)])
def test_ci_sees_the_exit_status(small_tflite, budget, status, fits):
    words = ["footprint", str(small_tflite), "--board", "all", "--no-device", "--budget", budget]
    people, machines = CliRunner().invoke(app, words), CliRunner().invoke(app, [*words, "--json"])
    assert people.exit_code == machines.exit_code == status
    assert ("too large: ram" in people.output.rpartition("Budget")[2]) is not fits
    assert json.loads(machines.output)["budget"]["fits"] is fits
