"""Targets whose input is sound: the front end stands before the file, and before every network."""

import keras
import numpy as np

from tinyrobust.attacks.estimator import check_logits
from tinyrobust.attacks.target import FloatArray, InputRange
from tinyrobust.data.arrays import scale
from tinyrobust.data.speech.frontend import Grid, front_end
from tinyrobust.data.speech.frontend_record import FrontendRecord
from tinyrobust.data.speech.units import samples
from tinyrobust.errors import ModelFileError
from tinyrobust.recipe.frontend import with_gradients
from tinyrobust.robustness.ranges import in_units


class SoundFrontEnd:
    """The front end of a model, for inputs in [0, 1] that are sound (see `tinyrobust.data.speech.units`).

    Args:
        record: All of its parameters.

    Attributes:
        input_shape: Of a clip.
        differentiable: Whether gradients can go through it.

    Raises:
        ModelFileError: Its settings give features of another shape than the record says.
    """

    def __init__(self, record: FrontendRecord) -> None:
        self.input_shape = (record.clip_samples,)
        self.differentiable = record.settings.differentiable
        self._shape = (*record.shape, 1)
        self._front_end = front_end(record.settings)
        self._grid = Grid.of(record)
        if self._front_end.shape != record.shape:
            raise ModelFileError(
                f"Expected the shape that a front end of these settings has, {self._front_end.shape}. Received: {record.shape}",
                hint="frontend.json must be that of this very model.",
            )

    def features(self, x: FloatArray) -> FloatArray:
        """What the microcontroller computes: clips [n, samples], rounded to 16 bits, through the real front end.

        Returns:
            float32 on the 8-bit grid of the features, [n, rows, coefficients, 1] in [0, 1].
        """
        if not len(x):
            return np.zeros((0, *self._shape), np.float32)
        return scale(self._grid.quantized(self._front_end.features(samples(x))))

    def before(self, model: keras.Model, model_range: InputRange, *, open_floor: bool = False) -> keras.Model:
        """The network with the front end in one graph: from clips in [0, 1] to its outputs.

        The features are rounded to their 8-bit grid; the gradient goes straight through the rounding.

        Args:
            model: From features in its own units.
            model_range: What features of 0 and 1 become in these.
            open_floor: Let gradients through also where what is too quiet is raised to a floor; see `FrontEnd.layer`.

        Raises:
            ModelFileError: The front end has no gradients, or another shape than the network takes.
        """
        layer = self._front_end.layer(self._grid, rounded=True, open_floor=open_floor)
        if layer is None:
            kind = self._front_end.settings.kind
            raise ModelFileError(f"Expected the front end {with_gradients()} for gradients. Received: {kind}: it has none")
        check_logits(model)
        self.check(tuple(model.input_shape[1:]))
        sound = keras.Input(self.input_shape)
        return keras.Model(sound, model(in_units(layer(2 * sound - 1), model_range), training=False))

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
