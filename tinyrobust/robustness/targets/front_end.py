"""Targets whose input is sound: the front end stands before the file, and before every network."""

import keras
import numpy as np

from tinyrobust.attacks.estimator import check_logits
from tinyrobust.attacks.target import FloatArray, InputRange
from tinyrobust.data.arrays import scale
from tinyrobust.data.speech.differentiable import MfccLayer
from tinyrobust.data.speech.frontend import Grid, features
from tinyrobust.data.speech.frontend_record import FrontendRecord
from tinyrobust.data.speech.units import samples
from tinyrobust.errors import ModelFileError
from tinyrobust.recipe.frontend import Mfcc
from tinyrobust.robustness.targets.ranges import in_units


class SoundFrontEnd:
    """The front end of a model, for inputs in [0, 1] that are sound (see `tinyrobust.data.speech.units`).

    Args:
        record: All of its parameters.

    Attributes:
        input_shape: Of a clip.
        differentiable: Whether gradients can go through it: MFCC only.
    """

    def __init__(self, record: FrontendRecord) -> None:
        self.input_shape = (record.clip_samples,)
        self.differentiable = isinstance(record.settings, Mfcc)
        self._shape = (*record.shape, 1)
        self._settings = record.settings
        self._grid = Grid.of(record)

    def features(self, x: FloatArray) -> FloatArray:
        """What the microcontroller computes: clips [n, samples], rounded to 16 bits, through the real front end.

        Returns:
            float32 on the 8-bit grid of the features, [n, frames, coefficients, 1] in [0, 1].
        """
        if not len(x):
            return np.zeros((0, *self._shape), np.float32)
        return scale(self._grid.quantized(features(samples(x), self._settings)))

    def before(self, model: keras.Model, model_range: InputRange, *, open_floor: bool = False) -> keras.Model:
        """The network with the front end in one graph: from clips in [0, 1] to its outputs.

        The features are rounded to their 8-bit grid; the gradient goes straight through the rounding.

        Args:
            model: From features in its own units.
            model_range: What features of 0 and 1 become in these.
            open_floor: Let gradients through where the front end clips what is too quiet; see `MfccLayer`.

        Raises:
            ModelFileError: The front end has no gradients, or another shape than the network takes.
        """
        if not isinstance(self._settings, Mfcc):
            raise ModelFileError("Expected the front end mfcc for gradients. Received: micro: integer C code")
        check_logits(model)
        self.check(tuple(model.input_shape[1:]))
        sound = keras.Input(self.input_shape)
        coefficients = MfccLayer(self._settings, self._grid, rounded=True, open_floor=open_floor)(2 * sound - 1)
        return keras.Model(sound, model(in_units(coefficients, model_range), training=False))

    def check(self, shape: tuple[int, ...]) -> None:
        """Whether a model takes what the front end gives.

        Raises:
            ModelFileError: It does not.
        """
        if shape != self._shape:
            raise ModelFileError(
                f"Expected a model for the features of its front end, {self._shape}. Received: one for {shape}",
                hint="frontend.json must be that of this very model.",
            )
