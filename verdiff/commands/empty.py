"""Empty words on a command line, as a variable without a value leaves them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

# As a path an empty word would be the working folder, and all scans in it.
_OUTPUT = ("-o", "--output")


def has_empty_argument(words: Sequence[str], flags: Collection[str]) -> bool:
    """Whether a word is empty where a command takes an argument or its output; other options may have empty values.

    Args:
        words: What follows the command's name.
        flags: Its options that take no value.
    """
    before = ["", *words]
    return any(
        word in [f"{name}=" for name in _OUTPUT] or (not word and (last in _OUTPUT or not _wants_value(last, flags)))
        for last, word in zip(before, words, strict=False)
    )


def _wants_value(word: str, flags: Collection[str]) -> bool:
    """Whether the next word is this one's value; an option that nobody knows is refused later, and so wants one."""
    if not word.startswith("-") or word in ("-", "--", *flags):
        return False
    if word.startswith("--"):
        return "=" not in word
    # Short options in one word: flags, and at most one that takes the rest of the word, or the next one.
    rest = word[1:]
    while rest and f"-{rest[0]}" in flags:
        rest = rest[1:]
    return len(rest) == 1
