"""Sound from a microphone, as it comes in. Needs the extra `microphone`: sounddevice, and PortAudio below it."""

from collections.abc import Callable, Iterator
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from tinyrobust.errors import MissingToolError
from tinyrobust.recipe.frontend import SAMPLE_RATE

_INSTALL = "pip install 'tinyrobust[microphone]'; on Debian also: apt install libportaudio2"


def microphone(
    milliseconds: int, device: str | None = None, lost: Callable[[], None] | None = None
) -> Iterator[NDArray[np.int16]]:
    """Chunks of so many milliseconds, int16 at 16 kHz, until the caller stops.

    Args:
        milliseconds: The length of a chunk.
        device: Its number, or a part of its name; the system's default when absent.
        lost: Called when sound was lost because the computer was too slow to take it.

    Raises:
        MissingToolError: sounddevice or PortAudio is not installed, or there is no such device.
    """
    sounddevice = _sounddevice()
    count = milliseconds * SAMPLE_RATE // 1000
    chosen: int | str | None = int(device) if device and device.isdecimal() else device
    try:
        stream = sounddevice.InputStream(SAMPLE_RATE, count, chosen, channels=1, dtype="int16")
    except (sounddevice.PortAudioError, ValueError) as error:
        raise MissingToolError(
            f"Expected a microphone that records at {SAMPLE_RATE:,} Hz. Received: {error}",
            hint="`python -m sounddevice` lists the devices; choose one with --device.",
        ) from error
    with stream:
        while True:
            samples, overflowed = stream.read(count)
            if overflowed and lost:
                lost()
            yield samples[:, 0]


def _sounddevice() -> ModuleType:
    try:
        import sounddevice
    except ImportError as error:
        raise MissingToolError(
            "Expected sounddevice, to listen to a microphone. Received: not installed", hint=_INSTALL
        ) from error
    except OSError as error:
        raise MissingToolError(f"Expected PortAudio, to listen to a microphone. Received: {error}", hint=_INSTALL) from error
    module: ModuleType = sounddevice
    return module
