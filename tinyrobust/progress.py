"""How library code tells its caller how far it is: the command line draws it, a script may ignore it."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called as `progress(label, done, total)` by whatever may take longer than two seconds."""


def silent(label: str, done: int, total: int) -> None:
    """A `Progress` that shows nothing."""
    del label, done, total
