"""Sizes as people write them: 500, 64K, 256 KiB, 1.5G."""

import re

from pydantic import ByteSize, TypeAdapter, ValidationError

ACCEPTED = "Plain numbers are bytes; K is 1,024 bytes, M is 1,024 K, G is 1,024 M."

_BYTES = TypeAdapter(ByteSize)


def parsed(text: str) -> int:
    """Bytes.

    Powers of 1,024 also where KB stands: memory is sold in them, and datasheets of microcontrollers mean them.

    Raises:
        ValueError: It is no size; see `ACCEPTED`.
    """
    binary = re.sub(r"(?<=[KMGT])(i?B)?$", "iB", text.strip(), flags=re.IGNORECASE)
    try:
        return int(_BYTES.validate_python(binary))
    except ValidationError as error:
        raise ValueError(f"Expected a size such as 64K. Received: {text!r}. {ACCEPTED}") from error
