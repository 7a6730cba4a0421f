"""What evaluations make of networks that hide from attacks, beside the honest network below them.

    python benchmarks/masked.py --output FOLDER

trains the base of `masks.py` on digits, writes the file of every mask over it, attacks all of them with `quick` and `adaptive`
on the same samples and prints a Markdown table. A row is good when at most two samples more stand than of the base's own file,
or the result is marked as unreliable; the exit status is 1 when one is not. What is done stays in FOLDER.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import masks
import numpy as np

import tinyrobust
from tinyrobust.robustness.robustness_record import RobustnessRecord

PROTOCOLS = ("quick", "adaptive")
EPSILON = 0.1
_LEARNED = 1200  # images that the base learns; the others are attacked
_SPARE = 2  # samples


@dataclass(frozen=True)
class Result:
    """What a protocol found of a file.

    Attributes:
        stands: Samples.
        base: Samples of the base's own file that stand.
        raised: Checks that are.
    """

    stands: int
    base: int
    raised: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Whether nobody is fooled."""
        return self.stands <= self.base + _SPARE or bool(self.raised)


class Family:
    """The base and the masks over it, as files.

    Args:
        folder: Where they and their evaluations lie.
        base: The base, from images in [0, 1] to logits.
        images: For calibration, uint8.
        x: Images that are attacked, uint8.
        y: Their classes.
    """

    def __init__(self, folder: Path, base: keras.Model, images: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
        self._folder, self._base, self._images = folder, base, images.astype(np.float32) / 255
        self._data = folder / "digits.npz"
        self._samples = len(x)
        np.savez(self._data, x_test=x, y_test=y)

    def result(self, name: str, protocol: str) -> Result:
        """What a protocol finds of a mask and of the base's file of the same kind."""
        mask = masks.MASKS[name]
        path = self._folder / f"{name}.tflite"
        if not path.is_file():
            mask.file(self._base, self._images, path)
        record, base = (self.attacked(file, protocol) for file in (path, self.base_file(quantized=mask.quantized)))
        assert record.headline, "the mask leaves clean answers as they are"
        assert base.headline
        raised = tuple(check.name for check in record.checks if check.raised)
        return Result(record.headline.count, base.headline.count, raised)

    def base_file(self, *, quantized: bool) -> Path:
        """The base's own file, int8 or float."""
        path = self._folder / f"base-{'int8' if quantized else 'float'}.tflite"
        return path if path.is_file() else masks.converted(self._base, self._images if quantized else None, path)

    def attacked(self, file: Path, protocol: str) -> RobustnessRecord:
        """The record of a file, made once."""
        output = self._folder / f"{file.stem}-{protocol}"
        record = output / "robustness.json"
        if record.is_file():
            return RobustnessRecord.load(record)
        return tinyrobust.attack(
            file,
            data=str(self._data),
            protocol=protocol,
            epsilons=[EPSILON],
            samples=self._samples,
            input_range=(0.0, 1.0),
            output=output,
        )


def main() -> None:
    """Attacks and prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", action="append", choices=masks.MASKS, help="a mask; repeatable; all when absent")
    parser.add_argument("--protocol", action="append", choices=PROTOCOLS, help="repeatable; both when absent")
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--output", type=Path, help="folder for files and evaluations")
    options = parser.parse_args()
    protocols = options.protocol or PROTOCOLS
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.output or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        family = trained(folder, options.samples)
        print(f"| mask | what it does |{''.join(f' base, {name} | file, {name} | checks |' for name in protocols)}")
        print(f"|---|---|{'---:|---:|---|' * len(protocols)}")
        rows = [_row(family, name, protocols) for name in options.only or masks.MASKS]
    sys.exit(0 if all(rows) else 1)


def trained(folder: Path, samples: int) -> Family:
    """The family over a base that is trained here, or was for the same folder."""
    pixels, y = masks.digits()
    path = folder / "base.keras"
    if path.is_file():
        base = keras.models.load_model(path)
    else:
        base = masks.base(pixels[:_LEARNED].astype(np.float32) / 255, y[:_LEARNED])
        base.save(path)
    end = _LEARNED + samples
    return Family(folder, base, pixels[:100], pixels[_LEARNED:end], y[_LEARNED:end])


def _row(family: Family, name: str, protocols: Sequence[str]) -> bool:
    results = [family.result(name, protocol) for protocol in protocols]
    cells = [f"{one.base} | {one.stands} | {', '.join(one.raised) or 'none raised'}" for one in results]
    print(f"| {name} | {masks.MASKS[name].words} | {' | '.join(cells)} |", flush=True)
    return all(one.good for one in results)


if __name__ == "__main__":
    main()
