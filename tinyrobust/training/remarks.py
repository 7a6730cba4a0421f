"""What the curves of a training say that its user should know."""

from collections.abc import Mapping, Sequence

# Names in the history of a training that is watched (`watch.Watch`).
ROBUST, GAIN, ZERO = "val_robust_accuracy", "val_attack_gain", "val_zero_gradients"
BEST, ROLLBACKS = "best_epoch", "rollbacks"
# Name in the history of a network with stochastic quantizers (`bins.StochasticBins`).
CLOSEST = "closest_bins"

_OVERFITTED = 0.02  # points of 1, between the best epoch and the last
_VANISHED = 0.1  # of the watched images
_CLOSE = 0.1  # of the mean distance of two bins


def remarks(curves: Mapping[str, Sequence[float]]) -> list[str]:
    """Sentences about bins of stochastic quantizers, and robust accuracy that was watched (`[train.watch]`), with what to do.

    Args:
        curves: Of the history, by name: a value an epoch.
    """
    if not curves.get(ROBUST):
        return _bins(curves)
    return [*_collapses(curves), *_robust_overfitting(curves), *_attack(curves)]


def _bins(curves: Mapping[str, Sequence[float]]) -> list[str]:
    if not curves.get(CLOSEST) or curves[CLOSEST][-1] >= _CLOSE:
        return []
    return [
        f"Two bins of a stochastic quantizer are {100 * curves[CLOSEST][-1]:.2g} % of the mean distance apart: they are nearly "
        "one. Ask for fewer bins, or give the penalty stochastic.spacing more weight."
    ]


def _collapses(curves: Mapping[str, Sequence[float]]) -> list[str]:
    epochs = [number + 1 for number in range(len(curves[ROBUST])) if rolled_back(curves[ROLLBACKS], number)]
    if not epochs:
        return []
    return [
        f"Catastrophic overfitting in {_listed(epochs)}: the training loss fell, and robust accuracy on validation images fell "
        "far below its best. Training went back to the best epoch each time. Train with the perturbation n-fgsm or pgd, or "
        "with a lower learning rate."
    ]


def _robust_overfitting(curves: Mapping[str, Sequence[float]]) -> list[str]:
    robust, best = curves[ROBUST], int(curves[BEST][-1])
    fall = robust[best - 1] - robust[-1]
    if fall <= _OVERFITTED or rolled_back(curves[ROLLBACKS], len(robust) - 1):
        return []
    return [
        f"Robust overfitting: robust accuracy on validation images was {100 * robust[best - 1]:.1f} % after epoch {best}, and "
        f"{100 * robust[-1]:.1f} % after the last. Train for fewer epochs, or with train.update awp, or with train.ema."
    ]


def _attack(curves: Mapping[str, Sequence[float]]) -> list[str]:
    found = []
    if curves[GAIN][-1] <= 0:
        found.append(
            "The examples of train.watch are none: the loss on them is not above that on the images, so its robust accuracy "
            "says nothing. Look at the perturbation's radius and steps."
        )
    if curves[ZERO][-1] > _VANISHED:
        found.append(
            f"The gradient of the loss is zero for {100 * curves[ZERO][-1]:.0f} % of the watched images: attacks find no "
            "direction there, and training no examples. Robust accuracy in training is too high; believe the protocol adaptive."
        )
    return found


def rolled_back(counts: Sequence[float], epoch: int) -> bool:
    """Whether training went back after an epoch (from 0), by how often it had after each."""
    return counts[epoch] > (counts[epoch - 1] if epoch else 0)


def _listed(epochs: list[int]) -> str:
    return f"epoch {epochs[0]}" if len(epochs) == 1 else f"epochs {', '.join(map(str, epochs[:-1]))} and {epochs[-1]}"
