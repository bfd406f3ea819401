"""Graceful shutdown on Ctrl-C and on a scheduler's SIGTERM: the run finishes its step, saves a checkpoint and stops."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = signal.SIGINT, signal.SIGTERM


class Stopped(KeyboardInterrupt):
    """Raised after a run was stopped by a signal and has saved a checkpoint.

    Args:
        signal: Number of the signal.
    """

    def __init__(self, message: str, signal: int):
        super().__init__(message)
        self.signal = signal


class GracefulShutdown:
    """Context manager that records SIGINT and SIGTERM in `received` instead of stopping; 0 without a signal.

    Does nothing outside of the main thread, which alone receives signals.

    Args:
        once: Whether a second signal stops immediately. Off for several processes, since launchers send each signal twice.
        is_on: Off leaves the program's own handlers in place.
    """

    def __init__(self, *, once: bool, is_on: bool = True):
        self.is_on = is_on
        self.received = 0
        self.once = once
        self.before: dict[int, Any] = {}

    def __enter__(self) -> GracefulShutdown:
        if self.is_on and threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self.note) for number in SIGNALS}

        return self

    def note(self, received: int, _: FrameType | None) -> None:
        if self.once and self.received:
            raise KeyboardInterrupt

        self.received = received

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
