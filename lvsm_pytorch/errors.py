"""Errors that name the argument, the rule, the actual value, and what to do."""

from __future__ import annotations

from typing import NoReturn


class ShapeError(ValueError):
    """A tensor of a wrong shape."""


def fail(argument: str, rule: str, got: object, to_do: str, error: type[ValueError] = ValueError) -> NoReturn:
    """Raises `error` in the form of all messages of this library."""
    raise error(f'{argument}: {rule}, but got {got}. {to_do}')
