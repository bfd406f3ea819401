"""Download of remote files in parts with retries, since connections stall, are reset, and end too early."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

Result = TypeVar('Result')

# errors that are not retried

FINAL = FileNotFoundError, PermissionError, IsADirectoryError, NotImplementedError, ImportError


class Patience(NamedTuple):
    """Settings of retries.

    Attributes:
        attempts: Maximum number of attempts of each part.
        pause: Pause in seconds before the second attempt. Each further pause is twice as long, plus up to half of it at random, so that workers do not retry at the same time.
        stall: Timeout of an attempt in seconds.
        part: Size of a part in bytes.
    """
    attempts: int = 5
    pause: float = 1.
    stall: float = 60.
    part: int = 16 * 2 ** 20


def patiently(work: Callable[[], Result], what: str, patience: Patience) -> Result:
    """Calls a function that reads from a server, with retries, and returns its result.

    Raises:
        OSError: If every attempt failed, with the last error; immediately if a file is missing or access is denied.
    """
    for attempt in range(patience.attempts):
        try:
            return within(work, patience.stall)
        except FINAL as error:  # noqa: PERF203
            raise OSError(f'{what}: must exist and be readable, but got {type(error).__name__}: {error}. Check the address and the permissions.') from error
        except Exception as error:  # each library raises its own connection errors: aiohttp's, botocore's, those of huggingface_hub
            if attempt + 1 == patience.attempts:
                raise OSError(f'{what}: must be readable, but {patience.attempts} attempts failed, the last with {type(error).__name__}: {error}. Is the server reachable?') from error

            time.sleep(patience.pause * 2 ** attempt * random.SystemRandom().uniform(1, 1.5))

    raise AssertionError


def within(work: Callable[[], Result], seconds: float) -> Result:
    """Calls a function with a timeout in seconds. After a timeout its thread is abandoned, since a stalled connection can't be stopped from outside."""
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target = run, daemon = True)
    thread.start()
    thread.join(seconds)

    if errors:
        raise errors[0]

    if not results:
        raise TimeoutError(f'nothing came for {seconds:g} seconds')

    return results[0]


def download(read: Callable[[int, int], bytes], size: int, path: Path, what: str, patience: Patience) -> None:
    """Downloads a remote file. A partial file of an earlier attempt is resumed.

    Args:
        read: Function that returns the bytes from a start to an end position.
        size: Size of the file in bytes.
        path: File to write.
        what: Name of the file in messages.
        patience: Settings of retries.

    Raises:
        OSError: As `patiently`.
    """
    with open(path, 'ab') as file:
        if file.tell() > size:
            file.truncate(0)

        while (start := file.tell()) < size:
            file.write(patiently(lambda start = start: whole(read, start, min(start + patience.part, size), size), what, patience))


def whole(read: Callable[[int, int], bytes], start: int, end: int, size: int) -> bytes:
    content = read(start, end)

    if len(content) == size != end - start:  # the server ignores byte ranges and sent the whole file
        content = content[start:end]

    if len(content) != end - start:
        raise OSError(f'{len(content)} bytes were received instead of {end - start}')

    return content
