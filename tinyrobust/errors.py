"""The error types: what a person reads when something is not as expected.

Every error of tinyrobust is a `TinyRobustError`; the command line prints it as one readable block and exits non-zero.
"""


class TinyRobustError(Exception):
    """Something is not as expected, and a person can mend it.

    Args:
        message: What was expected and what was received.
        hint: What to do about it; printed below the message.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message


class RecipeError(TinyRobustError):
    """A recipe names a key, value, layer or parent that does not exist or does not fit."""


class DataError(TinyRobustError):
    """A data set is missing, corrupt or of another shape than the recipe says."""


class ModelFileError(TinyRobustError):
    """A model file is missing, corrupt, or uses what this command cannot handle."""


class TrainingError(TinyRobustError):
    """Training cannot go on: the loss is not finite, or the settings make no sense."""


class ParityError(TinyRobustError):
    """Two neighbours of the export chain disagree: the artefact is not the trained network."""


class RunFolderError(TinyRobustError):
    """A run folder is locked by another run, not writable, full, or holds something else."""


class MissingToolError(TinyRobustError):
    """An optional tool (compiler, emulator, Python extra) is needed here and not installed."""
