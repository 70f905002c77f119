"""Replaces the generated part of a hand-written file, which stands between two markers."""

import re


def insert(text: str, generated: str, begin: str, end: str) -> str:
    """Return `text` with the part between the two markers replaced.

    Raises:
        ValueError: the markers are missing, or occur more than once.
    """
    pattern = f"(?<={re.escape(begin)}\n).*?(?={re.escape(end)})"
    replaced, count = re.subn(pattern, lambda _: f"\n{generated}\n\n", text, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"found {count} places between {begin} and {end}, not one")
    return replaced
