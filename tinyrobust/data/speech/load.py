"""From `[data.speech]` to a `Dataset` whose images are the 8-bit features of clips."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinyrobust.data.arrays import Dataset, Split, stratified
from tinyrobust.data.cards import Card, SpeechFolder, SpeechTfds
from tinyrobust.data.speech import corpus, packed
from tinyrobust.data.speech.background import Background, read_background
from tinyrobust.data.speech.corpus import PARTS, Clip, Corpus
from tinyrobust.data.speech.features import Features, copies_of, features_of
from tinyrobust.data.speech.fingerprint import fingerprint
from tinyrobust.data.speech.folder import existing_folder
from tinyrobust.data.speech.frontend import FrontEnd, Grid, front_end
from tinyrobust.data.speech.frontend_record import FrontendRecord, SkippedClip, SpeechParts, Vectors
from tinyrobust.data.speech.recordings import Recordings
from tinyrobust.data.speech.synthetic import synthetic_clips, version
from tinyrobust.data.tfds import tfds_folder
from tinyrobust.errors import DataError
from tinyrobust.progress import Progress
from tinyrobust.recipe.data import Data
from tinyrobust.recipe.speech import SILENCE, UNKNOWN, Speech

# So many of the clips that could not be read are named in the notes; the record names all.
_NAMED = 5
_VECTORS = 8
# A subset of the test clips is the same for every recipe and seed: figures on it can be compared.
_TEST_SUBSET_SEED = 0
# What of [data] is about images.
_OF_IMAGES = ("color", "size", "augment", "fold", "validation")


def load(
    data: Data,
    speech: Speech,
    seed: int,
    card: Card | None,
    data_dir: Path | None = None,
    progress: Progress | None = None,
    *,
    copies: bool = True,
) -> Dataset:
    """The features that a recipe learns from, chooses with and is tested on.

    Args:
        data: What the recipe asks for; `name` is that of the card, or the path of a folder of clips.
        speech: Its table `[data.speech]`.
        seed: The recipe's: draws unknown words and silence for training, and the augmentation.
        card: The data set's; None for a folder of one's own.
        data_dir: Where the archive was unpacked; see `tinyrobust.data.speech.folder.speech_folder`.
        progress: Called as `progress(label, done, total)`.
        copies: Whether the augmented training clips are made, which takes minutes; who does not train needs none.

    Returns:
        Images of shape [rows, coefficients, 1]; `copies` has the augmented training clips, `speech` front end and sound.

    Raises:
        DataError: The clips are missing, or none can be read, or a setting of images is given.
    """
    _no_settings_of_images(data)
    folder, clips, background = _corpus(data, speech, seed, card, data_dir, progress)
    clips = _with_synthetic(clips, speech, seed, progress)
    front = front_end(speech.frontend)
    name = card.name if card else folder.resolve().name
    parts = {part: _ordered(part, clips.parts[part], data, seed) for part in PARTS}
    features = {part: features_of(part, parts[part], background, front, progress) for part in PARTS}
    parts = {part: [parts[part][index] for index in features[part].kept] for part in PARTS}
    _every_class_is_left(folder, clips.classes, parts)
    grid = front.grid(features["train"].values)
    splits = {part: Split(grid.quantized(features[part].values), _labels(parts[part])) for part in PARTS}
    copied: tuple[NDArray[np.uint8], ...] = ()
    if speech.augment.copies and copies:
        copied = tuple(copies_of(parts["train"], background, front, grid, speech.augment, seed, progress))
    recordings = Recordings({part: tuple(parts[part]) for part in PARTS}, background)
    return Dataset(
        name,
        splits["train"],
        splits["validation"],
        splits["test"],
        clips.classes,
        fingerprint(parts, features, clips.classes, background, speech, seed),
        (*_missing(card, clips), *_notes(name, clips, features, background, speech)),
        copies=copied,
        speech=SpeechParts(
            _record(front, speech, grid, clips, features),
            _vectors(recordings, splits["validation"]),
            recordings,
        ),
    )


def _no_settings_of_images(data: Data) -> None:
    of_images = [key for key in _OF_IMAGES if getattr(data, key) != getattr(Data(name=data.name), key)]
    if of_images:
        raise DataError(
            f"Expected no settings of images beside [data.speech]. Received: {', '.join('data.' + key for key in of_images)}",
            hint="Clips have [data.speech.augment]; their validation and test speakers are the official ones.",
        )


def _corpus(
    data: Data, speech: Speech, seed: int, card: Card | None, data_dir: Path | None, progress: Progress | None
) -> tuple[Path, Corpus, Background]:
    """Where the set is, the clips of the task, and the recordings without speech."""
    if card is not None and isinstance(card.loader, SpeechTfds):
        return tfds_folder(card.loader, data_dir), *packed.find(card, card.loader, speech, seed, data_dir, progress)
    if card is not None and isinstance(card.loader, SpeechFolder):
        folder = existing_folder(card, card.loader, data_dir)
    else:
        folder = Path(data.name).expanduser()
    background = read_background(folder)
    return folder, corpus.find(folder, speech, background, seed), background


def _with_synthetic(recorded: Corpus, speech: Speech, seed: int, progress: Progress | None) -> Corpus:
    """The corpus with what a synthesizer speaks among its training clips, and a note that says so."""
    if speech.synthetic is None:
        return recorded
    words = [name for name in recorded.classes if name not in (UNKNOWN, SILENCE)]
    average = sum(clip.label < len(words) for clip in recorded.parts["train"]) / len(words)
    clips = synthetic_clips(speech.synthetic, recorded.classes, len(words), average, seed, progress)
    note = f"{len(clips):,} training clips are synthetic: {', '.join(map(version, speech.synthetic.engines))}"
    parts = {**recorded.parts, "train": (*recorded.parts["train"], *clips)}
    return replace(recorded, parts=parts, notes=(*recorded.notes, note))


def _ordered(part: str, clips: tuple[Clip, ...], data: Data, seed: int) -> list[Clip]:
    """Training and validation clips in a stratified draw, so that every beginning is one; subsets as the recipe says."""
    samples = {"train": data.train_samples, "test": data.test_samples}.get(part)
    if samples is not None and samples > len(clips):
        raise DataError(
            f"Expected data.{part}_samples of at most {len(clips):,}, all clips of the task. Received: {samples:,}",
            hint=f"Without data.{part}_samples all of them are used.",
        )
    if part == "test" and samples is None:
        return list(clips)
    chosen = stratified(_labels(clips), samples or len(clips), _TEST_SUBSET_SEED if part == "test" else seed)
    return [clips[index] for index in chosen]


def _labels(clips: tuple[Clip, ...] | list[Clip]) -> NDArray[np.int64]:
    return np.array([clip.label for clip in clips], np.int64)


def _every_class_is_left(folder: Path, classes: tuple[str, ...], parts: dict[str, list[Clip]]) -> None:
    for part, clips in parts.items():
        absent = sorted(set(range(len(classes))) - {clip.label for clip in clips})
        if absent:
            raise DataError(
                f"{folder}: Expected {part} clips of every class that can be read. "
                f"Received: none of {', '.join(classes[label] for label in absent[:10])}",
                hint="Use more of the clips: data.train_samples, data.test_samples.",
            )


def _missing(card: Card | None, clips: Corpus) -> tuple[str, ...]:
    expected = card.train_images + card.test_images if card else clips.clips
    return (f"{card.name}: {clips.clips:,} of {expected:,} clips found",) if card and clips.clips != expected else ()


def _notes(name: str, clips: Corpus, features: dict[str, Features], background: Background, speech: Speech) -> tuple[str, ...]:
    notes = [f"{name}: {note}" for note in clips.notes]
    skipped = [one for part in PARTS for one in features[part].skipped] + list(background.skipped)
    if skipped:
        named = "; ".join(f"{one.path}: {one.reason}" for one in skipped[:_NAMED])
        more = f"; and {len(skipped) - _NAMED:,} more" if len(skipped) > _NAMED else ""
        notes.append(f"{name}: {len(skipped):,} sound files could not be read and are left out: {named}{more}")
    padded = sum(features[part].padded for part in PARTS)
    if padded:
        notes.append(f"{name}: {padded:,} clips are shorter than a second and end with zeros")
    if speech.augment.copies and speech.augment.noise and not background.noise():
        notes.append(f"{name}: no background noise was mixed in: there are no recordings of it")
    return tuple(notes)


def _record(front: FrontEnd, speech: Speech, grid: Grid, clips: Corpus, features: dict[str, Features]) -> FrontendRecord:
    return FrontendRecord(
        settings=speech.frontend,
        shape=front.shape,
        low=tuple(grid.low.tolist()),
        high=tuple(grid.high.tolist()),
        clipped=grid.clipped(features["train"].values),
        classes=clips.classes,
        partition=clips.partition,
        padded={part: features[part].padded for part in PARTS},
        skipped=tuple(SkippedClip(path=one.path, reason=one.reason) for part in PARTS for one in features[part].skipped),
    )


def _vectors(recordings: Recordings, split: Split) -> Vectors:
    rows = np.arange(min(_VECTORS, len(split)))
    return Vectors(recordings.audio("validation", rows), split.x[rows], split.y[rows])
