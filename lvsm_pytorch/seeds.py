"""Random seeds from names."""

from __future__ import annotations

import hashlib


def seed_of(name: str, seed: int = 0) -> int:
    """Returns a seed for a generator from a name and a seed, the same on every machine."""
    return int.from_bytes(hashlib.sha256(f'{seed} {name}'.encode()).digest()[:8], 'little') >> 1  # manual_seed takes signed integers
