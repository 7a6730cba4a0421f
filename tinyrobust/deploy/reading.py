"""What the outputs of a file mean: scores of classes, labels that may hold at once, or how far an input is from normal.

Each reading makes a row of scores of at least two classes of them: whatever attacks and judges classifiers does so here too.
Imports no TensorFlow.
"""

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from tinyrobust.deploy.artefact import Artefact, Tensor
from tinyrobust.errors import DataError, ModelFileError
from tinyrobust.records import Part

FloatArray = npt.NDArray[np.float32]
AnomalyScore = Literal["reconstruction", "output"]
"""Of an anomaly detector: the mean squared error of its reconstruction, or the one number that it puts out."""


class Classes(Part):
    """One score for each class; the largest names the class.

    Attributes:
        before: Operators at the end behind which an attacker reads, instead of their outputs.
    """

    kind: Literal["classes"] = "classes"
    before: ClassVar[tuple[str, ...]] = ("SOFTMAX",)

    def check(self, file: Artefact, sink: Tensor) -> None:
        """Refuses outputs that cannot be read so.

        Raises:
            ModelFileError: They cannot; the remedy is named.
        """
        if len(sink.shape) > 2 and sink.count != sink.shape[-1]:
            hint = "Only classifiers and anomaly detectors can be attacked; footprint and export take this file."
            if len(file.inputs) == 1 and file.tensors[file.inputs[0]].shape == sink.shape:
                hint = "It has the shape of the input. Of an autoencoder that finds anomalies: --anomaly reconstruction."
            raise ModelFileError(
                f"{file.path}: expected one row of at least two scores. Received: output shape {sink.shape}, a map of them, as "
                "networks for segmentation and detection have it",
                hint=hint,
            )
        if not sink.shape or sink.count != sink.shape[-1] or not sink.count:
            raise ModelFileError(f"{file.path}: expected one row of at least two scores. Received: output shape {sink.shape}")
        if sink.count == 1:
            raise ModelFileError(
                f"{file.path}: expected one row of at least two scores, or one that is a sigmoid's. Received: one number that "
                "is no probability, as of a regression",
                hint="Of a classifier with two classes: leave the sigmoid at the end of the file. Of an anomaly detector whose "
                "one output is larger the stranger its input is: --anomaly output.",
            )

    def classes(self, outputs: int) -> int:
        """How many classes so many outputs name."""
        return outputs

    def scores(self, x: FloatArray, outputs: FloatArray) -> FloatArray:  # noqa: ARG002 - one signature for all
        """Scores [n, classes] from inputs and outputs in real numbers, both [n, values]."""
        return outputs

    def logits(self, values: FloatArray, options: Mapping[str, float]) -> FloatArray:
        """Logits [n, classes] from what goes into the last operator, [n, values], and its options."""
        return values * np.float32(options.get("beta", 1.0))


class Label(Part):
    """One of several labels, each with a sigmoid of its own, or the only one: it holds (1), or it does not (0).

    Attributes:
        index: Which output.
    """

    kind: Literal["label"] = "label"
    index: int = Field(0, ge=0)
    before: ClassVar[tuple[str, ...]] = ("LOGISTIC",)

    def check(self, file: Artefact, sink: Tensor) -> None:
        """Refuses outputs that cannot be read so.

        Raises:
            ModelFileError: They cannot.
        """
        last = file.last_operator
        if last is None or last.name != "LOGISTIC" or not sink.shape or sink.count != sink.shape[-1]:
            raise ModelFileError(
                f"{file.path}: expected one row of sigmoids, of which label {self.index} is one. Received: output shape "
                f"{sink.shape}, after {last.name if last else 'no operator'}",
                hint="Of a classifier with one score for each class: leave --label out.",
            )
        if self.index >= sink.count:
            raise ModelFileError(
                f"{file.path}: expected a label from 0 to {sink.count - 1}, one of its sigmoids. Received: {self.index}"
            )

    def classes(self, outputs: int) -> int:  # noqa: ARG002 - one signature for all
        """Two."""
        return 2

    def scores(self, x: FloatArray, outputs: FloatArray) -> FloatArray:  # noqa: ARG002 - one signature for all
        """One minus the sigmoid, and the sigmoid: [n, 2]."""
        one = outputs[:, self.index : self.index + 1]
        return np.concatenate([1 - one, one], axis=1)

    def logits(self, values: FloatArray, options: Mapping[str, float]) -> FloatArray:  # noqa: ARG002 - one signature for all
        """0 and what goes into the sigmoid: the softmax of both is the score and one minus it."""
        one = values[:, self.index : self.index + 1]
        return np.concatenate([np.zeros_like(one), one], axis=1)


class Anomaly(Part):
    """Normal (0) or an anomaly (1): a score above a threshold that normal inputs set.

    Attributes:
        score: What it is.
        false_alarms: So many normal inputs, as a share, may lie above the threshold.
        threshold: An anomaly's score is larger.
        spread: The standard deviation of normal inputs' scores.
        normals: How many normal inputs set both; 0: they are not set yet.
        explained: The share of the variance of normal inputs that the reconstruction has; below 0 their mean would be a better
            one. None of other scores.
    """

    kind: Literal["anomaly"] = "anomaly"
    score: AnomalyScore
    false_alarms: float = Field(0.05, gt=0, lt=1)
    threshold: float = 0.0
    spread: float = Field(1.0, gt=0)
    normals: int = Field(0, ge=0)
    explained: float | None = None
    before: ClassVar[tuple[str, ...]] = ()

    def check(self, file: Artefact, sink: Tensor) -> None:
        """Refuses outputs that cannot be read so.

        Raises:
            ModelFileError: They cannot; the remedy is named.
        """
        last, source = file.last_operator, file.tensors[file.inputs[0]]
        values = source.count
        if self.score == "reconstruction" and (sink.count != values or values < 2):
            raise ModelFileError(
                f"{file.path}: expected as many outputs as inputs, a reconstruction of several values. Received: {values} "
                f"inputs, {sink.count} outputs",
                hint="Of a file that puts out the anomaly score itself: --anomaly output. Of a classifier: leave it out.",
            )
        axes, made = ([size for size in tensor.shape if size > 1] for tensor in (source, sink))
        if self.score == "reconstruction" and axes != made and len(axes) > 1 and len(made) > 1:
            raise ModelFileError(
                f"{file.path}: expected a reconstruction with the axes of the input, or laid flat. Received: input shape "
                f"{source.shape}, output shape {sink.shape}",
                hint="Which output belongs to which input is not known: transpose one of them in the network.",
            )
        if self.score == "output" and sink.count != 1:
            raise ModelFileError(
                f"{file.path}: expected one output, the anomaly score. Received: output shape {sink.shape}",
                hint="Of an autoencoder: --anomaly reconstruction.",
            )
        if self.score == "output" and last is not None and last.name == "LOGISTIC":
            raise ModelFileError(
                f"{file.path}: expected an anomaly score. Received: a sigmoid, the score of a classifier with two classes",
                hint="Leave --anomaly out: its second class is the anomaly.",
            )

    def classes(self, outputs: int) -> int:  # noqa: ARG002 - one signature for all
        """Two."""
        return 2

    def value(self, x: FloatArray, outputs: FloatArray) -> FloatArray:
        """The score itself [n], in the file's own units, squared for a reconstruction; inputs and outputs are [n, values]."""
        if self.score == "output":
            return outputs[:, 0]
        errors: FloatArray = np.mean(np.square(outputs - x), axis=1, dtype=np.float32)
        return errors

    def limit(self, scores: FloatArray) -> float:
        """The smallest of scores [n] of normal inputs that at most the share of false alarms exceeds."""
        return float(np.quantile(scores, 1 - self.false_alarms, method="higher"))

    def calibrated(self, x: FloatArray, outputs: FloatArray) -> "Anomaly":
        """The same with the threshold that normal inputs and what the file makes of them set, both [n, values].

        Raises:
            DataError: They are too few for the share of false alarms.
        """
        scores, least = self.value(x, outputs), math.ceil(1 / self.false_alarms)
        if len(scores) < least:
            raise DataError(
                f"Expected at least {least} normal inputs, for a threshold that {100 * self.false_alarms:.3g} % of them "
                f"exceed. Received: {len(scores)}",
                hint="More of them, as x_train with y_train of 0; or a larger --false-alarms.",
            )
        threshold = self.limit(scores)
        spread = max(float(np.std(scores)), 1e-6 * abs(threshold), float(np.finfo(np.float32).tiny))
        variance = float(np.mean(np.var(x, axis=0)))
        explained = 1 - float(np.mean(scores)) / variance if self.score == "reconstruction" and variance else None
        values = {"threshold": threshold, "spread": spread, "normals": len(scores), "explained": explained}
        return self.model_copy(update=values)

    def scores(self, x: FloatArray, outputs: FloatArray) -> FloatArray:
        """0 and arsinh((score - threshold) / spread): [n, 2].

        An anomaly's score may be a thousand spreads above the threshold, where a cross-entropy has no slope left; the inverse
        hyperbolic sine keeps the order, and grows like a logarithm.
        """
        above = np.arcsinh((self.value(x, outputs) - np.float32(self.threshold)) / np.float32(self.spread))
        return np.stack([np.zeros_like(above), above], axis=1)

    def logits(self, values: FloatArray, options: Mapping[str, float]) -> FloatArray:
        """Not defined: its scores are logits already.

        Raises:
            ValueError: Always.
        """
        raise ValueError(f"Expected no operator to read behind. Received: {values.shape}, {options}")


Reading = Annotated[Classes | Label | Anomaly, Field(discriminator="kind")]


def sigmoids(file: Artefact) -> int:
    """How many outputs are sigmoids of their own, labels that may hold at once; 0 where they are not, or of a single one."""
    last = file.last_operator
    count = file.tensors[file.outputs[0]].count
    return count if count > 1 and last is not None and last.name == "LOGISTIC" else 0


def usual(file: Artefact) -> Classes | Label:
    """What the outputs of a file mean where nobody says so: classes, and of a single sigmoid the only label."""
    last, sink = file.last_operator, file.tensors[file.outputs[0]]
    return Label() if sink.count == 1 and last is not None and last.name == "LOGISTIC" else Classes()
