"""A keyword spotter of tones: features of the house's front end, a small Keras network, its int8 file."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tinyrobust.data.arrays import Dataset, scale
from tinyrobust.data.speech.frontend_record import FRONTEND
from tinyrobust.recipe.data import Data
from tinyrobust.recipe.speech import Speech, SpeechAugment


@dataclass(frozen=True)
class ToneSpotter:
    """The file, `frontend.json` beside it, and the data that it learned from."""

    path: Path
    data: Dataset


@pytest.fixture(scope="session")
def tone_spotter(tones: Path, converted: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> ToneSpotter:
    """Hears "low" and "high" among other tones and noise; trained in seconds."""
    import keras

    from tinyrobust.data.speech.load import load

    folder = tmp_path_factory.mktemp("tone-spotter")
    speech = Speech(
        task="own-words", words=("low", "high"), augment=SpeechAugment(copies=3, shift_ms=400, noise=0.8, snr_db=(5.0, 20.0))
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINYROBUST_CACHE", str(folder / "cache"))
        data = load(Data(name=str(tones), speech=speech), speech, 0, None)
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input(data.input_shape),
            layers.Conv2D(8, (10, 4), strides=(2, 2), padding="same", activation="relu"),
            layers.Conv2D(16, 3, strides=2, padding="same", activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(len(data.classes)),
        ]
    )
    model.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x = scale(np.concatenate([data.train.x, *data.copies]))
    model.fit(x, np.tile(data.train.y, 1 + len(data.copies)), epochs=12, batch_size=64, verbose=0)
    # The whole range first, so that a step of the input is one of the grid: 1 / 255.
    shutil.copy(converted(model, np.concatenate([np.zeros_like(x[:1]), np.ones_like(x[:1]), x[:50]])), folder / "model.tflite")
    assert data.speech is not None
    data.speech.record.save(folder / FRONTEND)
    return ToneSpotter(folder / "model.tflite", data)
