"""A cache whose values are computed in a background thread."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar('Key', bound = Hashable)
Value = TypeVar('Value')


class BackgroundCache(Generic[Key, Value]):
    """A bounded cache of a function's values. They are computed one at a time in a thread, which ends when no request is left.

    Args:
        compute: The function.
        max_values: Number of values that are kept; the least recently used go first.
    """

    def __init__(self, compute: Callable[[Key], Value], max_values: int):
        self.compute = compute
        self.max_values = max_values
        self.values: OrderedDict[Key, Value] = OrderedDict()
        self.errors: OrderedDict[Key, Exception] = OrderedDict()
        self.requests: dict[Hashable, tuple[Key, Callable[[], object]]] = {}
        self.lock = threading.Lock()
        self.thread: threading.Thread | None = None
        self.is_stopped = False

    def get(self, key: Key) -> Value | None:
        """The value, or None where it is not computed yet.

        Raises:
            Exception: What `compute` raised the last time; once, so that the next request tries again.
        """
        with self.lock:
            if key in self.errors:
                raise self.errors.pop(key)

            if key in self.values:
                self.values.move_to_end(key)

            return self.values.get(key)

    def request(self, client: Hashable, key: Key, then: Callable[[], object]) -> None:
        """Computes a value in the background unless it is cached, then calls `then` in that thread, after an error too. A client's new request replaces its pending one."""
        with self.lock:
            if self.is_stopped:
                return

            self.requests[client] = key, then

            if self.thread is None:
                self.thread = threading.Thread(target = self.work, name = 'background', daemon = True)
                self.thread.start()

    def work(self) -> None:
        while True:
            with self.lock:
                if not self.requests or self.is_stopped:
                    self.thread = None
                    return

                key, then = self.requests.pop(next(iter(self.requests)))
                is_there = key in self.values

            if not is_there:
                self.compute_and_keep(key)

            then()

    def compute_and_keep(self, key: Key) -> None:
        found, kept = None, self.values

        try:
            found = self.compute(key)
        except Exception as error:
            found, kept = error, self.errors

        with self.lock:
            kept[key] = found  # pyright: ignore[reportArgumentType]

            while len(kept) > self.max_values:
                kept.popitem(last = False)

    def stop(self, seconds: float) -> None:
        """Drops pending requests, and waits up to `seconds` for the running one."""
        with self.lock:
            self.is_stopped = True
            thread = self.thread

        if thread is not None and thread is not threading.current_thread():
            thread.join(seconds)
