"""Ctrl-C, and the signal of a scheduler before it takes a machine away: the run stops once the step is done and saved."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = signal.SIGINT, signal.SIGTERM


class Stopped(KeyboardInterrupt):
    """A run was stopped by a signal, and has saved a checkpoint.

    Args:
        signal: Its number.
    """

    def __init__(self, message: str, signal: int):
        super().__init__(message)
        self.signal = signal


class GracefulShutdown:
    """As a context: records signals instead of stopping. received: the last of them, or 0.

    Args:
        is_on: Whether it does. Else the program's handlers stay as they are.
        once: The second Ctrl-C stops immediately. Not where several processes train together: launchers send each signal twice. Signals reach a program's main thread; called from
            another one, nothing is changed.
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
