"""A picklable cache of the last results of a function."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

Result = TypeVar('Result')


class Recent(Generic[Result]):
    """Caches the last results of a function, as `functools.lru_cache` does, but can be pickled for other processes, without the results.

    Args:
        function: Function of positional arguments. It must be picklable if this is pickled.
        max_size: Maximum number of results.
    """

    def __init__(self, function: Callable[..., Result], max_size: int):
        self.function = function
        self.max_size = max_size
        self.results: OrderedDict[Hashable, Result] = OrderedDict()

    def __call__(self, *arguments: Hashable) -> Result:
        if arguments not in self.results:
            self.results[arguments] = self.function(*arguments)

        self.results.move_to_end(arguments)

        while len(self.results) > self.max_size:
            self.results.popitem(last = False)

        return self.results[arguments]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | dict(results = OrderedDict())
