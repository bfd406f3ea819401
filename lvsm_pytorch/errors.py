"""Errors name the argument, the rule, what came, and what to do."""

from __future__ import annotations

from typing import NoReturn


class ShapeError(ValueError):
    """A tensor whose shape breaks the rule that its message names."""


def fail(argument: str, rule: str, got: object, to_do: str, error: type[ValueError] = ValueError) -> NoReturn:
    """Raise `error` in the one form that all messages of this library have."""
    raise error(f'{argument}: {rule}, but got {got}. {to_do}')
