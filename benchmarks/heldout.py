"""How a spotter's settings do on speakers and unknown words that were not learned from, without a look at the test clips.

    python benchmarks/heldout.py kws-dscnn --data-dir ../shared/data/speech_commands --fold 1 --set data.speech.joined=1

Validation accuracy says too much: its unknown words are those of training. Here every second unknown word and a quarter of
the speakers are taken out of the training clips, the recipe's network learns the rest in float, from labels alone, and is asked
about what was taken out: as recorded, and in four copies with the recipe's noise, speed and loudness. The mean over classes
counts every class alike. Test clips are not in the folder that this makes. Choose settings that win on both folds.
"""

import argparse
import tempfile
from pathlib import Path

import keras
import numpy as np

from tinyrobust import data, recipe
from tinyrobust.cli import console
from tinyrobust.cli.tables import percent
from tinyrobust.data.arrays import Dataset, scale
from tinyrobust.data.speech import corpus, partition
from tinyrobust.data.speech.background import BACKGROUND
from tinyrobust.data.speech.features import copies_of
from tinyrobust.data.speech.frontend import Grid, front_end
from tinyrobust.networks.catalog import build
from tinyrobust.progress import Progress
from tinyrobust.recipe import Recipe
from tinyrobust.recipe.objectives import LABELS
from tinyrobust.recipe.precision import FLOAT
from tinyrobust.recipe.speech import SILENCE, UNKNOWN, Masks, Speech
from tinyrobust.robustness.statistics import wilson
from tinyrobust.training.fit import FitFiles, fit, seed_everything
from tinyrobust.training.objectives import Supplies, build_objectives

FOLDS, COPIES = 2, 4
_SPEAKERS = 4  # one in so many is held out
_NOISE_SEED = 99  # not the recipe's: that noise was learned from


def main() -> None:
    """Trains and prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("recipe", help="a recipe of speech with words of its own, such as kws-dscnn")
    parser.add_argument("--data-dir", type=Path, required=True, help="the folder with a folder for every word")
    parser.add_argument("--fold", type=int, choices=range(FOLDS), default=0)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the recipe; repeatable")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asked = recipe.load(options.recipe, options.set)
        hold_out(options.data_dir, Path(folder) / "clips", asked.data.speech, options.fold)
        speech = asked.data.speech.model_copy(update={"validation_speakers": 1.0})  # hold_out has seen to it
        held = asked.data.model_copy(update={"name": str(Path(folder) / "clips"), "speech": speech})
        resolved = asked.model_copy(update={"precision": FLOAT, "data": held})
        with console.progress() as progress:
            dataset = data.load(resolved.data, resolved.seed, progress=progress)
            network = trained(dataset, resolved, Path(folder), progress)
            noisy = noisy_copies(dataset, resolved, progress)
    print(f"Fold {options.fold}, {len(dataset.train):,} training clips")
    report("as recorded", [dataset.validation.x], dataset, network)
    report("in noise", list(noisy), dataset, network)


def hold_out(source: Path, folder: Path, speech: Speech, fold: int) -> None:
    """Links to all but the test clips; the validation list names what is held out, the testing list what validation was.

    What is held out is of the training speakers, however many of the validation speakers are learned from.
    """
    listed = partition.lists(source)
    clips = [(word, path) for word, paths in corpus.clips_by_word(source).items() for path in paths]
    parts = {path: part for word, path in clips if (part := partition.part_of(word, path, listed)) != "test"}
    others = sorted({path.parent.name for path in parts} - set(speech.words))
    held: dict[str, list[str]] = {part: [] for part in partition.LISTS}
    for path, part in parts.items():
        word, held_speaker = path.parent.name, partition.speaker_hash(path.name) % _SPEAKERS == fold
        held_word = word in others[fold::FOLDS]
        held_out = held_word or held_speaker
        # What a held-out speaker says of the unknown words that are learned would be neither learned nor held out.
        if word in others and held_speaker and not held_word:
            continue
        (folder / word).mkdir(parents=True, exist_ok=True)
        (folder / word / path.name).symlink_to(path.resolve())
        if part == "validation":
            if held_out or partition.part_of(word, path, listed, speech.validation_speakers) == part:
                held["test"].append(f"{word}/{path.name}")
        elif held_out:
            held["validation"].append(f"{word}/{path.name}")
    (folder / BACKGROUND).symlink_to((source / BACKGROUND).resolve())
    for part, lines in held.items():
        (folder / partition.LISTS[part]).write_text("\n".join(lines), encoding="utf-8")


def trained(dataset: Dataset, resolved: Recipe, folder: Path, progress: Progress) -> keras.Model:
    """The recipe's network in float, after its epochs on the labels."""
    seed_everything(resolved.seed)
    network = build(resolved, dataset.input_shape, len(dataset.classes))
    objectives = build_objectives(LABELS, Supplies(resolved.seed, resolved.train.label_smoothing))
    return fit(network, objectives, dataset, resolved, FitFiles.in_folder(folder, "train"), progress=progress)


def noisy_copies(dataset: Dataset, resolved: Recipe, progress: Progress) -> np.ndarray:
    """Features of the held-out clips in noise, uint8 [copies, n, frames, coefficients, 1]."""
    parts, speech = dataset.speech, resolved.data.speech
    augment = speech.augment.model_copy(update={"copies": COPIES, "masks": Masks()})
    clips, background = parts.recordings.parts["validation"], parts.recordings.background
    return copies_of(clips, background, front_end(speech.frontend), Grid.of(parts.record), augment, _NOISE_SEED, progress)


def report(how: str, copies: list[np.ndarray], dataset: Dataset, network: keras.Model) -> None:
    """Accuracy on words, unknown words and silence, and the mean over classes. Intervals count every clip once."""
    labels = dataset.validation.y
    right = np.mean([network.predict(scale(x), verbose=0).argmax(axis=1) == labels for x in copies], axis=0)
    classes = dataset.classes
    others = [classes.index(name) for name in (UNKNOWN, SILENCE)]
    shares = {"words": ~np.isin(labels, others)} | {classes[label]: labels == label for label in others}
    cells = [f"{name} {percent(wilson(round(right[chosen].sum()), chosen.sum()))}" for name, chosen in shares.items()]
    mean = np.mean([right[labels == label].mean() for label in range(len(classes))])
    print(f"{how}: {100 * mean:.1f} % mean over classes; {'; '.join(cells)}")


if __name__ == "__main__":
    main()
