"""Training clips that synthesizers speak, espeak-ng and flite: words that the recordings lack, in other voices and accents."""

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile
from librosa.effects import trim
from numpy.typing import NDArray

from tinyrobust import assets
from tinyrobust.data.speech.cache import folder
from tinyrobust.data.speech.clips import WORKERS
from tinyrobust.data.speech.corpus import Clip
from tinyrobust.data.speech.sound import read_sound
from tinyrobust.errors import DataError, MissingToolError
from tinyrobust.files import atomic_path
from tinyrobust.progress import Progress
from tinyrobust.recipe.frontend import CLIP_SAMPLES, SAMPLE_RATE
from tinyrobust.recipe.speech import UNKNOWN, Synthetic

# Variants of espeak-ng's voices, those of people: other formants, breath and pitch.
_VARIANTS = (
    *("Alex", "Alicia", "Andrea", "Andy", "Annie", "Denis", "Diogo", "Gene", "Gene2", "Henrique", "Hugo", "Jacky", "Lee"),
    *("Marco", "Mario", "Michael", "Mike", "Nguyen", "adam", "anika", "antonio", "aunty", "belinda", "benjamin", "boris"),
    *("caleb", "david", "ed", "edward", "f1", "f2", "f3", "f4", "f5", "grandma", "grandpa", "john", "klatt", "klatt2"),
    *("klatt4", "linda", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "max", "michel", "miguel", "norbert", "paul"),
    *("pedro", "quincy", "rob", "sandro", "shelby", "steph", "steph2", "steph3", "travis", "victor", "zac"),
)
_WORDS_PER_MINUTE, _PITCH = (110, 190), (20, 80)
# flite's voices at 16 kHz, each made of one person's recordings, and their pitch in Hz.
_FLITE_VOICES = {"kal16": 105, "awb": 120, "rms": 100, "slt": 175}
_STRETCH, _PITCH_RATIO = (0.75, 1.5), (0.8, 1.35)
_LOUDNESS = (0.2, 1.0)
_SILENT_DB = 35  # what lies further below the loudest of a spoken word is not part of it
# Raise it when the same words come out otherwise: what the cache holds is then of no use.
_VERSION = 1
# A stream of random numbers of its own: whoever asks for such clips has the same others as before.
_STREAM = (4, 0)
# A program, and its arguments without the word and the file.
Voice = tuple[str, ...]


def synthetic_clips(
    settings: Synthetic, classes: Sequence[str], words: int, average: float, seed: int, progress: Progress | None = None
) -> list[Clip]:
    """Clips of the task's words and of others, spoken now or found in the cache.

    Other words that are pronounced like one of the task are left out.

    Args:
        settings: How many, of what, by whom.
        classes: The task's: its words first.
        words: How many of the classes are words.
        average: How many recorded training clips a word has.
        seed: Draws words, voices, speed, pitch and loudness.
        progress: Called as `progress(label, done, total)`.

    Raises:
        MissingToolError: A synthesizer is not installed.
        DataError: It does not know an accent, a word comes out as silence, or all other words sound like those of the task.
        RunFolderError: The clips cannot be written into the cache.
    """
    random = np.random.default_rng([*_STREAM, seed])
    spoken = [(word, label) for label, word in enumerate(classes[:words]) for _ in range(round(settings.keywords * average))]
    if count := round(settings.unknown * average):
        others = _unlike(settings.words or common_words(), classes[:words], settings)
        shuffled = [others[index] for index in random.permutation(len(others)).tolist()]
        spoken += [(shuffled[number % len(shuffled)], classes.index(UNKNOWN)) for number in range(count)]
    voices = [_voice(settings, random) for _ in spoken]
    loudness = random.uniform(*_LOUDNESS, len(spoken)).tolist()
    paths = _spoken([word for word, _ in spoken], voices, progress)
    return [
        Clip(path, f"synthetic/{number}/{word}", label, loudness=loud)
        for number, ((word, label), path, loud) in enumerate(zip(spoken, paths, loudness, strict=True))
    ]


def common_words() -> tuple[str, ...]:
    """Several hundred English words; none of Speech Commands is among them."""
    lines = (assets.folder("datasets") / "words" / "english.txt").read_text(encoding="utf-8").splitlines()
    return tuple(word for line in lines if not line.startswith("#") for word in line.split())


def _voice(settings: Synthetic, random: np.random.Generator) -> Voice:
    """One of the synthesizers, and a voice, speed and pitch for it."""
    if random.choice(settings.engines) == "espeak-ng":
        name = f"{random.choice(settings.accents)}+{random.choice(_VARIANTS)}"
        speed, pitch = random.integers(*_WORDS_PER_MINUTE), random.integers(*_PITCH)
        return ("espeak-ng", "-v", name, "-s", str(speed), "-p", str(pitch))
    name = str(random.choice(list(_FLITE_VOICES)))
    stretch, hertz = random.uniform(*_STRETCH), _FLITE_VOICES[name] * random.uniform(*_PITCH_RATIO)
    stretched = f"duration_stretch={stretch:.2f}"
    return ("flite", "-voice", name, "--setf", stretched, "--setf", f"int_f0_target_mean={hertz:.0f}")


def _unlike(others: Sequence[str], words: Sequence[str], settings: Synthetic) -> list[str]:
    """Those of `others` that are not pronounced like one of `words`: "won" is no unknown word beside "one"."""
    if "espeak-ng" in settings.engines:
        ask: Voice = ("espeak-ng", "-q", "-x", "-v", settings.accents[0], "--")
        after: Voice = ()
    else:
        ask, after = ("flite", "-ps", "-t"), ("none",)
    with ThreadPoolExecutor(WORKERS) as pool:
        sounds = list(pool.map(lambda word: re.sub(r"[\s',%=_:|]", "", _run(*ask, word, *after)), (*words, *others)))
    taken = set(sounds[: len(words)])
    left = [word for word, sound in zip(others, sounds[len(words) :], strict=True) if sound not in taken]
    if not left:
        raise DataError(
            "Expected other words in [data.speech.synthetic] words. "
            f"Received: {', '.join(others)}, each pronounced like one of the task",
            hint="Name others, or leave the key out: there are several hundred then.",
        )
    return left


def _spoken(words: Sequence[str], voices: Sequence[Voice], progress: Progress | None) -> list[Path]:
    """A file of one second for each."""
    versions = {program: version(program) for program in sorted({voice[0] for voice in voices})}
    paths = []
    with ThreadPoolExecutor(WORKERS) as pool:
        for path in pool.map(lambda word, voice: _file(word, voice, versions[voice[0]]), words, voices):
            paths.append(path)
            if progress:
                progress("speaking words", len(paths), len(words))
    return paths


def _file(word: str, voice: Voice, spoken_by: str) -> Path:
    key = json.dumps([_VERSION, spoken_by, voice, word])
    path = folder() / "spoken" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.wav"
    if not path.exists():
        with atomic_path(path) as temporary:
            file = str(temporary)
            _run(*voice, *(("-w", file, "--", word) if voice[0] == "espeak-ng" else ("-o", file, "-t", word)))
            soundfile.write(temporary, _in_the_middle(read_sound(temporary), word, voice), SAMPLE_RATE, subtype="PCM_16")
    return path


def _in_the_middle(sound: NDArray[np.int16], word: str, voice: Voice) -> NDArray[np.int16]:
    """A word without the silence around it, in the middle of a second."""
    if not sound.any():
        raise DataError(
            f"Expected a word that can be spoken. Received: {word!r}, silence from {' '.join(voice)}",
            hint="Leave it out of [data.speech.synthetic] words, or choose accents and engines that can.",
        )
    _, (start, end) = trim(sound.astype(np.float32), top_db=_SILENT_DB)
    spoken = sound[start:end][:CLIP_SAMPLES]
    before = (CLIP_SAMPLES - len(spoken)) // 2
    return np.pad(spoken, (before, CLIP_SAMPLES - len(spoken) - before))


def version(program: str) -> str:
    """A synthesizer and its version, as in "espeak-ng 1.51".

    Raises:
        MissingToolError: It is not installed.
    """
    # flite says it, and exits with 1.
    answer = subprocess.run([_installed(program), "--version"], capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    number = re.search(r"(?:text-to-speech: |flite-)(\S+)", answer.stdout)
    return f"{program} {number.group(1) if number else 'of unknown version'}"


def _run(program: str, *arguments: str) -> str:
    answer = subprocess.run([_installed(program), *arguments], capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    if answer.returncode:
        raise DataError(
            f"Expected {program} to speak ({' '.join(arguments)}). Received: {answer.stderr.strip() or answer.returncode}",
            hint="espeak-ng --voices lists what [data.speech.synthetic] accents may name.",
        )
    return answer.stdout


def _installed(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise MissingToolError(
            f"Expected the synthesizer {program}, which speaks clips of [data.speech.synthetic]. Received: it is not installed",
            hint=f'sudo apt install {program}; or train without these clips: without = ["data.speech.synthetic"]',
        )
    return path
