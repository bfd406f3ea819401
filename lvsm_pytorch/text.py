"""Text of messages."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """A number and its noun, with an s unless the number is 1."""
    return f'{count} {noun}{"" if count == 1 else "s"}'
