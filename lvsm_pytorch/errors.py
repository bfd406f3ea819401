"""Errors that name the argument, the rule, the actual value, and what to do."""

from __future__ import annotations

from typing import NoReturn


class ShapeError(ValueError):
    """A tensor of a wrong shape."""


def fail(argument: str, rule: str, got: object, to_do: str, error: type[ValueError] = ValueError) -> NoReturn:
    """Raises `error` in the form of all messages of this library."""
    raise error(f'{argument}: {rule}, but got {got}. {to_do}')


def check_at_least(least: float, **values: float | None) -> None:
    """Checks that options, by name, are at least `least`; None stands for a default.

    Raises:
        ValueError: If one is below.
    """
    for name, value in values.items():
        if value is not None and value < least:
            fail(name, f'must be at least {least}', value, 'Left out, it has a default that works.')


def check_above_zero(**values: float) -> None:
    """Checks that options, by name, are above 0.

    Raises:
        ValueError: If one is not.
    """
    for name, value in values.items():
        if not value > 0:
            fail(name, 'must be above 0', value, 'Left out, it has a default that works.')
