"""Names, numbers, texts and arrays as C writes them: C99, and C++ too."""

import re
import textwrap
from collections.abc import Iterable

_HEX_A_LINE = 12


def identifier(name: str, fallback: str = "network") -> str:
    """`name` as a part of a C identifier: ASCII letters, digits and single underscores; `fallback` where none is left."""
    return re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_") or fallback


def integer(value: int) -> str:
    """An int32; the smallest has no literal of its own."""
    return "INT32_MIN" if value == -(2**31) else str(value)


def float32(value: float) -> str:
    """A float with enough digits to give the same float32 again, always with an exponent."""
    return f"{value:.9e}f"


def number(value: int | float) -> str:
    """An int, or a float as short as it can be with enough digits to give the same float32 again."""
    if isinstance(value, int):
        return str(value)
    text = f"{value:.9g}"
    return f"{text}f" if any(sign in text for sign in ".e") else f"{text}.0f"


def string(text: str) -> str:
    """A string literal: everything but plain ASCII as octal escapes, which unlike hexadecimal ones have a fixed length."""
    plain = (chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\?' else f"\\{byte:03o}" for byte in text.encode())
    return f'"{"".join(plain)}"'


def comment(text: str) -> str:
    """Text for a comment, which it cannot end."""
    return "".join(letter if letter.isprintable() else "?" for letter in text).replace("*/", "* /")


def ascii_comment(text: str, most: int = 90) -> str:
    """The first `most` letters of a text for a comment, in plain ASCII: it can neither begin nor end one."""
    return re.sub(r"[^ -~]|\*/|/\*|\?\?", "_", text)[:most]


def listed(items: Iterable[str], width: int, indent: str = "", end: str = "") -> list[str]:
    """Items with commas between them, in lines of at most `width` letters.

    Args:
        items: Literals without blanks. None is broken: the minus of an exponent is no hyphen.
        width: Of a line, with its indent.
        indent: Of each line.
        end: What follows the last item.
    """
    text = ", ".join(items) + end
    lines = textwrap.wrap(
        text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
    )
    return lines or [indent]


def hexadecimal(content: bytes) -> str:
    """Bytes, twelve a line."""
    rows = (content[start : start + _HEX_A_LINE] for start in range(0, len(content), _HEX_A_LINE))
    return "\n".join("  " + " ".join(f"0x{byte:02x}," for byte in row) for row in rows)
