"""QKeras model -> twin -> full int8 `.tflite`, per channel, on the grids that the network was trained with."""

import contextlib
import io
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tinyrobust.data.arrays import scale
from tinyrobust.deploy import artefact, grids, residuals
from tinyrobust.deploy.matching import match
from tinyrobust.deploy.twin import build_twin
from tinyrobust.errors import ModelFileError
from tinyrobust.graphs.operators import OPERATORS

# The converter insists on calibrating; its ranges are all replaced, so a few images do.
_CONVERTER_IMAGES = 8


def convert(model: keras.Model, calibration_images: npt.NDArray[np.uint8]) -> bytes:
    """The network as a full int8 `.tflite` file.

    Weights are int8 with a scale per output channel, biases int32, the input is the pixel - 128 (scale 1/255, zero point -128).
    Activations have the grids they were trained with, below 8 bits exactly 2^bits levels; those that were not rounded in
    training, such as logits and the inputs of residual additions, have the grid from their smallest to their largest value on
    the calibration images, or one that suits the levels of the sum (`residuals`). Weights of few levels have exactly these.

    Args:
        model: A trained QKeras model of our layers.
        calibration_images: uint8 [n, h, w, c], n at least 1: training images, never test images.

    Returns:
        The file.

    Raises:
        ModelFileError: A layer cannot be converted, or an operator that is not int8 is left.
    """
    if len(calibration_images) == 0 or calibration_images.dtype != np.uint8:
        raise ModelFileError(
            f"Expected uint8 calibration images. Received: {len(calibration_images)} of type {calibration_images.dtype}"
        )
    if calibration_images.shape[1:] != tuple(model.input_shape[1:]):
        raise ModelFileError(
            f"Expected calibration images of shape {model.input_shape[1:]}. Received: {calibration_images.shape[1:]}"
        )
    images = scale(calibration_images)
    twin = build_twin(model, batch_size=1, clip=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "converted.tflite"
        path.write_bytes(_converted(twin, images[:_CONVERTER_IMAGES]))
        converted = artefact.read(path)
    check_integer(converted)
    matches = match(twin, converted)
    known = grids.trained(model)
    bounded = build_twin(model)
    chosen = grids.measured(bounded, [name for name in grids.free(matches) if name not in known], images)
    chosen |= residuals.aligned(bounded, known, chosen)
    chosen = grids.joined(chosen, matches, converted)
    return grids.write(converted, matches, {twin.inputs[0].name: grids.PIXELS, **known, **chosen})


def check_integer(file: artefact.Artefact) -> None:
    """Refuses a file with operators or activations that a full int8 network does not have.

    Raises:
        ModelFileError: Naming them.
    """
    allowed = {name for names in OPERATORS.values() for name in names}
    unknown = sorted({operator.name for operator in file.operators} - allowed)
    real = sorted({o.name for o in file.operators if any(file.tensors[i].dtype != "int8" for i in o.outputs)})
    if unknown or real:
        raise ModelFileError(
            f"Expected a file of int8 operators ({', '.join(sorted(allowed))}). Received: {', '.join(unknown) or 'no others'}; "
            f"with outputs that are not int8: {', '.join(real) or 'none'}.",
            hint="A layer of the network has no int8 operator of its own: replace it.",
        )


def _converted(twin: keras.Model, images: npt.NDArray[np.float32]) -> bytes:
    converter = tf.lite.TFLiteConverter.from_keras_model(twin)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[np.newaxis]] for image in images)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    with _quiet() as log:
        try:
            content: bytes = converter.convert()
        except Exception as error:
            raise ModelFileError(f"TensorFlow cannot convert the network: {error}\n{log()}".rstrip()) from error
    return content


@contextlib.contextmanager
def _quiet() -> Iterator[Callable[[], str]]:
    """Keeps the converter's messages from the terminal: Keras prints, TensorFlow warns, its C++ parts write to descriptor 2.

    Yields:
        A function that returns the end of what was said.
    """
    with tempfile.TemporaryFile() as said, contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")

        def log() -> str:
            said.seek(0)
            return said.read().decode(errors="replace")[-2000:]

        terminal = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            yield log
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
