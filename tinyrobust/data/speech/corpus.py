"""A folder in the layout of Speech Commands, or any `<class>/*.wav`: which clips there are, of which class, for which part."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tinyrobust.data.speech.background import BACKGROUND, Background
from tinyrobust.data.speech.partition import key, lists, part_of
from tinyrobust.errors import DataError
from tinyrobust.recipe.frontend import CLIP_SAMPLES
from tinyrobust.recipe.speech import SILENCE, UNKNOWN, Speech

PARTS = ("train", "validation", "test")
SUFFIXES = (".wav", ".flac")
# The 12-class benchmark (Warden, section 7; MLPerf Tiny): these, unknown and silence.
BENCHMARK = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
_SILENCE_FOLDER = "_silence_"
# The draws for validation and test are the same for every recipe and seed, so that figures can be compared.
FIXED_SEED = 0
# A stream of random numbers of its own: clips that are made leave the draws of unknown words and silence as they are.
_MADE = (len(PARTS), 0)


@dataclass(frozen=True)
class Clip:
    """A second of sound: a file, or (`start` given) a cut of so many samples from a longer recording, at 16 kHz.

    It is played `backwards`, at another `loudness` (1: as recorded), or goes on as the second half of the clip `then`, where a
    recipe asks for such training clips.
    """

    path: Path
    name: str
    label: int
    start: int | None = None
    samples: int = CLIP_SAMPLES
    backwards: bool = False
    loudness: float = 1.0
    then: "Clip | None" = None


@dataclass(frozen=True)
class Corpus:
    """The clips of a task.

    Attributes:
        classes: The words, then unknown and silence where the task has them.
        parts: For train, validation and test the clips, class by class in the order of their names.
        partition: How the parts were told from each other.
        clips: How many clips of words there are in the folder, of the task or not.
        notes: What a reader of the figures must know.
    """

    classes: tuple[str, ...]
    parts: dict[str, tuple[Clip, ...]]
    partition: str
    clips: int
    notes: tuple[str, ...]


def find(folder: Path, speech: Speech, background: Background, seed: int) -> Corpus:
    """The clips in `folder` that the task asks for. Reads names and lists only.

    Args:
        folder: Has a folder for every word.
        speech: The task.
        background: What silence is cut from.
        seed: Draws the training clips of unknown words, and the places of training silence.

    Raises:
        DataError: A class has no clips in a part, a word has no folder, or there is no background noise to cut from.
    """
    files = clips_by_word(folder)
    recorded_silence = _clips_in(folder / _SILENCE_FOLDER)
    words = _words(folder, speech, files)
    listed = lists(folder)
    recorded_clips = [(word, path) for word, paths in {**files, _SILENCE_FOLDER: recorded_silence}.items() for path in paths]
    part_by_path = {path: part_of(word, path, listed, speech.validation_speakers) for word, path in recorded_clips}
    missing = set(listed) - {key(word, path) for word, path in recorded_clips}
    notes = [f"{len(missing):,} of {len(listed):,} clips that the lists name are not there"] if missing else []
    if speech.validation_speakers < 1:
        notes.append(f"{1 - speech.validation_speakers:.0%} of the validation part's speakers are of the training part")
    with_rest = speech.task != "all-words"
    classes = (
        words + ((UNKNOWN,) if with_rest and speech.unknown else ()) + ((SILENCE,) if with_rest and speech.silence else ())
    )
    parts = {}
    for part in PARTS:
        random = np.random.default_rng([PARTS.index(part), seed if part == "train" else FIXED_SEED])
        here = {word: [path for path in paths if part_by_path[path] == part] for word, paths in files.items()}
        clips = [Clip(path, f"{word}/{path.name}", label) for label, word in enumerate(words) for path in here[word]]
        average = len(clips) / len(words)
        if UNKNOWN in classes:
            others = {word: paths for word, paths in here.items() if word not in words}
            clips += _unknown(others, round(speech.unknown * average), classes.index(UNKNOWN), random)
        if SILENCE in classes:
            recorded = [path for path in recorded_silence if part_by_path[path] == part]
            if recorded:
                notes.append(f"silence of the {part} part: the {len(recorded):,} clips in {_SILENCE_FOLDER}")
            cuts = [] if recorded else background.cuts(part, max(1, round(speech.silence * average)), random)
            clips += _silence(recorded, cuts, classes.index(SILENCE))
        if part == "train":
            clips = with_made_clips(clips, classes, speech, average, seed)
        every_class(folder, part, classes, clips, speech.validation_speakers)
        parts[part] = tuple(clips)
    partition = "lists" if listed else "SHA-1 rule"
    return Corpus(classes, parts, partition, sum(map(len, files.values())), tuple(notes))


def with_made_clips(clips: list[Clip], classes: tuple[str, ...], speech: Speech, average: float, seed: int) -> list[Clip]:
    """Training clips, and what is made of them: words played backwards or joined, silence of any loudness.

    What is added counts as unknown words. It is made of all that is spoken, the unknown words too.

    Args:
        clips: Of words, unknown words and silence, in the order of their classes.
        classes: Their names.
        speech: The task.
        average: How many clips a word has.
        seed: Draws which clips, and the loudness.
    """
    random = np.random.default_rng([*_MADE, seed])
    silence = classes.index(SILENCE) if SILENCE in classes else -1
    spoken = [clip for clip in clips if clip.label != silence]
    count = round(speech.backwards * average)
    chosen = [spoken[index] for index in sorted(random.permutation(len(spoken))[:count].tolist())]
    unknown = [replace(clip, name=f"backwards/{clip.name}", label=classes.index(UNKNOWN), backwards=True) for clip in chosen]
    unknown += _joined(spoken, round(speech.joined * average), classes, random)
    if speech.quiet_silence:
        loudness = random.uniform(0, 1, len(clips)).tolist()
        clips = [
            replace(clip, loudness=one) if clip.label == silence else clip for clip, one in zip(clips, loudness, strict=True)
        ]
    return clips + unknown


def _joined(spoken: list[Clip], count: int, classes: tuple[str, ...], random: np.random.Generator) -> list[Clip]:
    """The first half of one clip and the second of another. Not of the same class: two halves of "two" make a "two"."""
    made: list[Clip] = []
    while len(made) < count:
        first, second = (spoken[index] for index in random.integers(0, len(spoken), 2).tolist())
        if first.label != second.label:
            name = f"joined/{first.name}+{second.name}"
            made.append(replace(first, name=name, label=classes.index(UNKNOWN), then=second))
    return made


def clips_by_word(folder: Path) -> dict[str, list[Path]]:
    """The clips of every word that has some, by the word's name."""
    words = [path for path in sorted(folder.iterdir()) if not path.name.startswith((".", "_"))]
    return {word.name: clips for word in words if (clips := _clips_in(word))}


def _clips_in(folder: Path) -> list[Path]:
    inside = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in inside if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))


def _words(folder: Path, speech: Speech, files: dict[str, list[Path]]) -> tuple[str, ...]:
    wanted = {"12-class": BENCHMARK, "own-words": speech.words, "all-words": tuple(files)}[speech.task]
    absent = [word for word in wanted if word not in files]
    if absent or len(wanted) < 2:
        present = ", ".join(files) or "none"
        raise DataError(
            f"{folder}: Expected a folder of clips ({', '.join(SUFFIXES)}) for each of two or more words"
            f"{': ' + ', '.join(wanted) if wanted else ''}. Received: {present}",
            hint='Name the words that you have: [data.speech] task = "own-words", words = [...].' if absent else None,
        )
    return wanted


def _unknown(others: dict[str, list[Path]], count: int, label: int, random: np.random.Generator) -> list[Clip]:
    """So many clips of other words, or all there are, drawn without regard to the word."""
    clips = [Clip(path, f"{word}/{path.name}", label) for word, paths in others.items() for path in paths]
    return [clips[index] for index in sorted(random.permutation(len(clips))[:count].tolist())]


def _silence(recorded: list[Path], cuts: list[tuple[Path, int]], label: int) -> list[Clip]:
    clips = [Clip(path, f"{_SILENCE_FOLDER}/{path.name}", label) for path in recorded]
    return clips + [Clip(path, f"{BACKGROUND}/{path.name}@{start}", label, start) for path, start in cuts]


def every_class(folder: Path, part: str, classes: tuple[str, ...], clips: Sequence[Clip], staying: float = 1.0) -> None:
    """Checks that a part has clips of every class.

    Args:
        folder: Of the clips.
        part: Which.
        classes: Their names.
        clips: Those of the part.
        staying: Share of the validation speakers who stay in that part, as the recipe has it.

    Raises:
        DataError: It has not; the message names the first that are missing.
    """
    absent = [name for label, name in enumerate(classes) if not any(clip.label == label for clip in clips)]
    if absent and part == "validation" and staying < 1:
        raise DataError(
            f"{folder}: Expected validation clips of every class. Received: none of {', '.join(absent[:10])}, with "
            f"data.speech.validation_speakers = {staying:g}",
            hint="It leaves too few speakers there: raise it, up to 1, or leave it out.",
        )
    if absent:
        raise DataError(
            f"{folder}: Expected {part} clips of every class. Received: none of {', '.join(absent[:10])}",
            hint="Add clips of more speakers, leave the class out, or list clips in testing_list.txt and validation_list.txt.",
        )
