"""What names a `.keras` file in a recipe."""

from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator

from tinyrobust.files import sha256
from tinyrobust.recipe.table import Table


class ModelFile(Table):
    """What names a `.keras` file."""

    path: str = Field(
        description="Of a .keras file, as Keras 3 saves it, or a network.npz of ours; looked for beside the recipe first."
    )
    sha256: str | None = Field(
        None,
        validate_default=True,
        description="Of the file, in hex: another file is refused. When absent, that of the file as it is.",
    )

    @field_validator("sha256")
    @classmethod
    def _of_the_file(cls, value: str | None, info: ValidationInfo) -> str | None:
        """The recipe's hash is that of what is learned, so it covers what the file says."""
        if value is not None or "path" not in info.data:
            return value
        path = Path(info.data["path"]).expanduser()
        if not path.is_file():
            raise ValueError(f"Expected path to be that of a .keras file. Received: {str(path)!r}: there is no such file")
        return sha256(path)
