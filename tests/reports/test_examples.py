import base64
import io
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from tinyrobust.reports.examples import data_uri, read_examples


@pytest.mark.parametrize("channels", [1, 3], ids=["gray", "rgb"])
def test_a_picture_holds_exactly_the_pixels(channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, channels), dtype=np.uint8)
    uri = data_uri(pixels / 255)
    png = io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))
    read = np.round(matplotlib.image.imread(png, format="png") * 255).astype(np.uint8).reshape(pixels.shape)
    np.testing.assert_array_equal(read, pixels)


def test_examples_are_read_with_labels_before_and_after(folder: Path) -> None:
    examples = read_examples(folder / "per_sample.npz")
    assert [example.label for example in examples] == [0, 1, 2, 3, 4, 5]
    assert [(example.before, example.after) for example in examples[:2]] == [(0, 5), (1, 6)]
    assert examples[0].largest_change == pytest.approx(0.1, abs=1e-6)
    assert examples[0].amplification == pytest.approx(10)


def test_without_a_file_there_is_nothing_to_show(tmp_path: Path) -> None:
    assert read_examples(tmp_path / "per_sample.npz") == []
