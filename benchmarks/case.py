"""What is measured: a piece of work, and one implementation that does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen = True)
class Work:
    """A training step (loss, gradients) or a rendering of views (no gradients) of a batch of scenes."""
    job: Literal['train', 'render']
    dim: int = 256
    depth: int = 6
    size: int = 128
    patch_size: int = 8
    inputs: int = 2
    targets: int = 1
    batch: int = 2
    dim_head: int = 64

    @property
    def heads(self) -> int:
        return self.dim // self.dim_head

    @property
    def tokens_of_a_view(self) -> int:
        return (self.size // self.patch_size) ** 2


@dataclass(frozen = True)
class Implementation:
    """Who does it. kind: ours, seed (lvsm-pytorch 0.1.6), plain (the reference of the tests) or products (the matrix products of ours alone).

    The flags are those of ours and of its products. depth: another than the work's.
    """
    name: str
    kind: Literal['ours', 'seed', 'plain', 'products'] = 'ours'
    cacheable: bool = False
    checkpointing: bool = False
    compile: bool = False
    bfloat16: bool = False
    flash: bool = True
    depth: int | None = None
