"""Small pictures inside of a page."""

import base64
import struct
import zlib

import numpy as np
import numpy.typing as npt


def png_uri(pixels: npt.NDArray[np.uint8], palette: npt.NDArray[np.uint8] | None = None) -> str:
    """An image as the data URI of an 8-bit PNG; the same text for the same pixels.

    Args:
        pixels: [h, w, 1] gray, [h, w, 3] color, or [h, w] numbers of colors in `palette`.
        palette: [colors, 3].
    """
    height, width = pixels.shape[:2]
    # PNG (ISO/IEC 15948): color type 0 is gray, 2 is RGB, 3 has a palette; every row starts with filter type 0.
    kind = 3 if palette is not None else {1: 0, 3: 2}[pixels.shape[2]]
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    png = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header)
    if palette is not None:
        png += _chunk(b"PLTE", palette.tobytes())
    png += _chunk(b"IDAT", zlib.compress(rows, 9)) + _chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
