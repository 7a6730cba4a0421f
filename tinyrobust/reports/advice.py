"""What to do when a check is raised: in the report, in the model card and, with the reasons, in docs/reading-robustness.md."""

# By the check's name.
ADVICE = {
    "at-chance": (
        "Look at the units first: the line Units of the output, and --input-range. Then at the labels, and at how inputs were "
        "prepared for training. There is no headline until clean accuracy is what it was in training."
    ),
    "one-class": (
        "Look at the units first: an input in other units saturates, or is all zeros to the file. Give --input-range, or "
        "export the file again."
    ),
    "permuted-classes": (
        "Give the labels the file's order: for classes sorted by name y_test is the place in that order. The check names the "
        "order that fits best; do not take it without looking."
    ),
    "fewer-classes": (
        "Name all classes of the file in the array `classes` of the .npz, in the order of its outputs, and number the labels "
        "by it."
    ),
    "no-classifier": (
        "Attack the classifier that is built on it, not the embedding. An autoencoder that finds anomalies is attacked with "
        "--anomaly reconstruction, on data with labels of 0 (normal) and 1 (anomaly)."
    ),
    "black-box-only": (
        "Give the network that the file was made from, or a file whose operators have a differentiable twin. "
        "Otherwise call the figures what they are: robust accuracy against black boxes."
    ),
    "zero-gradients": (
        "Run the protocol adaptive: it repairs the gradients and attacks through the repaired ones. Quote its figure."
    ),
    "misleading-gradients": (
        "Do not quote the figure as robustness: attacks that follow gradients stand still on such a network. Run the protocol "
        "adaptive; if the check stays, what its attacks break is an upper bound and nothing else."
    ),
    "softmax": "Attack the logits: export the file without its softmax, or give the network that it was made from.",
    "saturated-scores": (
        "Give attacks a gradient: the network that the file was made from, or a protocol with attacks on bpda."
    ),
    "random-predictions": "Leave expectation on in the protocol, so that attacks follow the mean of several passes.",
    "more-steps": (
        "Raise the budget of `[convergence]` in the protocol, or steps and restarts of the attack, until this check is silent. "
        "Until then the figure is too high."
    ),
    "half-grey": (
        "Do not quote the figure. Look for the reason first: masked gradients (the protocol adaptive repairs them), a "
        "wrong input range, or labels that do not belong to the images."
    ),
    "unconstrained": (
        "Do not quote the figure. An attack that may change everything and fails does not work: look at the input "
        "range and at gradients that are zero, then run the protocol adaptive."
    ),
    "black-box-wins": (
        "Take the lower figure, and distrust it too. Run the protocol adaptive: attacks on repaired gradients should "
        "find these samples."
    ),
    "square-is-blind": (
        "Ignore the rows of Square. The figure rests on attacks with gradients alone: make sure that some are made on "
        "repaired or bpda."
    ),
    "rising": (
        "Give the attack more steps, or a step size that is a share of epsilon. The worst case is safe: it counts a "
        "sample broken at a smaller radius as broken."
    ),
    "no-examples": ("Report it as a bug of the attack. With an attack of your own, look at its projection and its rounding."),
}
