"""Learning on sound: the front end stands before the network while it is fitted."""

import keras

from tinyrobust.data.arrays import Dataset
from tinyrobust.gradients import Tensor


def front_end_of(dataset: Dataset) -> keras.Layer:
    """The front end of a data set of speech, with gradients: straight through the rounding to its 8-bit grid."""
    # Here: sound needs librosa, which images do not.
    from tinyrobust.data.speech.frontend import Grid, front_end

    speech = dataset.speech
    assert speech is not None
    layer = front_end(speech.record.settings).layer(Grid.of(speech.record), rounded=True)
    assert layer is not None  # recipes with a front end that has no layer are refused
    return layer


def features_of(front_end: keras.Layer, inputs: Tensor) -> Tensor:
    """Features [n, frames, coefficients, 1] of clips [n, 16000] in [0, 1]; features as they are."""
    return front_end(2 * inputs - 1) if is_sound(inputs) else inputs


def is_sound(inputs: Tensor) -> bool:
    """Whether inputs are clips [n, 16000], not features [n, frames, coefficients, 1]."""
    return len(inputs.shape) == 2
