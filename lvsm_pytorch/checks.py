"""Checks of tensor arguments."""

from __future__ import annotations

import torch
from torch import Tensor

from lvsm_pytorch.errors import ShapeError, fail

AXES = dict(
    b = 'batch',
    v = 'input views',
    t = 'target views',
    c = 'channels',
    h = 'height',
    w = 'width',
)


def values_are_free(tensor: Tensor) -> bool:
    """Returns whether reading the values of `tensor` is free: no compilation, no synchronization with a device."""
    return not torch.compiler.is_compiling() and tensor.device.type == 'cpu'


def check_tensor(**arguments: object) -> None:
    """Checks that each argument is a tensor.

    Raises:
        ShapeError: For anything else.
    """
    for name, value in arguments.items():
        if not isinstance(value, Tensor):
            fail(name, 'must be a torch.Tensor', type(value).__name__, 'Convert it, for example with torch.as_tensor(...).', ShapeError)


def check_floating(**arguments: Tensor) -> None:
    """Checks that each argument is a floating-point tensor.

    Raises:
        ValueError: For other types; for `uint8`, with the advice to divide by 255.
    """
    check_tensor(**arguments)

    for name, tensor in arguments.items():
        if not tensor.is_floating_point():
            bytes_of_an_image = tensor.dtype == torch.uint8
            to_do = 'Divide it by 255: images are in [0, 1].' if bytes_of_an_image else 'Convert it with .float().'
            fail(name, 'must be floating point', tensor.dtype, to_do)


def check_shape(pattern: str, sizes: dict[str, int] | None = None, to_do: str = '', /, **tensors: Tensor | None) -> dict[str, int]:
    """Checks that each tensor has the shape `pattern`, and returns the sizes of its letters.

    Args:
        pattern: Axes by letter or number, for example 'b v 6 h w'; a leading '...' stands for any further axes.
        sizes: Known sizes of letters, for example from an earlier call.
        to_do: Advice for the error, instead of the default.

    Raises:
        ShapeError: With the rule, the actual shape and the first axis that is wrong.
    """
    axes = pattern.split()
    any_leading = axes[0] == '...'
    axes = axes[1:] if any_leading else axes
    known = dict(sizes or {})

    for name, tensor in tensors.items():
        check_tensor(**{name: tensor})
        assert tensor is not None

        shape = tensor.shape
        rule = f'must have shape ({pattern})'

        if len(shape) < len(axes) or (len(shape) > len(axes) and not any_leading):
            fail(name, rule, f'{len(shape)} axes, {tuple(shape)}', to_do or f'It needs {"at least " if any_leading else ""}{len(axes)} axes: {describe(axes)}.', ShapeError)

        shape = shape[len(shape) - len(axes):]

        for index, (axis, size) in enumerate(zip(axes, shape, strict = True)):
            expected = int(axis) if axis.isdigit() else known.setdefault(axis, size)

            if size == expected:
                continue

            what = AXES.get(axis, f'axis {index}' if axis.isdigit() else axis)
            advice = to_do or f'It needs {describe(axes)}.'

            if axes[-2:] == ['h', 'w'] and index == len(axes) - 3 and shape[-1] == expected:
                advice = 'Its channels seem to come last; they belong before height and width: tensor.movedim(-1, -3).'

            fail(name, f'{rule} with {what} {expected}', f'{what} {size}, {tuple(tensor.shape)}', advice, ShapeError)

    return known


def make_valid_mask(sizes: dict[str, int], *, at_least: int = 1, **named: Tensor | None) -> Tensor | None:
    """Returns a mask (b v) bool of the valid views, False for padding, from the number of valid views (b) of each scene. None if all are valid and reading values is free.

    Args:
        sizes: Sizes b and v.
        at_least: Minimum number of valid views.
        named: The numbers of valid views (b) by the name of the argument, or None.

    Raises:
        ValueError: If counts are not integers, have a wrong shape or, if reading values is free, are not from `at_least` to v.
    """
    (name, count), = named.items()

    if count is None:
        return None

    check_shape('b', dict(b = sizes['b']), 'It needs one number for each scene of the batch.', **{name: count})

    if count.is_floating_point() or count.is_complex() or count.dtype == torch.bool:
        fail(name, 'must be integers', count.dtype, 'Convert it with .long().')

    if values_are_free(count) and count.numel() > 0 and (count.min() < at_least or count.max() > sizes['v']):
        fail(name, f'must be from {at_least} to the number of views {sizes["v"]}', count.tolist(), 'It is the number of valid views; padding comes after them.')

    if values_are_free(count) and (count == sizes['v']).all():
        return None

    return torch.arange(sizes['v'], device = count.device) < count.unsqueeze(-1)


def describe(axes: list[str]) -> str:
    return ', '.join(f'{axis} = {AXES[axis]}' if axis in AXES else axis for axis in axes)
