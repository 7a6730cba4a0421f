import numpy as np
import pytest

from tinyrobust.deploy import tflm
from tinyrobust.deploy.deploy_records import ParityRecord
from tinyrobust.deploy.export import export
from tinyrobust.errors import ParityError
from tinyrobust.footprint.measure import arena_head
from tinyrobust.recipe.export import Export

FILES = {"model.tflite", "model_data.cc", "model_data.h", "parity.json"}


def exported_to(folder, net, calibration=None, agreement=0.97) -> tuple[ParityRecord, list[str]]:
    told: list[str] = []
    record = export(
        net.model,
        name="digits",
        calibration=net.calibration if calibration is None else calibration,
        parity_images=net.x,
        parity_labels=net.y,
        parity_source="held back",
        classes=[str(digit) for digit in range(10)],
        settings=Export(accuracy_drop=1, agreement=agreement),
        folder=folder,
        arena_head=arena_head,
        progress=lambda label, done, total: told.append(f"{label} {done}/{total}"),
    )
    return record, told


def names(folder) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_an_export_leaves_all_files(ternary, tmp_path) -> None:
    record, told = exported_to(tmp_path, ternary)
    assert names(tmp_path) == FILES
    assert (tmp_path / "model.tflite").read_bytes() == ternary.tflite.read_bytes()
    assert ParityRecord.load(tmp_path / "parity.json") == record
    if tflm.available():
        assert f"g_digits_arena_size = {tflm.arena(ternary.tflite)};" in (tmp_path / "model_data.h").read_text()
    assert (record.images, record.arena_bytes) == ("held back", arena_head(ternary.tflite))
    assert told[:2] == ["convert 0/1", "convert 1/1"]
    assert "parity 497/497" in told


def test_a_broken_parity_leaves_nothing_not_even_an_older_export(ternary, tmp_path) -> None:
    exported_to(tmp_path, ternary)
    (tmp_path / "model.keras").touch()
    black = np.zeros_like(ternary.calibration)
    with pytest.raises(ParityError, match="top-1 agreement"):
        exported_to(tmp_path, ternary, calibration=black, agreement=1.0)
    assert names(tmp_path) == {"model.keras"}
