"""Our MFCC beside a plain librosa loop, in one run: `python benchmarks/frontend.py --data-dir DIR`.

Two goals: features of 1,000 clips at least 3 times as fast, and equal to 1e-4. The exit status is 1 when one is missed. The
clips are in memory, both run in one thread of this process and take turns; the fastest of the rounds counts.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import keras
import librosa
import numpy as np

from tinyrobust.data.cards import SpeechFolder, read_card
from tinyrobust.data.speech.folder import existing_folder
from tinyrobust.data.speech.frontend import front_end
from tinyrobust.data.speech.sound import one_second, read_sound
from tinyrobust.recipe.frontend import Mfcc, Micro

FASTER, CLOSE, LAYER_CLOSE = 3.0, 1e-4, 1e-3
SETTINGS = {"49x10": Mfcc(kind="mfcc"), "49x40": Mfcc(kind="mfcc", coefficients=40)}


def plain(audio: np.ndarray, settings: Mfcc) -> np.ndarray:
    """The loop that everybody writes."""
    return np.stack(
        [
            librosa.feature.mfcc(
                y=clip.astype(np.float32) / 32768,
                sr=16000,
                n_mfcc=settings.coefficients,
                n_mels=settings.mels,
                fmin=settings.low_hz,
                fmax=settings.high_hz,
                n_fft=512,
                win_length=480,
                hop_length=320,
                center=False,
            ).T
            for clip in audio
        ]
    )


def fastest(rounds: int, *functions: Callable[[], np.ndarray]) -> list[float]:
    """Seconds of each, in turns, so that what else the machine does meets all of them."""
    best = [float("inf")] * len(functions)
    for _ in range(rounds):
        for index, function in enumerate(functions):
            began = time.perf_counter()
            function()
            best[index] = min(best[index], time.perf_counter() - began)
    return best


def clips(data_dir: Path | None, count: int) -> np.ndarray:
    """So many clips of all words, evenly spread."""
    card = read_card("speech-commands")
    assert isinstance(card.loader, SpeechFolder)
    folder = existing_folder(card, card.loader, data_dir)
    paths = sorted(path for path in folder.glob("[a-z]*/*") if path.suffix in (".wav", ".flac"))
    chosen = np.unique(np.linspace(0, len(paths) - 1, min(count, len(paths))).astype(int))
    return np.stack([one_second(read_sound(paths[index], seconds=1)) for index in chosen])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data-dir", type=Path, help="the folder with speech_commands/ in it")
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    audio = clips(arguments.data_dir, arguments.clips)
    sound = audio.astype(np.float32) / 32768
    met = True
    print(f"{len(audio):,} clips of a second, librosa {librosa.__version__}; fastest of {arguments.rounds} rounds")
    for name, settings in SETTINGS.items():
        front = front_end(settings)
        expected = plain(audio, settings)
        theirs, ours = fastest(arguments.rounds, lambda s=settings: plain(audio, s), lambda f=front: f.features(audio))
        off = float(np.abs(front.features(audio) - expected).max())
        layer = front.layer()
        through = np.concatenate([keras.ops.convert_to_numpy(layer(part))[..., 0] for part in np.array_split(sound, 20)])
        layer_off = float(np.abs(through - expected).max())
        met &= theirs / ours >= FASTER and off <= CLOSE and layer_off <= LAYER_CLOSE
        print(
            f"mfcc {name}: librosa loop {theirs:.3f} s, ours {ours:.3f} s: {theirs / ours:.1f} times as fast (goal {FASTER:g})"
        )
        print(f"  largest difference {off:.1e} (goal {CLOSE:g}), of the keras.ops layer {layer_off:.1e} (goal {LAYER_CLOSE:g})")
    micro = front_end(Micro(kind="micro"))
    (seconds,) = fastest(1, lambda: micro.features(audio))
    print(f"micro 49x40: {seconds:.3f} s")
    print("All goals are met." if met else "A goal is missed.")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
