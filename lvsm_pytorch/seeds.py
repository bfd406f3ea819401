"""Seeds of what is drawn for a name."""

from __future__ import annotations

import hashlib


def seed_of(name: str, seed: int = 0) -> int:
    """A seed of a generator that a name and a seed decide, the same on every machine: unlike names have unlike ones."""
    return int.from_bytes(hashlib.sha256(f'{seed} {name}'.encode()).digest()[:8], 'little') >> 1  # what manual_seed takes has a sign
