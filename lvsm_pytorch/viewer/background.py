"""Values that nobody waits for: they are computed in a thread, and whoever asks goes on with what there is."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar('Key', bound = Hashable)
Value = TypeVar('Value')


class BackgroundCache(Generic[Key, Value]):
    """The last values of a function, computed one at a time in a thread, which ends when there is nothing left to do.

    Args:
        compute: The function.
        most: Values that are kept.
    """

    def __init__(self, compute: Callable[[Key], Value], most: int):
        self.compute = compute
        self.most = most
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
        """Has a value computed, unless it is there, and then calls `then`, in the thread; after an error too. Of a client's requests that are not begun, only the last counts."""
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

            while len(kept) > self.most:
                kept.popitem(last = False)

    def stop(self, seconds: float) -> None:
        """Begins nothing more, and waits for what is begun, so many seconds at most."""
        with self.lock:
            self.is_stopped = True
            thread = self.thread

        if thread is not None and thread is not threading.current_thread():
            thread.join(seconds)
