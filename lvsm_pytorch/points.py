"""Attention that sees which rays pass by which points: invariant point attention of Jumper et al. 2021 (AlphaFold, supplement 1.8.2),
made for cameras, where a token that asks has a ray, and one that is asked has a point on its own.

In each head a token guesses how deep it is along the ray through its patch. Where x_j is that point, ρ_j the breadth of its patch
there, and D_i(x) the distance of a point to the ray of token i, attention is

    a_ij = softmax_j (q_i · k_j / √dim_head − s (D_i(x_j) / ρ_j)²),

with queries and keys turned by the column and row of their patches (`rotary`), and a sharpness s that each head learns: what the ray of a
new view passes closest by is what it sees. A token reads, beside values, the mean point, as its own camera sees it: how many patches
beside its ray, and how deep. By the first of these what it has read is turned (`rotary`, of a real number of patches), as a picture's
Fourier coefficients are turned when it is moved. Nothing of it depends on the world, or on its unit once depths are guessed in it.

The squared distance is a quadratic form of the point, x̃ᵀ Q_i x̃ with x̃ = (x, 1), and so an inner product of ten numbers of the ray with
ten of the point. These go into the attention call as ten more dimensions of queries and keys, and any kernel computes them.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import einsum, rearrange, reduce, repeat
from torch import Tensor, nn

from lvsm_pytorch.camera_encoding import CameraEncoding, Tensors, in_reference
from lvsm_pytorch.encoder import Float32Linear
from lvsm_pytorch.precision import at_least_float32, in_float32, without_autocast
from lvsm_pytorch.rotary import cos_and_sin, turned

# at first, heads are from sharp at one patch to nearly blind for distances; depths are of 1 unit, and from 1 / 55 to 55 at most

SHARPEST, BLUNTEST = 5., 0.005
MOST_LOG_DEPTH = 4.

# what is read is moved by no more than so many patches, in waves of 8 patches to 1

MOST_SHIFT = 2.
SHIFT_OCTAVES = -2, 1

# kernels want a multiple of it

MULTIPLE = 8


class RayPoints(CameraEncoding):
    """See above. Of each token's place: its ray as a quadratic form, ten numbers; the centre of its camera; its frame, row by row, the ray last;
    the angle of its patch in radians; whether it has a ray at all (else all before are 0, and the angle 1); and cosines and sines for queries and keys, `rotary` as the patches lie.
    """
    dim_head_multiple = 4

    def __init__(self, dim: int, *, heads: int, dim_head: int):
        super().__init__(dim, heads = heads, dim_head = dim_head)
        self.log_sharpness = nn.Parameter(torch.linspace(math.log(SHARPEST), math.log(BLUNTEST), heads))
        self.log_depth = nn.Parameter(torch.zeros(heads))
        self.to_log_depth = Float32Linear(dim, heads, bias = False)
        self.from_offset = nn.Linear(heads * 3, dim, bias = False)
        nn.init.zeros_(self.to_log_depth.weight)

    def asked(self, queries: Tensor, at: Tensor) -> Tensors:
        """With the queries, forms (b n heads 10) that give the squared distance of a point to a token's ray."""
        form, *_, cos, sin = self.parts(at)
        return rotated(queries, cos, sin), form.expand(-1, -1, queries.shape[2], -1)

    def known(self, keys: Tensor, values: Tensor, x: Tensor, at: Tensor) -> Tensors:
        """With keys and values, points (b n heads 3) and the square of 1 / ρ, zero where there is no point: (b n heads 4)."""
        _, centre, frame, angle, has_ray, cos, sin = self.parts(at)
        keys = rotated(keys, cos, sin)

        with without_autocast(x.device.type):
            log_depth = self.log_depth + self.to_log_depth(x)
            depth = (MOST_LOG_DEPTH * (log_depth / MOST_LOG_DEPTH).tanh()).exp().unsqueeze(-1)
            points = centre + depth * frame[..., 6:]
            return keys, values, torch.cat((points, has_ray / (depth * angle).square()), dim = -1)

    def joined(self, asked: Tensors, known: Tensors) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys (b heads n e) with the ten dimensions more, values with the point and a one where there is one."""
        (q, form), (k, v, points) = asked, known

        if q.dtype == torch.float16:
            q, k, v = (t.float() for t in (q, k, v))  # which has no room for the squares

        with without_autocast(q.device.type):
            sharpness = rearrange(self.log_sharpness.to(form.dtype).exp(), 'h -> h 1 1')
            form = form * (-sharpness * self.dim_head ** 0.5)
            points, weight = points.split((3, 1), dim = -1)
            lifted = torch.cat((points, (weight > 0).to(points.dtype)), dim = -1)
            q = padded(q, *in_dtype(form, q.dtype, (0, 1, 0)))
            k = padded(k, *in_dtype(weight * monomials(lifted), k.dtype, (0, 0, 1)))
            return q, k, padded(v, lifted.to(v.dtype), width = q.shape[-1])

    def read(self, out: Tensor, at: Tensor) -> Tensors:
        _, centre, frame, angle, *_ = self.parts(at)
        read, point, share, _ = out.split((self.dim_head, 3, 1, out.shape[-1] - self.dim_head - 4), dim = -1)

        with without_autocast(out.device.type):
            point, share = at_least_float32(point), at_least_float32(share)
            aside, along = einsum(frame.unflatten(-1, (3, 3)), point - share * centre, 'b n h i j, b n h j -> b n h i').split((2, 1), dim = -1)
            aside = aside / angle
            offset = torch.cat((aside, along), dim = -1).asinh()  # of what is far, the magnitude

            near = MOST_SHIFT * (aside / MOST_SHIFT).tanh()
            frequencies = torch.pi * 2 ** torch.linspace(*SHIFT_OCTAVES, self.dim_head // 4, dtype = near.dtype, device = near.device)
            turn = (near.unsqueeze(-1) * frequencies).flatten(-2)

        return rotated(read, turn.cos(), turn.sin()), self.from_offset(offset.flatten(2).to(out.dtype))

    def parts(self, at: Tensor) -> tuple[Tensor, ...]:
        """(b n 1 e) each, for all heads."""
        half = self.dim_head // 2
        return at.unsqueeze(2).split((10, 3, 9, 1, 1, half, half), dim = -1)

    @staticmethod
    @in_float32
    def places(directions: Tensor, camera_to_world: Tensor, intrinsics: Tensor, reference: Tensor, has_rays: Tensor | None, *, patch_size: int, dim_head: int) -> Tensor:
        """(b v h w 24 + dim_head)."""
        directions = reduce(directions, 'b v c (h p) (w q) -> b v h w c', 'mean', p = patch_size, q = patch_size)
        rotation, centre = in_reference(camera_to_world, reference)
        centre = centre - centre.new_tensor([0., 0., 1.])  # the origin is where the reference's points begin: the nearer, the less is rounded
        along = F.normalize(einsum(rotation, directions, 'b v i j, b v h w j -> b v h w i'), dim = -1)
        _, height, width, _ = along.shape[1:]
        right, centre = (repeat(t, 'b v i -> b v h w i', h = height, w = width) for t in (rotation[..., 0], centre))
        right = F.normalize(right - (right * along).sum(dim = -1, keepdim = True) * along, dim = -1)
        frame = torch.stack((right, torch.linalg.cross(along, right), along), dim = -2)

        focal = (intrinsics[..., 0, 0] * intrinsics[..., 1, 1]).abs().sqrt()
        angle = repeat(patch_size / focal, 'b v -> b v h w 1', h = height, w = width)

        # of x: |x - o|² - ((x - o) · d)², with the parts of the frame across the ray

        across = frame[..., :2, :]
        across = torch.cat((across, -einsum(across, centre, '... i j, ... j -> ... i').unsqueeze(-1)), dim = -1)
        form = coefficients(across.mT @ across)

        ray = torch.cat((form, centre, frame.flatten(-2), angle, torch.ones_like(angle)), dim = -1)

        if has_rays is not None:
            none = ray.new_tensor([0.] * 22 + [1., 0.])
            ray = torch.where(rearrange(has_rays.to(ray.device), 'b v -> b v 1 1 1'), ray, none)

        of_patches = cos_and_sin(height, width, dim_head // 4, ray).expand(*ray.shape[:2], -1, -1, -1)
        return torch.cat((ray, of_patches), dim = -1)


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    with without_autocast(x.device.type):
        return turned(at_least_float32(x), cos, sin).to(x.dtype)


def monomials(x: Tensor) -> Tensor:
    """Products of two of (... 4) numbers, (... 10), in the order of `coefficients`."""
    return torch.cat([x[..., :4 - apart] * x[..., apart:] for apart in range(4)], dim = -1)


def coefficients(form: Tensor) -> Tensor:
    """Of a symmetric form (... 4 4), the ten numbers whose inner product with `monomials` of x̃ is x̃ᵀ Q x̃: by diagonals, of which all but the first count twice."""
    return torch.cat([form.diagonal(apart, -2, -1) * (2. if apart else 1.) for apart in range(4)], dim = -1)


def padded(*parts: Tensor, width: int | None = None) -> Tensor:
    """One after the other in the last dimension, with zeros up to the width, or to what kernels like."""
    taken = sum(part.shape[-1] for part in parts)
    width = -(-taken // MULTIPLE) * MULTIPLE if width is None else width
    return torch.cat((*parts, parts[0].new_zeros(()).expand(*parts[0].shape[:-1], width - taken)), dim = -1)


def in_dtype(x: Tensor, dtype: torch.dtype, order: tuple[int, ...]) -> list[Tensor]:
    """x in the dtype of an attention call. In bfloat16, terms of a squared distance that cancel would leave nothing but their rounding: there
    x is the sum of two parts, and these come in an order such that queries' and keys' inner product is that of the sums, but for the
    product of the second parts. Scores are then off by about 2⁻¹⁷ s (|x| / ρ)².
    """
    if dtype != torch.bfloat16:
        return [x.to(dtype)]

    first = x.to(dtype)
    both = first, (x - first.to(x.dtype)).to(dtype)
    return [both[index] for index in order]
