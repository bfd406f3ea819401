"""Bitwise reproducibility on CPUs."""

from __future__ import annotations

import torch


def warm_up_mkl() -> None:
    """Calls MKL's vector functions once from one thread.

    When several threads call one of them (sqrt, sin, ...) for the first time in a process, its results are sometimes off by 1e-4.
    """
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)

    for function in (torch.sin, torch.cos, torch.exp, torch.log, torch.log10, torch.sqrt, torch.tanh, torch.acos, torch.tan):
        function(torch.ones(10_000))

    torch.set_num_threads(num_threads)
