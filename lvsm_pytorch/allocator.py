"""Tuning of glibc's memory allocator for CPUs."""

from __future__ import annotations

import torch


def tune_malloc() -> None:
    """Keeps up to 64 MB of freed memory for reuse, which glibc would return to the system and request again, page by page, in every step.

    glibc keeps twice the largest block that it has ever freed, but counts none of more than 32 MB ("M_MMAP_THRESHOLD" in mallopt(3)).
    So a block of nearly that much is taken and freed, of which nothing is touched. It makes rendering on a CPU about an eighth faster;
    other allocators do not mind it. It is for the whole process: the `lvsm` command calls it, and a program that renders on a CPU may.
    """
    torch.empty(2 ** 25 - 2 ** 14, dtype = torch.uint8, device = 'cpu')
