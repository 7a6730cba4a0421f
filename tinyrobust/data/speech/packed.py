"""Speech Commands as tensorflow-datasets prepares it.

Its clips can only be read one after the other, so they are written once, as they are, into a flat file of sound for each part,
in the cache; from there every clip is a cut, read in place.

What differs from the folder: only the twelve classes of the benchmark are told apart; silence in training and validation is cut
from the background recordings already, and is the only noise there is; the test part is the official one, taken whole.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from tinyrobust.data.cards import Card, SpeechTfds
from tinyrobust.data.speech import cache
from tinyrobust.data.speech.background import Background
from tinyrobust.data.speech.corpus import (
    BENCHMARK,
    FIXED_SEED,
    PARTS,
    Clip,
    Corpus,
    every_class,
    with_made_clips,
)
from tinyrobust.data.tfds import opened, tfds_folder
from tinyrobust.data.tfds_reader import in_order
from tinyrobust.errors import DataError, RunFolderError
from tinyrobust.files import atomic_path
from tinyrobust.progress import Progress
from tinyrobust.recipe.frontend import CLIP_SAMPLES
from tinyrobust.recipe.speech import SILENCE, UNKNOWN, Speech

_THEIR_NAMES = {UNKNOWN: "_unknown_", SILENCE: "_silence_"}
Region = tuple[Path, int, int]


class _Example(TypedDict):
    """A clip as tensorflow-datasets gives it: samples at 16 kHz, [n], and its class."""

    audio: NDArray[np.int64]
    label: np.int64


@dataclass(frozen=True, eq=False)
class Packed(Background):
    """All sound of the set; `silence` has, for each part, where its clips of silence are: the path, from and to in samples."""

    silence: dict[str, list[Region]]

    def regions(self, part: str) -> list[Region]:
        """The clips of silence of `part` that are a whole second."""
        return [region for region in self.silence[part] if region[2] - region[1] >= CLIP_SAMPLES]


@dataclass(frozen=True, eq=False)
class _Part:
    """The clips of a part: their file, where each ends in it, and their class among `names`."""

    path: Path
    sound: NDArray[np.int16]
    ends: NDArray[np.int64]
    labels: NDArray[np.int64]
    names: tuple[str, ...]

    def cuts(self, name: str) -> list[tuple[int, int, int]]:
        """Number, begin and length of every clip of a class."""
        chosen = np.flatnonzero(self.labels == self.names.index(_THEIR_NAMES.get(name, name)))
        lengths = np.diff(self.ends, prepend=0)[chosen]
        return list(zip(chosen.tolist(), (self.ends[chosen] - lengths).tolist(), lengths.tolist(), strict=True))


def find(
    card: Card, loader: SpeechTfds, speech: Speech, seed: int, data_dir: Path | None, progress: Progress | None
) -> tuple[Corpus, Packed]:
    """The clips that the 12-class task asks for, and all sound.

    Args:
        card: The set's.
        loader: Its name and version.
        speech: The task.
        seed: Draws the training clips of unknown words and of silence.
        data_dir: See `tinyrobust.data.tfds.tfds_folder`.
        progress: Called as `progress(label, done, total)`.

    Raises:
        DataError: The set is not there, damaged, or not what it should be; the task is another.
        MissingToolError: TensorFlow or tensorflow-datasets is not installed.
        RunFolderError: The sound cannot be written into the cache.
    """
    if speech.task != "12-class":
        raise DataError(
            f'Expected task = "12-class" for {card.name}: other words are not told apart there. Received: {speech.task}',
            hint="speech-commands, from the upstream archive, has all words.",
        )
    if speech.validation_speakers < 1:
        raise DataError(
            f"Expected validation_speakers = 1 for {card.name}: it does not say who speaks. "
            f"Received: {speech.validation_speakers}",
            hint="speech-commands, from the upstream archive, has the speakers' names.",
        )
    classes = BENCHMARK + ((UNKNOWN,) if speech.unknown else ()) + ((SILENCE,) if speech.silence else ())
    packs = _packs(card, loader, data_dir, progress)
    parts = {}
    for part, pack in packs.items():
        random = np.random.default_rng([PARTS.index(part), seed if part == "train" else FIXED_SEED])
        cuts = {name: pack.cuts(name) for name in classes}
        average = sum(len(cuts[word]) for word in BENCHMARK) / len(BENCHMARK)
        for name, share in ((UNKNOWN, speech.unknown), (SILENCE, speech.silence)):
            if share and part != "test":
                drawn = random.permutation(len(cuts[name]))[: max(1, round(share * average))]
                cuts[name] = [cuts[name][index] for index in sorted(drawn.tolist())]
        clips = [
            Clip(pack.path, f"{part}/{number}", label, start, samples)
            for label, name in enumerate(classes)
            for number, start, samples in cuts[name]
        ]
        if part == "train":
            clips = with_made_clips(clips, classes, speech, average, seed)
        every_class(tfds_folder(loader, data_dir), part, classes, clips)
        parts[part] = tuple(clips)
    silence = {
        part: [(pack.path, start, start + samples) for _, start, samples in pack.cuts(SILENCE)] for part, pack in packs.items()
    }
    recordings = {pack.path: pack.sound for pack in packs.values()}
    total = sum(len(pack.labels) for pack in packs.values())
    return Corpus(classes, parts, "splits of tensorflow-datasets", total, ()), Packed(recordings, (), silence)


def _packs(card: Card, loader: SpeechTfds, data_dir: Path | None, progress: Progress | None) -> dict[str, _Part]:
    source = tfds_folder(loader, data_dir)
    # The files of a prepared set never change; another preparation has others, or of other times.
    files = sorted(path for path in source.iterdir() if path.is_file()) if source.is_dir() else []
    seen = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    folder = cache.folder() / f"{loader.name}-{hashlib.sha256(repr(seen).encode()).hexdigest()[:32]}"
    packs = {part: _read(folder / f"{part}.int16") for part in PARTS}
    if not all(packs.values()):
        with opened(card, loader, data_dir) as builder:
            names = tuple(builder.info.features["label"].names)
            for part in PARTS:
                examples = builder.as_dataset(split=part, shuffle_files=False, read_config=in_order()).as_numpy_iterator()
                total = builder.info.splits[part].num_examples
                try:
                    _write(folder / f"{part}.int16", examples, names, total, progress)
                except RunFolderError as error:
                    raise RunFolderError(error.message, hint="TINYROBUST_CACHE names another folder.") from error
        packs = {part: _read(folder / f"{part}.int16") for part in PARTS}
    return {part: pack for part, pack in packs.items() if pack}


def _write(path: Path, examples: Iterable[_Example], names: tuple[str, ...], total: int, progress: Progress | None) -> None:
    """The sound first, then what tells where the clips are: where that is there, both are complete."""
    labels, ends, end = [], [], 0
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        for number, example in enumerate(examples):
            audio = example["audio"]
            if (
                audio.ndim != 1
                or not np.issubdtype(audio.dtype, np.integer)
                or np.abs(audio, dtype=np.int64).max(initial=0) > 32768
            ):
                raise ValueError(f"Expected clips of 16-bit samples. Received: {audio.dtype} {audio.shape}")
            clip = np.clip(audio[:CLIP_SAMPLES], -32768, 32767).astype("<i2")
            file.write(clip.tobytes())
            end += len(clip)
            ends.append(end)
            labels.append(int(example["label"]))
            if progress and (number % 512 == 0 or number + 1 == total):
                progress(f"unpacking {path.stem} clips", number + 1, total)
    if len(labels) != total:
        raise ValueError(f"Expected {total} clips in {path.stem}. Received: {len(labels)}")
    if missing := {*BENCHMARK, *_THEIR_NAMES.values()} - set(names):
        raise ValueError(f"Expected the classes of the 12-class benchmark. Received: none of {', '.join(sorted(missing))}")
    with atomic_path(path.with_suffix(".npz")) as temporary:
        np.savez(temporary, allow_pickle=False, ends=np.array(ends), labels=np.array(labels), names=np.array(names))


def _read(path: Path) -> _Part | None:
    """A part that was written before; None where it was not, or not whole."""
    try:
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as file:
            ends, labels, names = (file[key] for key in ("ends", "labels", "names"))
        if path.stat().st_size != 2 * ends[-1]:
            return None
        return _Part(path, np.memmap(path, "<i2", "r"), ends, labels, tuple(names.tolist()))
    except (OSError, EOFError, ValueError, KeyError, IndexError):
        return None
