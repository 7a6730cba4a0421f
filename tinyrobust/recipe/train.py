"""`[train]`: how a network learns."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tinyrobust.recipe.objective_table import Need, check_together, needs
from tinyrobust.recipe.objectives import LABELS, Objective, RobustTransferTable, TaughtTable, Teaching
from tinyrobust.recipe.start import FloatNetwork, Start, StartFile
from tinyrobust.recipe.table import Count, Share, Table
from tinyrobust.recipe.update import Plain, Update
from tinyrobust.recipe.watch import Watch


class Calibration(Table):
    """What is measured on training images when a float network is quantized; nothing is learned."""

    images: Count | None = Field(
        None, description="How many, the first of the training images in their drawn order; None: a hundred batches, or all."
    )
    batch_norm: bool = Field(True, description="Measure means and variances of batch norm anew, on the quantized network.")
    bias_correction: Literal["none", "mean", "mean-and-norm"] = Field(
        "none", description="Undo what rounding shifts in a layer's mean output per channel, and what it stretches."
    )


class Train(Table):
    """How it learns."""

    epochs: int = Field(ge=0, description="0: a network that comes with trained weights is quantized as it is, after training.")
    batch_size: Count = 128
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = Field(6e-3, ge=0, description="Peak of the schedule.")
    schedule: Literal["one-cycle", "cosine", "step", "constant"] = "one-cycle"
    warmup: Share = Field(0.3, description="Share of the steps in which the one-cycle schedule rises.")
    drops: tuple[Share, ...] = Field(
        (0.5, 0.75), description="Shares of the steps after which the step schedule takes a tenth of the rate; rising."
    )
    weight_decay: float = Field(1e-4, ge=0, description="Decoupled decay of the latent weights, not of biases and scales.")
    fraction: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0,
        description="Of the training images, drawn with the seed, each class by its share: what the network learns from. "
        "Teachers learn from all; data.train_samples is for both.",
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="Of the labels, for every objective that learns from them, and for teachers."
    )
    ema: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="Momentum of an average of the latent weights; 0: none.")
    swa: Share | None = Field(
        None,
        description="Share of the epochs after which the latent weights at the ends of epochs are averaged (Izmailov et al. "
        "2018); 0.75 is usual, with a schedule that keeps the rate up. None: no such average.",
    )
    quantization: Literal["aware", "after"] = Field(
        "aware", description="In training, or after it: a float network is trained, then its weights are quantized."
    )
    calibration: Calibration = Calibration()
    start: Start | None = Field(None, description="A float network to start from; none: new weights.")
    objectives: tuple[Objective, ...] = Field(
        LABELS, alias="objective", min_length=1, description="What is minimised: their sum."
    )
    update: Update = Plain(kind="plain")
    watch: Watch | None = Field(None, description="Robust accuracy on validation images after every epoch.")

    @property
    def averages(self) -> bool:
        """Whether an average of the weights is validated and deployed instead of the last ones."""
        return bool(self.ema) or self.swa is not None

    @property
    def needs(self) -> frozenset[Need]:
        """What the objectives need, together."""
        return needs(self.objectives)

    @property
    def of_float_network(self) -> "Train":
        """How the float network learns that is quantized after training, measured for a budget, or started from."""
        settings: dict[str, object] = {"quantization": "aware", "calibration": Calibration(), "start": None}
        if isinstance(self.start, FloatNetwork):
            rate = self.learning_rate if self.start.learning_rate is None else self.start.learning_rate
            settings |= {"epochs": self.start.epochs, "learning_rate": rate, "objectives": self.start.objectives}
            settings["watch"] = None  # it is the student that is watched
        elif isinstance(self.start, StartFile):
            settings |= {"start": self.start, "epochs": 0 if self.quantization == "aware" else self.epochs}
        return self.model_copy(update=settings)

    @property
    def distillation(self) -> TaughtTable | None:
        """The first objective that learns from teachers, which are those of all; None where there is none."""
        return next((one for one in self.objectives if isinstance(one, TaughtTable)), None)

    @property
    def teaching(self) -> Teaching | None:
        """How the teachers are trained; None where nothing learns from any."""
        return self.distillation.teaching if self.distillation else None

    @property
    def transferred(self) -> tuple[float, ...]:
        """The radii, in L-inf, at which objectives take over a teacher's robustness: each once, from small to large."""
        return tuple(sorted({one.epsilon for one in self.objectives if isinstance(one, RobustTransferTable)}))

    @model_validator(mode="after")
    def _calibrates_after_training(self) -> Self:
        if self.quantization == "aware" and self.calibration != Calibration():
            raise ValueError(
                'Expected [train.calibration] beside quantization = "after" only: nothing is calibrated where a network learns '
                'with its quantizers. Received: quantization = "aware"'
            )
        return self

    @model_validator(mode="after")
    def _starts_what_learns(self) -> Self:
        if isinstance(self.start, FloatNetwork) and self.quantization == "after":
            raise ValueError(
                'Expected a start of kind "float-network" beside quantization = "aware" only: what is quantized after training '
                'is itself the float network. Received: quantization = "after"'
            )
        return self

    @model_validator(mode="after")
    def _learns_unless_quantized_after(self) -> Self:
        if self.epochs == 0 and self.quantization != "after":
            raise ValueError("Expected at least one epoch, or quantization = 'after' training. Received: epochs = 0")
        return self

    @model_validator(mode="after")
    def _drops_rise(self) -> Self:
        if list(self.drops) != sorted(set(self.drops)):
            raise ValueError(f"Expected drops that rise. Received: {list(self.drops)}")
        return self

    @model_validator(mode="after")
    def _averages_in_one_way(self) -> Self:
        if self.swa is None:
            return self
        if self.ema:
            raise ValueError(f"Expected train.ema or train.swa, not both. Received: ema = {self.ema:g}, swa = {self.swa:g}")
        if self.watch:
            raise ValueError(
                "Expected train.swa without [train.watch], which goes back to one epoch where the average is of many. "
                "Received: both. Use train.ema with it, whose average goes back too"
            )
        return self

    @model_validator(mode="after")
    def _has_something_to_watch(self) -> Self:
        if self.watch:
            self.watch.against(self.objectives)
        return self

    @model_validator(mode="after")
    def _objectives_fit_together(self) -> Self:
        taught = [objective for objective in self.objectives if isinstance(objective, TaughtTable)]
        if taught and self.quantization == "after":
            raise ValueError(
                f"Expected quantization in training with {taught[0].kind}: its student is quantized. Received: quantization = "
                "'after'. Leave train.quantization out, or learn from the labels: kind = 'cross-entropy' or 'adversarial'"
            )
        if others := [one for one in taught if one.teaching != taught[0].teaching]:
            both = zip(Teaching._fields, taught[0].teaching, others[0].teaching, strict=True)
            differ = [key if key == "teachers" else f"teacher_{key}" for key, one, other in both if one != other]
            raise ValueError(
                "Expected the same teachers for all objectives that have some: equal teachers, teacher_epochs, teacher_width, "
                "teacher_objectives, teacher_file and teacher_temperature, which when absent is a distillation's temperature, "
                f"and 1 for ard and rslad. Received: {taught[0].kind} and {others[0].kind}, whose teachers differ in "
                f"{', '.join(differ)}"
            )
        check_together(self.objectives)
        return self
