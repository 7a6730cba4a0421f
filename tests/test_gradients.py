import os
import subprocess
import sys

import numpy as np
import pytest

_SCRIPT = """
import numpy as np
import keras
from keras import ops
from tinyrobust.gradients import value_and_gradient

assert keras.backend.backend() == {backend!r}
x = np.linspace(-1, 1, 6).astype("float32").reshape(2, 3)

def cubes(x):
    return ops.sum(x**3)

def both(function):
    if {backend!r} == "jax":
        import jax
        return jax.jit(lambda x: value_and_gradient(function, x))
    import tensorflow as tf
    return tf.function(lambda x: value_and_gradient(function, x))

for run in (lambda x: value_and_gradient(cubes, x), both(cubes)):
    value, gradient = run(x)
    np.testing.assert_allclose(value, np.sum(x**3), atol=1e-6)
    np.testing.assert_allclose(gradient, 3 * x**2, rtol=1e-5)
np.testing.assert_array_equal(value_and_gradient(lambda x: ops.sum(ops.stop_gradient(x)), x)[1], 0 * x)
np.testing.assert_array_equal(value_and_gradient(lambda x: ops.sum(ops.ones(3)), x)[1], 0 * x)
print("gradients are right")
"""


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_gradients_are_right_eagerly_and_compiled(backend: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", _SCRIPT.format(backend=backend)],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "gradients are right" in result.stdout, result.stderr


def test_each_sample_of_a_summed_batch_gets_its_own_gradient() -> None:
    from keras import ops

    from tinyrobust.gradients import value_and_gradient

    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    whole = value_and_gradient(lambda v: ops.sum(v[:, 0] ** 3), x)[1].numpy()
    alone = [value_and_gradient(lambda v: ops.sum(v[:, 0] ** 3), x[i : i + 1])[1].numpy()[0] for i in range(3)]
    np.testing.assert_allclose(whole, alone)
    assert whole.any()
