"""The front end for the microcontroller: a C header with exactly its settings and tables, and test vectors.

C99, and C++ too. Beside them goes `frontend.json`, by which tinyrobust's own commands know what a model wants to hear.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyrobust.data.speech import micro
from tinyrobust.data.speech.frontend_record import FRONTEND, FrontendRecord, Vectors
from tinyrobust.data.speech.mfcc import AMIN, constants
from tinyrobust.deploy import c_literals as c
from tinyrobust.files import write_atomic
from tinyrobust.recipe.frontend import Mfcc, Micro

HEADER, VECTORS = "model_frontend.h", "model_frontend_vectors.h"
FILES = (FRONTEND, HEADER, VECTORS)

_MFCC = """\
/* The features of one clip, all in float:
 *   sound = sample / 32768
 *   for each frame f: spectrum of window[i] * sound[f * HOP + i], i < FFT_SIZE; power = re^2 + im^2, the lowest BINS bins
 *   for each band m: sum over k < filter_length[m] of filter_weights[.. + k] * power[filter_start[m] + k]; the weights of
 *     all bands follow each other
 *   loudness = 10 log10(max(AMIN, band)), then raised to at least (the largest of the whole clip) - TOP_DB
 *   coefficient c = sum over m of transform[c][m] * loudness[m]
 * and into the network's input, row after row: floor((coefficient - low[c]) * steps[c] + 0.5), clamped to 0..255, minus 128.
 * This is librosa.feature.mfcc with center=False. */"""
_MICRO = """\
/* TensorFlow Lite Micro's front end (tensorflow/lite/experimental/microfrontend): fill a FrontendConfig with these after
 * FrontendFillConfigWithDefaults. It must be switched on anew for each clip of a second (FrontendReset), as for the test
 * vectors, or run on with a network that was trained so. Of the rows that it gives, every STRIDE-th from the first is kept.
 * Into the network's input, row after row: (value * 256 + 333) / 666, clamped to 0..255, minus 128: as micro_speech does. */"""


def write_frontend(
    record: FrontendRecord, vectors: Vectors, answers: Sequence[int], name: str, folder: Path
) -> tuple[Path, ...]:
    """Writes `model_frontend.h`, `model_frontend_vectors.h` and `frontend.json`.

    Args:
        record: The front end.
        vectors: Clips, and the features that come out for them.
        answers: The class that the int8 file names for each clip.
        name: What the C constants are called after.
        folder: Where the files go.

    Raises:
        RunFolderError: The folder cannot be written.
    """
    write_header(record, name, folder)
    write_vectors(record, vectors, answers, name, folder)
    record.save(folder / FRONTEND)
    return tuple(folder / file for file in FILES)


def write_header(record: FrontendRecord, name: str, folder: Path) -> Path:
    """Writes `model_frontend.h`; arguments and errors as of `write_frontend`."""
    write_atomic(folder / HEADER, _header(record, c.identifier(name)))
    return folder / HEADER


def write_vectors(record: FrontendRecord, vectors: Vectors, answers: Sequence[int], name: str, folder: Path) -> Path:
    """Writes `model_frontend_vectors.h`; arguments and errors as of `write_frontend`."""
    write_atomic(folder / VECTORS, _vectors(record, vectors, answers, c.identifier(name)))
    return folder / VECTORS


def _header(record: FrontendRecord, prefix: str) -> str:
    settings = record.settings
    frames, coefficients = record.shape
    common: dict[str, int | float] = {
        "SAMPLE_RATE": record.sample_rate,
        "CLIP_SAMPLES": record.clip_samples,
        "FRAMES": frames,
        "COEFFICIENTS": coefficients,
    }
    if isinstance(settings, Micro):
        how, tables = _MICRO, ""
        own: dict[str, int | float] = {"STRIDE": settings.stride} | {
            key.upper(): value for key, value in micro.SETTINGS.items()
        }
    else:
        how, own, tables = _MFCC, _mfcc_numbers(settings), _mfcc_tables(settings, record, prefix)
    lines = [f"#define {prefix.upper()}_FRONTEND_{key} {c.number(value)}" for key, value in (common | own).items()]
    body = "\n".join(lines)
    return _guarded(f"{prefix.upper()}_FRONTEND_H_", f"{how}\n\n{body}\n{tables}")


def _mfcc_numbers(settings: Mfcc) -> dict[str, int | float]:
    fixed = constants(settings)
    return {
        "FFT_SIZE": fixed.fft_size,
        "WINDOW": settings.window_ms * 16,
        "HOP": fixed.hop,
        "BINS": fixed.filters.shape[1],
        "BANDS": settings.mels,
        "LOW_HZ": settings.low_hz,
        "HIGH_HZ": settings.high_hz,
        "AMIN": AMIN,
        "TOP_DB": settings.top_db,
    }


def _mfcc_tables(settings: Mfcc, record: FrontendRecord, prefix: str) -> str:
    fixed = constants(settings)
    reached = [np.flatnonzero(row) for row in fixed.filters]
    # A band between two bins reaches none: it starts anywhere and has no length.
    spans = [(int(bins[0]), int(bins[-1]) + 1) if len(bins) else (0, 0) for bins in reached]
    weights = np.concatenate([row[start:end] for row, (start, end) in zip(fixed.filters, spans, strict=True)])
    low, high = np.array(record.low), np.array(record.high)
    tables: tuple[tuple[str, str, NDArray[Any]], ...] = (
        ("float", "window", fixed.window),
        ("uint16_t", "filter_start", np.array([start for start, _ in spans])),
        ("uint16_t", "filter_length", np.array([end - start for start, end in spans])),
        ("float", "filter_weights", weights),
        ("float", "transform", fixed.transform),
        ("float", "low", low),
        ("float", "steps", 255 / (high - low)),
    )
    return "".join(_array(kind, f"{prefix}_frontend_{name}", values) for kind, name, values in tables)


def _vectors(record: FrontendRecord, vectors: Vectors, answers: Sequence[int], prefix: str) -> str:
    count = len(vectors.labels)
    names = "\n".join(f" *   {index}: {c.comment(name)}" for index, name in enumerate(record.classes))
    about = (
        f"/* {count} clips of the validation speakers. Sound in, features as the network's int8 input, the class that was\n"
        " * spoken, and the class that the int8 model answers with:\n"
        f"{names} */\n\n"
        f"#define {prefix.upper()}_VECTORS {count}\n"
    )
    tables = (
        ("int16_t", "audio", vectors.audio),
        ("int8_t", "features", vectors.features.reshape(count, -1).astype(np.int64) - 128),
        ("uint8_t", "spoken", vectors.labels),
        ("uint8_t", "answer", np.asarray(answers)),
    )
    arrays = "".join(_array(kind, f"{prefix}_vector_{name}", values) for kind, name, values in tables)
    return _guarded(f"{prefix.upper()}_FRONTEND_VECTORS_H_", about + arrays)


def _guarded(guard: str, body: str) -> str:
    banner = "/* Generated by tinyrobust. Do not edit. */"
    return f"{banner}\n#ifndef {guard}\n#define {guard}\n\n#include <stdint.h>\n\n{body}\n#endif /* {guard} */\n"


def _array(kind: str, name: str, values: NDArray[Any]) -> str:
    sizes = "".join(f"[{size}]" for size in values.shape)
    rows = values.reshape(-1, values.shape[-1])
    lists = ["\n".join(c.listed((_element(kind, value) for value in row.tolist()), 124)) for row in rows]
    body = ",\n".join(lists) if values.ndim == 1 else ",\n".join(f"{{{row}}}" for row in lists)
    return f"\nstatic const {kind} {name}{sizes} = {{\n{body}\n}};\n"


def _element(kind: str, value: float) -> str:
    return c.number(float(value)) if kind == "float" else str(value)
