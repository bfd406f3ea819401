"""A bank of texture patterns with the statistics of natural images, and mipmapped sampling.

Patterns are periodic, with three channels of colour contrast and one of fine detail, all centred at 0.5. A surface maps the channels to colours by
a linear map, which commutes with prefiltering. The bank is the same in every process.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from torch import Tensor

SIZE = 128
LEVELS = 8                                              # 128, 64, ... 1
LEVEL_SIZES = [SIZE >> level for level in range(LEVELS)]
LEVEL_STARTS = [sum(size ** 2 for size in LEVEL_SIZES[:level]) for level in range(LEVELS)]
TEXELS = sum(size ** 2 for size in LEVEL_SIZES)

# number of patterns of each kind, in the order of `make_patterns`
NUM_NOISE, NUM_LEAVES, NUM_CELLS, NUM_BRICKS, NUM_WAVES, NUM_PRINTS, NUM_PLAIN = 72, 72, 40, 28, 32, 36, 24
NUM_PATTERNS = NUM_NOISE + NUM_LEAVES + NUM_CELLS + NUM_BRICKS + NUM_WAVES + NUM_PRINTS + NUM_PLAIN
LEAVES = 140


@lru_cache(maxsize = 4)
def bank(device: torch.device) -> Tensor:
    """Returns all patterns with their mipmaps, (patterns × texels, 4) in uint8, where the levels of a pattern follow each other."""
    if device.type != 'cpu':
        return bank(torch.device('cpu')).to(device)

    image = make_patterns(torch.Generator().manual_seed(2024)).clamp(0, 1)
    levels = []

    for _ in range(LEVELS):
        levels.append(rearrange(image, 'n c h w -> n (h w) c'))
        image = F.avg_pool2d(image, 2) if image.shape[-1] > 1 else image

    return rearrange((torch.cat(levels, dim = 1) * 255).round().to(torch.uint8), 'n t c -> (n t) c').contiguous()


def look_up(pattern: Tensor, u: Tensor, v: Tensor, level: Tensor) -> Tensor:
    """Samples patterns (n) at coordinates (n) of period 1, with trilinear interpolation, at mipmap levels (n), log2 of texels per pixel. Returns values (n 4), centred at 0.5."""
    texels = bank(pattern.device)
    level = level.clamp(0, LEVELS - 1.001)
    fine = level.long()
    blend = (level - fine).unsqueeze(-1)
    starts = torch.tensor(LEVEL_STARTS, device = pattern.device)
    pattern_start = pattern * TEXELS

    def bilinear(level: Tensor) -> Tensor:
        mask = (SIZE >> level) - 1
        size = (mask + 1).float()
        x, y = u * size - 0.5, v * size - 0.5
        left, top = x.floor(), y.floor()
        across, down = (x - left).unsqueeze(-1), (y - top).unsqueeze(-1)
        left, top = left.long(), top.long()
        right, bottom = (left + 1) & mask, (top + 1) & mask
        left, top = left & mask, top & mask
        start, width = pattern_start + starts[level], mask + 1
        above, below = start + top * width, start + bottom * width

        def texel(index: Tensor) -> Tensor:
            return texels.index_select(0, index).float()

        upper = torch.lerp(texel(above + left), texel(above + right), across)
        lower = torch.lerp(texel(below + left), texel(below + right), across)
        return torch.lerp(upper, lower, down)

    return torch.lerp(bilinear(fine), bilinear(fine + 1), blend) / 255


def make_patterns(generator: torch.Generator) -> Tensor:
    """Generates all patterns (n 4 h w)."""
    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator = generator)

    def column(low: float, high: float, n: int) -> Tensor:
        return uniform(low, high, n, 1, 1)

    def noise(n: int, channels: int, slope: Tensor) -> Tensor:
        """Draws 1/f^slope noise (n channels h w) with mean 0 and standard deviation 1."""
        frequency = torch.fft.fftfreq(SIZE)
        radius = (frequency[:, None] ** 2 + frequency[:SIZE // 2 + 1].abs() ** 2).sqrt()
        radius[0, 0] = 1.
        white = torch.fft.rfft2(torch.randn(n, channels, SIZE, SIZE, generator = generator))
        image = torch.fft.irfft2(white * radius ** -rearrange(slope, 'n -> n 1 1 1'), s = (SIZE, SIZE))
        image = image - image.mean(dim = (-2, -1), keepdim = True)
        return image / image.std(dim = (-2, -1), keepdim = True)

    grid = (torch.arange(SIZE) + 0.5) / SIZE
    y, x = torch.meshgrid(grid, grid, indexing = 'ij')

    # 1/f noise, partly stretched along one axis like wood and brushed metal

    noises = noise(NUM_NOISE, 3, uniform(0.7, 1.9, NUM_NOISE))
    stretched = noises[:NUM_NOISE // 4, :, ::8].repeat_interleave(8, dim = -2)
    noises = torch.cat((stretched, noises[NUM_NOISE // 4:]))
    blotched = torch.tanh(noises[-NUM_NOISE // 3:] * column(1., 6., NUM_NOISE // 3).unsqueeze(1))
    noises = torch.cat((noises[:-NUM_NOISE // 3], blotched)) * 0.2

    # dead leaves: discs and rectangles of power-law sizes that occlude each other

    n = NUM_LEAVES
    smallest, roundness, spread = uniform(0.01, 0.04, n), uniform(0., 1., n), uniform(0.1, 0.5, n)
    visible = torch.zeros(n, SIZE, SIZE, dtype = torch.long)

    for index in range(LEAVES):
        # large ones first, since they would occlude all others
        scale = (LEAVES - index) / LEAVES
        radius = (smallest / (1.5 * scale + 0.02 + uniform(0., 1., n))).clamp(max = 0.1) + 0.2 * scale ** 3 * uniform(0., 1., n)
        turn, aspect = column(0., math.pi, n), column(0.4, 2.5, n)
        dx = (grid - column(0., 1., n) + 0.5).remainder(1) - 0.5
        dy = (grid.unsqueeze(-1) - column(0., 1., n) + 0.5).remainder(1) - 0.5
        along, across = turn.cos() * dx + turn.sin() * dy, aspect * turn.cos() * dy - aspect * turn.sin() * dx
        is_round = rearrange(uniform(0., 1., n) < roundness, 'n -> n 1 1')
        extent = torch.where(is_round, along * along + across * across, torch.maximum(along.abs(), across.abs()) ** 2)
        visible.masked_fill_(extent < rearrange(radius, 'n -> n 1 1') ** 2, index)

    color = (torch.randn(n, LEAVES, 3, generator = generator) * spread[:, None, None]).clamp(-0.5, 0.5)
    leaves = rearrange(torch.stack([color[index, visible[index]] for index in range(n)]), 'n h w c -> n c h w')

    # Voronoi cells of random points, half of the patterns with borders

    n, points = NUM_CELLS, 48
    place = uniform(0., 1., n, points, 2)
    counted = torch.arange(points) < uniform(8, points, n, 1)
    dx = (grid - rearrange(place[..., 0], 'n p -> n p 1 1') + 0.5).remainder(1) - 0.5
    dy = (grid.unsqueeze(-1) - rearrange(place[..., 1], 'n p -> n p 1 1') + 0.5).remainder(1) - 0.5
    distance = dx * dx + dy * dy + 9. * rearrange(~counted, 'n p -> n p 1 1')
    first, nearest = distance.min(dim = 1)
    second = distance.scatter(1, nearest.unsqueeze(1), 99.).amin(dim = 1).sqrt()
    first = first.sqrt()
    color = (torch.randn(n, points, 3, generator = generator) * uniform(0.05, 0.3, n, 1, 1)).clamp(-0.5, 0.5)
    cells = torch.stack([color[index, nearest[index]] for index in range(n)])
    border = ((second - first) < column(0.004, 0.03, n)) & (column(0., 1., n) < 0.6)
    cells = rearrange(cells, 'n h w c -> n c h w')
    cells = torch.where(border.unsqueeze(1), uniform(-0.5, 0.5, n, 3, 1, 1), cells - first.unsqueeze(1) * column(-1.5, 1.5, n).unsqueeze(1))

    # bricks and tiles with mortar

    n = NUM_BRICKS
    rows = (2 * 2. ** uniform(0., 3.5, n, 1, 1).floor())
    columns = (rows * 2. ** -uniform(0., 2., n, 1, 1).floor()).clamp(min = 1)
    row = (y * rows).floor()
    shifted = x * columns + 0.5 * (row % 2) * (column(0., 1., n) < 0.7)
    across = shifted.floor() % columns
    mortar = column(0.015, 0.05, n)
    in_mortar = (((y * rows) % 1) < mortar * rows) | ((shifted % 1) < mortar * columns)
    color = torch.randn(n, 1024, 3, generator = generator) * uniform(0.02, 0.2, n, 1, 1)
    which = ((row * columns + across).long() % 1024)
    bricks = rearrange(torch.stack([color[index, which[index]] for index in range(n)]), 'n h w c -> n c h w')
    bricks = torch.where(in_mortar.unsqueeze(1), uniform(-0.4, 0.4, n, 3, 1, 1), bricks)

    # waves, stripes and checks, distorted by noise

    n = NUM_WAVES
    bend = noise(n, 1, torch.full((n,), 1.8))[:, 0] * column(-0.05, 0.06, n).clamp(min = 0)
    kx, ky = column(-6., 7., n).floor(), column(-6., 7., n).floor()
    first, second = torch.sin(2 * math.pi * (kx * x + ky * y + 1.5 * bend * (kx.abs() + ky.abs()))), torch.sin(2 * math.pi * (ky * x - kx * y + bend * (kx.abs() + ky.abs())))
    waves = torch.tanh(torch.where(column(0., 1., n) < 0.4, 2 * first * second, first) * column(0.5, 8., n)).unsqueeze(1)
    waves = waves * uniform(-0.5, 0.5, n, 3, 1, 1)

    # print: lines of marks, blocks and frames on a plain ground

    n = NUM_PRINTS
    lines, marks = 2. ** uniform(2., 5., n, 1, 1).floor(), 2. ** uniform(3., 6., n, 1, 1).floor()
    ink = torch.rand(n, 64, 64, generator = generator) < column(0.3, 0.7, n)
    line, mark = (y * lines).floor().long(), (x * marks).floor().long()
    line, mark = line.expand(n, SIZE, SIZE), mark.expand(n, SIZE, SIZE)
    is_ink = torch.stack([ink[index, line[index], mark[index]] for index in range(n)]) & (((y * lines) % 1) < column(0.4, 0.9, n))
    block = torch.rand(n, 4, 4, generator = generator)
    block = block.repeat_interleave(SIZE // 4, dim = 1).repeat_interleave(SIZE // 4, dim = 2)
    prints = torch.where((is_ink & (block < 0.6)).unsqueeze(1), uniform(-0.5, 0.5, n, 3, 1, 1), uniform(-0.5, 0.5, n, 3, 1, 1))
    prints = torch.where((block > 0.85).unsqueeze(1), uniform(-0.5, 0.5, n, 3, 1, 1), prints)

    plain = noise(NUM_PLAIN, 3, uniform(1.2, 2., NUM_PLAIN)) * 0.04

    # a little noise on all patterns, and independent fine noise in the last channel

    colors = torch.cat((noises, leaves, cells, bricks, waves, prints, plain))
    total = len(colors)
    gray = reduce(noise(total, 3, uniform(0.5, 1.6, total)), 'n c h w -> n 1 h w', 'mean')
    detail = noise(total, 1, uniform(0.4, 1.4, total)) * 0.2
    return torch.cat((colors + gray * column(0., 0.08, total).unsqueeze(1) + 0.5, detail + 0.5), dim = 1)
