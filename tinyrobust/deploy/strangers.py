"""What a file is that was taken for a `.tflite` and is none: named by its first bytes, with what to do about it."""

import re
import struct
from dataclasses import dataclass

_TEXT = frozenset(range(32, 127)) | frozenset(b"\t\n\r\f")
_START = 512  # bytes that are looked at to name a text


@dataclass(frozen=True, slots=True)
class Stranger:
    """A file that is no `.tflite`.

    Attributes:
        what: What it is, in words.
        hint: What to do.
    """

    what: str
    hint: str


_FIRMWARE = "The .tflite is what the firmware was built from: it stands in the project as a file or as an array in C."
_SOURCE = "Convert it to a .tflite first, with full integer quantization: tf.lite.TFLiteConverter."
_ARCHIVE = "Unpack it, and give the .tflite inside."
_MAGIC = (
    (b"\x7fELF", "a program (ELF)", _FIRMWARE),
    (b"UF2\n", "a firmware image (UF2)", _FIRMWARE),
    (b"DfuSe", "a firmware image (DfuSe)", _FIRMWARE),
    (b"\xe9", "a firmware image (of Espressif's chips)", _FIRMWARE),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras wrote them", _SOURCE),
    (b"PK\x03\x04", "a zip archive (a .keras file is one, too)", f"{_ARCHIVE} A .keras file has to be converted first."),
    (b"\x1f\x8b", "a gzip archive", _ARCHIVE),
    (b"BZh", "a bzip2 archive", _ARCHIVE),
    (b"\xfd7zXZ\0", "an xz archive", _ARCHIVE),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _ARCHIVE),
    (b"\x80", "a Python pickle, as PyTorch writes them", _SOURCE),
    (b"\x93NUMPY", "a NumPy array", "Give the model; data go to --data."),
    (b"\x89PNG", "a picture (PNG)", "Give the model; data go to --data."),
    (b"\xff\xd8\xff", "a picture (JPEG)", "Give the model; data go to --data."),
    (b"%PDF", "a PDF document", "Give the model that it speaks of."),
)
_WORDS = (
    (r"version https://git-lfs", "a Git LFS pointer, which stands where git has not fetched the file", "git lfs pull"),
    (
        r"\s*(<!doctype html|<html|<head|<\?xml|<!--)",
        "a web page (HTML)",
        "Download the file itself: on GitHub the link 'raw', on Hugging Face 'resolve' instead of 'blob'.",
    ),
    (r":[0-9a-f]{10,}\s", "a firmware image (Intel HEX)", _FIRMWARE),
    (r"s[0-3][0-9a-f]{8,}\s", "a firmware image (Motorola S-record)", _FIRMWARE),
    (
        r"(?s).*(0x1c,\s*0x00,\s*0x00,\s*0x00|unsigned char|uint8_t|#include)",
        "C source, perhaps with a model as an array",
        "Write the array's bytes into a file first: those are the .tflite.",
    ),
    (r"\s*[{\[]", "JSON", "It may describe a model: the .tflite that it names is what is needed."),
)


def named(content: bytes) -> Stranger | None:
    """What a file is that does not start as a `.tflite` does; None where that cannot be told."""
    if not content:
        return Stranger("an empty file", "The download or copy has failed: get the file again.")
    found = _text(content) or _binary(content)
    inside = content.find(b"TFL3", 8)
    if found is not None and found.hint == _FIRMWARE and inside > 0:
        return Stranger(found.what, f"{_FIRMWARE} One seems to begin at byte {inside - 4} of the image.")
    return found


def _text(content: bytes) -> Stranger | None:
    start = content[:_START].removeprefix(b"\xef\xbb\xbf")
    if not start or not _TEXT.issuperset(start):
        return None
    text = start.decode("ascii")
    for pattern, what, hint in _WORDS:
        if re.match(pattern, text, re.IGNORECASE):
            return Stranger(what, f"{hint}." if not hint.endswith(".") else hint)
    return Stranger(f"text ({text[:24].strip()!r})", "Give the model itself.") if len(start) > 1 else None


def _binary(content: bytes) -> Stranger | None:
    for magic, what, hint in _MAGIC:
        if content.startswith(magic) and len(content) > len(magic) + 8:
            return Stranger(what, hint)
    if content[257:262] == b"ustar":
        return Stranger("a tar archive", _ARCHIVE)
    if content[4:8] in (b"ET12", b"ORTM"):
        return Stranger("a model of another runtime (ExecuTorch or ONNX Runtime)", _SOURCE)
    if content[:1] == b"\x08" and re.search(rb"(?i)onnx|pytorch|tf2onnx|keras2onnx", content[:256]):
        return Stranger("an ONNX model", _SOURCE)
    if b"saved_model" in content[:64] or b"\x0a\x04node" in content[:64]:
        return Stranger("a TensorFlow graph (.pb)", _SOURCE)
    if len(content) >= 16 and _vectors(content):
        return Stranger("a firmware image (it starts with the vector table of a Cortex-M)", _FIRMWARE)
    return _unsigned(content)


def _vectors(content: bytes) -> bool:
    """Whether it starts as a Cortex-M's program does: the stack's top in RAM, and handlers' odd addresses close together."""
    stack, *handlers = struct.unpack_from("<4I", content)
    near = max(handlers) - min(handlers) < 2**22
    return 0x1000_0000 <= stack < 0x4000_0000 and not stack % 4 and all(one % 2 for one in handlers) and near


def _unsigned(content: bytes) -> Stranger | None:
    """A FlatBuffer as of a `.tflite`, without the four letters."""
    if len(content) < 32 or any(content[4:8]):
        return None
    root = struct.unpack_from("<I", content)[0]
    if not 8 <= root <= len(content) - 4:
        return None
    table = root - struct.unpack_from("<i", content, root)[0]
    if not 8 <= table <= len(content) - 4:
        return None
    return Stranger(
        "zeros there, in what may be a model's FlatBuffer: some tools leave the identifier out",
        "TensorFlow Lite refuses it so: export the model again with a tool that writes the identifier.",
    )
