"""The last results of a function."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

Result = TypeVar('Result')


class Recent(Generic[Result]):
    """A function that keeps its last results by its arguments, as `functools.lru_cache` does; pickled, and so handed to another process, it has none.

    Args:
        function: Of positional arguments. It can be pickled where this is to be.
        most: Results that are kept.
    """

    def __init__(self, function: Callable[..., Result], most: int):
        self.function = function
        self.most = most
        self.results: OrderedDict[Hashable, Result] = OrderedDict()

    def __call__(self, *arguments: Hashable) -> Result:
        if arguments not in self.results:
            self.results[arguments] = self.function(*arguments)

        self.results.move_to_end(arguments)

        while len(self.results) > self.most:
            self.results.popitem(last = False)

        return self.results[arguments]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | dict(results = OrderedDict())
