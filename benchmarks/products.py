"""The limit: the matrix products of a network, in their own shapes, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from case import Work


class Product(NamedTuple):
    """(batch m k) @ (batch k n). has_weight: n × k is a matrix of the network, of no batch. wants_input: its left factor has a gradient."""
    m: int
    k: int
    n: int
    batch: int = 1
    has_weight: bool = True
    wants_input: bool = True


def forward_products(work: Work, *, cacheable: bool, depth: int) -> list[Product]:
    """Of one pass of our network: what it computes of the work, without what it knows that nobody will read.

    Rendering in the cacheable mode starts from an encoded scene.
    """
    n, d, heads, width = work.tokens_of_a_view, work.dim, work.heads, work.dim_head
    inner, patch = heads * width, work.patch_size ** 2
    scenes, views = work.batch, work.batch * work.targets
    encoded = cacheable and work.job == 'render'
    shared = work.inputs * n  # tokens of the inputs of a scene
    products = [Product(views * n, patch * 6, d, wants_input = False)]

    if not encoded:
        products.append(Product(scenes * shared, patch * 9, d, wants_input = False))

    for index in range(depth):
        is_last = index == depth - 1

        # tokens that give keys and values, those that ask, and who asks whom: (batch, queries, keys)

        if encoded:
            tokens = asking = views * n
            pairs = [(views, n, shared + n)]
        elif cacheable:
            tokens = scenes * shared + views * n
            asking = views * n if is_last else tokens
            pairs = [(views, n, shared + n)] + ([] if is_last else [(scenes, shared, shared)])
        else:
            tokens = views * (shared + n)
            asking = views * n if is_last else tokens
            pairs = [(views, n if is_last else shared + n, shared + n)]

        products += [Product(tokens, d, inner)] * 2 + [Product(asking, d, inner), Product(asking, inner, d)]
        products += [Product(asking, d, 4 * d), Product(asking, 4 * d, d)]

        for batch, queries, keys in pairs:
            products += [Product(queries, width, keys, batch * heads, has_weight = False), Product(queries, keys, width, batch * heads, has_weight = False)]

    return [*products, Product(views * n, d, patch * 3)]


def flops(products: list[Product]) -> int:
    return sum(2 * product.batch * product.m * product.k * product.n for product in products)


def step_flops(work: Work, *, cacheable: bool, depth: int) -> int:
    """Of all products of the work: in training with those of the gradients of both factors, but of what comes in."""
    products = forward_products(work, cacheable = cacheable, depth = depth)
    return flops(products) if work.job == 'render' else 3 * flops(products) - flops([product for product in products if not product.wants_input])


def all_products(work: Work, *, cacheable: bool, depth: int, dtype: torch.dtype, device: torch.device) -> Callable[[], None]:
    """A function that computes them, into memory that is there already; with those of the gradients for a training step.

    Every weight is a matrix of its own, as in the network; activations of one shape are one.
    """
    steps = []
    known: dict[tuple[int, ...], torch.Tensor] = {}

    def activation(*shape: int) -> torch.Tensor:
        if shape not in known:
            known[shape] = torch.rand(shape, device = device).to(dtype)

        return known[shape]

    for m, k, n, batch, has_weight, wants_input in forward_products(work, cacheable = cacheable, depth = depth):
        leading = () if has_weight else (batch,)
        left, out = activation(*leading, m, k), activation(*leading, m, n)
        right = torch.rand(*leading, n, k, device = device).to(dtype) if has_weight else activation(*leading, n, k)
        steps.append((left, right.mT, out))

        if work.job == 'train':
            # gradients of the right factor, and of the left one where it has any

            steps.append((out.mT, left, torch.empty_like(right) if has_weight else activation(*leading, n, k)))

            if wants_input:
                steps.append((out, right, left))

    def run() -> None:
        for left, right, out in steps:
            torch.matmul(left, right, out = out)

    return run
