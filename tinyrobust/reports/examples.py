"""Adversarial examples as pictures: the original, the perturbation amplified, and what the attack made of it."""

import base64
import io
import zlib
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image

from tinyrobust.errors import RunFolderError

Array = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Example:
    """One broken sample.

    Attributes:
        index: Its position in the test set.
        original: [h, w, c] in [0, 1].
        adversarial: [h, w, c] in [0, 1].
        label: Its true class.
        before: What the target named without attack.
        after: What the target names now.
        epsilon: How far the attack may go, L-inf, in input units.
        attack: What made the example.
        target: Whom it fools.
    """

    index: int
    original: Array
    adversarial: Array
    label: int
    before: int
    after: int
    epsilon: float
    attack: str
    target: str

    @property
    def largest_change(self) -> float:
        """The L-inf distance from the original."""
        return float(np.abs(self.adversarial - self.original).max())

    @property
    def amplification(self) -> float:
        """By how much the shown perturbation is larger than the real one: epsilon is shown as full color."""
        return 1 / self.epsilon

    @property
    def pictures(self) -> tuple[str, str, str]:
        """Original, amplified perturbation and adversarial example as PNG data URIs."""
        return data_uri(self.original), data_uri(self._shown_change()), data_uri(self.adversarial)

    def _shown_change(self) -> Array:
        change = (self.adversarial - self.original) / self.epsilon
        if change.shape[-1] == 3:
            return 0.5 + change / 2  # gray is unchanged
        # Brighter is orange, darker is purple, unchanged is nearly white; the ends of the map are almost black.
        return matplotlib.colormaps["PuOr_r"](0.5 + 0.36 * change[..., 0])[..., :3]


def read_examples(path: Path, *, of_sound: bool = False) -> list[Example]:
    """Reads the samples that an evaluation kept for pictures; none where there is no file or the inputs are no images.

    Args:
        path: `per_sample.npz`.
        of_sound: Whether they are features, [frames, coefficients]: then time is turned to the right, low to the bottom.

    Raises:
        RunFolderError: The file is not what `tinyrobust.robustness.outcomes` documents.
    """
    if not path.is_file():
        return []
    try:
        with np.load(path, allow_pickle=False) as arrays:
            attack, target = str(arrays["example/attack"]), str(arrays["example/target"])
            clean = dict(zip(arrays["index"].tolist(), arrays[f"clean/{target}"].tolist(), strict=True))
            found = {
                key: arrays[f"example/{key}"] for key in ("index", "label", "image", "adversarial", "predicted", "epsilon")
            }
    except (KeyError, OSError, ValueError, zlib.error) as error:
        raise RunFolderError(
            f"Cannot read the adversarial examples in {path}: {error}", hint="Delete the file and run the attack stage again."
        ) from error
    if found["image"].ndim != 4 or found["image"].shape[-1] not in (1, 3):
        return []
    if of_sound:
        for key in ("image", "adversarial"):
            found[key] = found[key].swapaxes(1, 2)[:, ::-1]
    return [
        Example(
            index=int(index),
            original=found["image"][i].astype(np.float32) / 255,
            adversarial=found["adversarial"][i],
            label=int(found["label"][i]),
            before=int(clean[int(index)]),
            after=int(found["predicted"][i]),
            epsilon=float(found["epsilon"]),
            attack=attack,
            target=target,
        )
        for i, index in enumerate(found["index"])
    ]


def data_uri(image: Array) -> str:
    """An image [h, w, 1 or 3] in [0, 1] as the data URI of an 8-bit PNG; the same text for the same pixels."""
    return png_uri(np.round(np.clip(image, 0, 1) * 255).astype(np.uint8))


def png_uri(pixels: npt.NDArray[np.uint8], palette: npt.NDArray[np.uint8] | None = None) -> str:
    """An image as the data URI of an 8-bit PNG; the same text for the same pixels.

    Args:
        pixels: [h, w, 1] gray, [h, w, 3] color, or [h, w] numbers of colors in `palette`.
        palette: [colors, 3].
    """
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels)
    if palette is not None:
        image.putpalette(palette.tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=9)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
