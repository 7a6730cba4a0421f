"""The properties that a backend could break, again under JAX: the same tests, in a process of their own."""

import subprocess
import sys
from pathlib import Path

_HERE = Path(__file__).parent
_TESTS = (
    "test_contract.py",
    "test_dorefa.py",
    "test_lsq.py",
    "test_weights.py::test_twn_is_the_papers_formula",
    "test_weights.py::test_a_ternary_channel_has_exactly_three_values",
    "test_weights.py::test_gradients_pass_straight_through",
    "test_sampling.py::test_the_same_batch_gives_another_loss_at_every_step[0.5]",
    "test_sampling.py::test_nothing_is_left_to_chance_when_all_or_no_channels_are_quantized[1.0]",
    "test_stochastic.py::test_bins_are_drawn_as_often_as_they_are_likely",
    "test_stochastic.py::test_the_gradient_at_inference_is_that_of_the_expected_output",
    "test_stochastic.py::test_a_seed_repeats_the_draws_and_a_file_goes_on_with_them",
    "test_sampling.py::test_every_step_quantizes_the_fraction_of_channels[0.5-dense]",
)


def test_the_quantizers_under_jax(under_jax):
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", *(str(_HERE / test) for test in _TESTS)]
    done = subprocess.run(command, env=under_jax, capture_output=True, text=True, check=False, cwd=_HERE.parent.parent)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert "skipped" not in done.stdout
