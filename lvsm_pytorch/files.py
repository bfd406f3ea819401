"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Calls `write` with a temporary path beside `path` (with the same ending), then puts the file in place in one step."""
    temporary = path.with_name(f'.{path.stem}.{os.getpid()}.partial{path.suffix}')

    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok = True)
