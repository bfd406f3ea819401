"""Remote files in parts, each of which is tried several times: connections stall, are reset, and end too early."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

Result = TypeVar('Result')

# errors that another try does not change

FINAL = FileNotFoundError, PermissionError, IsADirectoryError, NotImplementedError, ImportError


class Patience(NamedTuple):
    """How long a remote server is waited for.

    Attributes:
        attempts: Of each part.
        pause: Seconds before the second attempt; each further pause is twice as long, and up to half as long again by chance, so that workers do not ask at once.
        stall: Seconds after which an attempt that has not ended is given up.
        part: Bytes that are read at once.
    """
    attempts: int = 5
    pause: float = 1.
    stall: float = 60.
    part: int = 16 * 2 ** 20


def patiently(work: Callable[[], Result], what: str, patience: Patience) -> Result:
    """The result of remote work, tried several times.

    Raises:
        OSError: With the last error, where every attempt has failed; at once for what is missing or forbidden.
    """
    for attempt in range(patience.attempts):
        try:
            return within(work, patience.stall)
        except FINAL as error:  # noqa: PERF203
            raise OSError(f'{what}: must be there and readable, but got {type(error).__name__}: {error}. Check the address and the rights.') from error
        except Exception as error:  # each library has its own errors of connections: aiohttp's, botocore's, those of huggingface_hub
            if attempt + 1 == patience.attempts:
                raise OSError(f'{what}: must be readable, but {patience.attempts} attempts failed, the last with {type(error).__name__}: {error}. Is the server there?') from error

            time.sleep(patience.pause * 2 ** attempt * random.SystemRandom().uniform(1, 1.5))

    raise AssertionError


def within(work: Callable[[], Result], seconds: float) -> Result:
    """The result of work that has so many seconds. What takes longer is left to itself: a connection that stalls can't be stopped from outside."""
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
    """Writes a remote file, from where an earlier attempt has ended.

    Args:
        read: Bytes from one place to another.
        size: Of the file, in bytes.
        path: To write it.
        what: For messages.

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

    if len(content) == size != end - start:  # of a server that knows no ranges
        content = content[start:end]

    if len(content) != end - start:
        raise OSError(f'{len(content)} bytes came in place of {end - start}')

    return content
