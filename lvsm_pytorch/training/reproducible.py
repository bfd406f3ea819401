"""The same run to the last bit."""

from __future__ import annotations

import torch


def warm_up_mkl() -> None:
    """MKL's vector functions (sqrt, sin, ...) are now and then off by 1e-4 when several threads call them for the first time in a process.
    Called by one thread first, they are right from then on.
    """
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)

    for function in (torch.sin, torch.cos, torch.exp, torch.log, torch.log10, torch.sqrt, torch.tanh, torch.acos, torch.tan):
        function(torch.ones(10_000))

    torch.set_num_threads(num_threads)
