"""Muon (Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"): steps of matrices that are turned into near-orthogonal ones.

Why not torch.optim.Muon: its Newton-Schulz rounds to bfloat16, in which CPUs without bfloat16 units take longer for a step than for the
network; its steps are not the same (the tests allow a cosine of 0.98 between them, for singular values that end elsewhere around 1), so that a
run would depend on the device; and it takes matrices alone, one by one, which needs a second optimizer with its own state. This one is float32
but on CUDA, where bfloat16 is many times as fast, computes matrices of one shape together, takes weights that FSDP has shared out, and is AdamW for
the rest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

# Newton-Schulz: X <- (a + b S + c S²) X with S = X Xᵀ, which brings singular values up to 1 near to 1 (Jordan's numbers)

A, B, C = 3.4445, -4.7750, 2.0315
ROUNDS = 5


class Muon(torch.optim.AdamW):
    """Muon for matrices, AdamW for the other parameters, in one optimizer.

    The update of a matrix has singular values of about muon_lr · √max(1, rows / columns).

    Args:
        matrices: Parameters (rows columns) of hidden layers.
        others: Parameter groups for AdamW.
        muon_lr: Learning rate of the matrices.
        momentum: Nesterov momentum of the matrices.
        weight_decay: Decoupled weight decay of the matrices.
        adamw: Further arguments of AdamW.
    """

    def __init__(self, matrices: Iterable[nn.Parameter], others: list[dict[str, Any]], *, muon_lr: float = 0.02, momentum: float = 0.95, weight_decay: float = 0., **adamw: Any):
        is_muons = dict(params = list(matrices), lr = muon_lr, momentum = momentum, weight_decay = weight_decay, orthogonalize = True)
        super().__init__([is_muons, *others], **adamw)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        loss = None

        if closure is not None:
            with torch.enable_grad():
                loss = closure()

        gradients = {p: p.grad for group in self.param_groups if group.get('orthogonalize') for p in group['params'] if p.grad is not None}

        for group in self.param_groups:
            if group.get('orthogonalize'):
                self.step_matrices(group)

        # AdamW passes over parameters without gradients

        for p in gradients:
            p.grad = None

        super().step()

        for p, gradient in gradients.items():
            p.grad = gradient

        return loss

    def step_matrices(self, group: dict[str, Any]) -> None:
        """Updates the matrices of a group. Matrices of one shape are computed together."""
        alike: dict[torch.Size, list[tuple[nn.Parameter, Tensor]]] = defaultdict(list)

        for p in group['params']:
            if p.grad is not None:
                alike[p.shape].append((p, p.grad))

        for (rows, columns), matrices in alike.items():
            directions = []

            for p, gradient in matrices:
                state = self.state[p]

                if not state:
                    state.update(step = torch.zeros(()), momentum_buffer = torch.zeros_like(p))  # AdamW reads a step of every state

                state['step'] += 1
                buffer = state['momentum_buffer']
                buffer.lerp_(gradient, 1 - group['momentum'])
                direction = gradient.lerp(buffer, group['momentum'])
                directions.append(direction.full_tensor() if isinstance(direction, DTensor) else direction)

            scale = max(1., rows / columns) ** 0.5

            for (p, _), direction in zip(matrices, near_orthogonal(torch.stack(directions)), strict = True):
                if isinstance(p, DTensor):
                    direction = distribute_tensor(direction, p.device_mesh, p.placements)

                p.mul_(1 - group['lr'] * group['weight_decay']).add_(direction, alpha = -group['lr'] * scale)


def near_orthogonal(x: Tensor) -> Tensor:
    """Orthogonalizes matrices (... rows columns) by the iteration that suits the device. The dtype is that of x."""
    return orthogonalized_in_bfloat16(x).to(x.dtype) if x.is_cuda else orthogonalized(x)


def orthogonalized_in_bfloat16(x: Tensor) -> Tensor:
    """Jordan's form of the iteration, in which each round multiplies x itself. Polynomials of S alone, as in `orthogonalized`, are off by orders of magnitude in bfloat16."""
    is_tall = x.shape[-2] > x.shape[-1]
    x = x.mT if is_tall else x
    x = (x / x.norm(dim = (-2, -1), keepdim = True).clamp(min = torch.finfo(x.dtype).tiny)).bfloat16()

    for _ in range(ROUNDS):
        s = x @ x.mT
        x = A * x + (B * s + C * s @ s) @ x

    return x.mT if is_tall else x


def orthogonalized(x: Tensor) -> Tensor:
    """Matrices (... rows columns) with the singular vectors of x, and singular values from about 0.7 to 1.2, where x's are not below a few thousandths of its largest.

    All rounds are polynomials in S of the smaller side, and x is multiplied with their product in the end. Jordan begins from singular values of
    which the squares add up to 1; here their eighth powers do, which costs nothing and leaves less to lift.
    """
    is_tall = x.shape[-2] > x.shape[-1]
    x = x.mT if is_tall else x
    x = x / x.abs().amax(dim = (-2, -1), keepdim = True).clamp(min = torch.finfo(x.dtype).tiny)

    s = x @ x.mT
    square = s @ s
    largest = square.norm(dim = (-2, -1), keepdim = True).sqrt().clamp(min = torch.finfo(x.dtype).tiny)
    s, square = s / largest, square / largest / largest
    identity = torch.eye(s.shape[-1], dtype = s.dtype, device = s.device)
    product = factor = A * identity + B * s + C * square

    for _ in range(ROUNDS - 1):
        s = factor @ factor @ s
        factor = A * identity + B * s + C * s @ s
        product = factor @ product

    x = product @ x / largest.sqrt()
    return x.mT if is_tall else x
