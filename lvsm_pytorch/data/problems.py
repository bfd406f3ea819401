"""Invalid views and scenes of a dataset."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TypeVar

Thing = TypeVar('Thing')


class BadView(ValueError):
    """An invalid view or scene in a valid dataset. It is skipped."""


class Noted(BadView):
    """An invalid view or scene whose reason is already recorded, so that an unreadable file is recorded once instead of once for each of its scenes."""


class Problems:
    """Record of skipped views and scenes, with reasons. Each is warned about once; a summary lists all."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}

    def skip(self, what: str, why: object) -> None:
        if what not in self.found:
            self.found[what] = str(why)
            warnings.warn(f'skipped {what}: {why}', stacklevel = 3)

    def attempt(self, what: str, read: Callable[[], Thing]) -> Thing | None:
        """Returns `read()`, or None after recording its BadView."""
        try:
            return read()
        except Noted:
            return None
        except BadView as error:
            self.skip(what, str(error).removeprefix(f'{what}: '))
            return None

    def summary(self, most: int | None = None) -> str:
        """Returns a text with one line for each skipped item, up to `most`; empty without any."""
        if not self.found:
            return ''

        lines = [f'  {what}: {why}' for what, why in self.found.items()]
        more = [] if most is None or len(lines) <= most else [f'  and {len(lines) - most} more']
        return '\n'.join([f'{len(lines)} skipped:', *lines[:most], *more])
