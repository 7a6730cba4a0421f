"""Training under Keras' JAX backend, in a process of its own."""

import json
import subprocess
import sys

_SCRIPT = """
import json, sys
from pathlib import Path
import keras, numpy as np
from tinyrobust import recipe as recipes
from tinyrobust.data.sources import load
from tinyrobust.networks.catalog import build
from tinyrobust.quantizers.layers import set_declared, weight_layers
from tinyrobust.training.fit import FitFiles, fit, seed_everything
from tinyrobust.recipe.objectives import LABELS
from tinyrobust.training.objectives import Supplies, build_objectives

assert keras.backend.backend() == "jax"
settings = ["train.epochs=1", "train.ema=0.5", "network.width=0.15", "data.train_samples=600"]
recipe = recipes.load("digits-stq", settings)
dataset = load(recipe.data, recipe.seed)
seed_everything(recipe.seed)
network = build(recipe, dataset.input_shape, 10)
before = [np.array(layer.latent_weights) for layer in weight_layers(network)]
files = FitFiles.in_folder(Path(sys.argv[1]), "train")
objectives = build_objectives(LABELS, Supplies(label_smoothing=recipe.train.label_smoothing))
fit(network, objectives, dataset, recipe, files)
(row,) = map(json.loads, files.history.read_text().splitlines())
stochastic = [layer for layer in weight_layers(network) if layer.quantizer_state]
fractions = sorted({float(layer.quantizer_state["quantized_fraction"].value) for layer in stochastic})
block = network.get_layer("block2")
set_declared(network, "quantized_fraction", 0.5)
x = np.random.default_rng(0).uniform(size=(2, *block.input.shape[1:]))
outputs = [np.array(block(x, training=True)) for _ in range(4)]
print(json.dumps({
    "loss": row["loss"],
    "val_loss": row["val_loss"],
    "fractions": [row["quantized_fraction"], *fractions],
    "changed": all((a != np.array(l.latent_weights)).any() for a, l in zip(before, weight_layers(network))),
    "steps": len(dataset.train) // recipe.train.batch_size,
    "draws": sorted({int(layer.quantizer_state["seed_state"].state.value[1]) for layer in stochastic if layer is not block}),
    "distinct": len({output.tobytes() for output in outputs}),
}))
"""


def test_digits_train_for_an_epoch_and_sample(under_jax, tmp_path):
    command = [sys.executable, "-c", _SCRIPT, str(tmp_path)]
    done = subprocess.run(command, env=under_jax, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert 0 < found["loss"] < 5
    assert 0 < found["val_loss"] < 5
    assert found["changed"]
    assert found["fractions"] == [1, 1]  # the four phases came within the epoch, and reached the layers
    assert found["draws"] == [found["steps"]]  # every stochastic layer drew once a step, inside the compiled step
    assert found["distinct"] == 4
