"""Sets as tensorflow-datasets stores them, made from the two photographs that scikit-learn carries."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

_Range = tuple[int, int]


def _tiles(count: int, classes: int, heights: _Range, widths: _Range) -> list[tuple[int, dict[str, Any]]]:
    """Pieces of the photographs, numbered; their sizes are within the ranges, their labels in turn."""
    from sklearn.datasets import load_sample_images

    random = np.random.default_rng(count)
    photographs = load_sample_images().images
    tiles = []
    for k in range(count):
        height, width = random.integers(*heights, endpoint=True), random.integers(*widths, endpoint=True)
        whole = photographs[k % 2]
        top, left = random.integers(whole.shape[0] - height + 1), random.integers(whole.shape[1] - width + 1)
        tiles.append((k, {"image": whole[top : top + height, left : left + width], "label": k % classes}))
    return tiles


@pytest.fixture(scope="session")
def large_sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with sets under the names of large ones, in their form.

    imagenette: 60 training and 20 validation images, the shorter side 160 pixels. resisc45: 1,350 images of 256 x 256, 253 MiB
    decoded. Both as JPEG.
    """
    import tensorflow_datasets as tfds

    folder = tmp_path_factory.mktemp("large")
    sets: dict[tuple[str, str, str], tuple[tuple[int | None, ...], dict[str, Any]]] = {
        ("imagenette", "160px-v2", "1.0.0"): (
            (None, None, 3),
            {"train": _tiles(60, 10, (160, 160), (160, 250)), "validation": _tiles(20, 10, (160, 250), (160, 160))},
        ),
        ("resisc45", "", "3.0.0"): ((256, 256, 3), {"train": _tiles(1350, 45, (256, 256), (256, 256))}),
    }
    for (name, config, version), (shape, splits) in sets.items():
        tfds.dataset_builders.store_as_tfds_dataset(
            name=name,
            config=config or None,
            version=version,
            data_dir=folder,
            disable_shuffling=True,
            split_datasets=splits,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=shape, encoding_format="jpeg"),
                    "label": tfds.features.ClassLabel(num_classes=45 if name == "resisc45" else 10),
                }
            ),
        )
    return folder


@pytest.fixture
def budget(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Sets the budget for images; files of large sets go into an empty cache."""
    monkeypatch.setenv("TINYROBUST_CACHE", str(tmp_path / "cache"))
    return lambda size: monkeypatch.setenv("TINYROBUST_MEMORY", size)
