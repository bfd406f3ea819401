"""float32 inside autocast: rays in bfloat16 are off by whole pixels."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import reduce, wraps
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Function = TypeVar('Function', bound = Callable)


def at_least_float32(t: Tensor) -> Tensor:
    return t.to(torch.promote_types(t.dtype, torch.float32))


def without_autocast(device_type: str) -> AbstractContextManager:
    return nullcontext() if device_type == 'meta' else torch.autocast(device_type, enabled = False)


def in_float32(function: Function) -> Function:
    """Decorator: turns autocast off and casts tensors to float32, or to float64 if any is float64."""

    @wraps(function)
    def inner(*args, **kwargs):
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        device_types = {tensor.device.type for tensor in tensors}
        dtype = reduce(torch.promote_types, (tensor.dtype for tensor in tensors if tensor.is_floating_point()), torch.float32)

        def raised(value: object) -> object:
            return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value

        with without_autocast(max(device_types - {'cpu'}, default = 'cpu')):
            return function(*map(raised, args), **{name: raised(value) for name, value in kwargs.items()})

    return inner  # pyright: ignore[reportReturnType]


class Float32Linear(nn.Linear):
    """A linear layer that computes in float32, inside autocast and with weights of any type: bfloat16 would move rays by whole pixels."""

    def forward(self, input: Tensor) -> Tensor:
        weight = at_least_float32(self.weight)

        with without_autocast(input.device.type):
            return F.linear(input.to(weight.dtype), weight)
