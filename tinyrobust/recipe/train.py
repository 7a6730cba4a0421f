"""`[train]`: how a network learns."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tinyrobust.recipe.adversarial import Adversary
from tinyrobust.recipe.table import Count, Share, Table, Width


class Distillation(Table):
    """The network learns the soft labels of a float teacher at temperature T, and is deployed at T = 1.

    With a temperature alone this is defensive distillation (Papernot et al. 2016): one teacher of the student's size, itself
    trained at T. Teachers that are wider, several, and trained at 1 make a small network better (Hinton et al. 2015).
    """

    temperature: float = Field(gt=0)
    teacher_epochs: Count | None = Field(None, description="Epochs of the teacher; as many as the student's when absent.")
    teacher_width: Width | None = Field(None, description="The teacher's network.width; the student's when absent.")
    teacher_temperature: float | None = Field(
        None, gt=0, description="That the teacher is trained at; the student's when absent, 1 for ordinary training."
    )
    teachers: int = Field(1, ge=1, le=16, description="So many, of this recipe's seed and the next; their logits are averaged.")


class Train(Table):
    """How it learns."""

    epochs: Count
    batch_size: Count = 128
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = Field(6e-3, ge=0, description="Peak of the schedule.")
    schedule: Literal["one-cycle", "cosine", "constant"] = "one-cycle"
    warmup: Share = Field(0.3, description="Share of the steps in which the one-cycle schedule rises.")
    weight_decay: float = Field(1e-4, ge=0, description="Decoupled decay of the latent weights, not of biases and scales.")
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    ema: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="Momentum of an average of the latent weights; 0: none.")
    quantization: Literal["aware", "after"] = Field(
        "aware", description="In training, or after it: a float network is trained, then its weights are quantized."
    )
    distillation: Distillation | None = None
    adversarial: Adversary | None = None

    @model_validator(mode="after")
    def _one_way_of_learning(self) -> Self:
        if self.distillation and self.adversarial:
            raise ValueError("Expected distillation or adversarial. Received: both: soft labels are those of clean images")
        if self.distillation and self.quantization == "after":
            raise ValueError("Expected quantization in training with distillation: its student is quantized. Received: after")
        return self
