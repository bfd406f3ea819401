"""What could not be used of a dataset."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TypeVar

Thing = TypeVar('Thing')


class BadView(ValueError):
    """A view or a scene that can't be used, of a dataset that can."""


class Problems:
    """What was skipped, and why. Each thing is named once, in a warning, and all are listed at the end."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}

    def skip(self, what: str, why: object) -> None:
        if what not in self.found:
            self.found[what] = str(why)
            warnings.warn(f'skipped {what}: {why}', stacklevel = 3)

    def attempt(self, what: str, read: Callable[[], Thing]) -> Thing | None:
        """What `read` gives, or None where that is bad: then it is skipped."""
        try:
            return read()
        except BadView as error:
            self.skip(what, str(error).removeprefix(f'{what}: '))
            return None

    def summary(self, most: int | None = None) -> str:
        """A line for each, or for the first so many of them; nothing where nothing was skipped."""
        if not self.found:
            return ''

        lines = [f'  {what}: {why}' for what, why in self.found.items()]
        more = [] if most is None or len(lines) <= most else [f'  and {len(lines) - most} more']
        return '\n'.join([f'{len(lines)} skipped:', *lines[:most], *more])
