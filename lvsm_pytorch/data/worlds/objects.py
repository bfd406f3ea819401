"""Primitives, and compound objects made of them, with proportions of commonly photographed objects."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor

# A primitive is the intersection of a quadric and a box, in coordinates scaled by its half sizes:
# a x² + b y² + c z² + 2 l z + k <= 0 and low <= (x, y, z) <= high. A line leaves a primitive only once.

BOX, ELLIPSOID, CYLINDER, CONE, FRUSTUM, DOME, ARCH, PARABOLOID = range(8)

QUADRICS = (
    (1e-3, 1e-3, 1e-3, 0., -1.),            # contains the box, which alone matters
    (1., 1., 1., 0., -1.),
    (1., 1., 0., 0., -1.),
    (1., 1., -0.25, 0.25, -0.25),           # radius (1 - z) / 2
    (1., 1., -0.04, 0.16, -0.64),           # radius 0.8 - 0.2 z
    (1., 1., 1., 0., -1.),
    (1., 1., 0., 0., -1.),
    (1., 1., 0., 0.25, -0.5),
)

BOUNDS = (
    (-1., -1., -1., 1., 1., 1.),
    (-1.01, -1.01, -1.01, 1.01, 1.01, 1.01),
    (-1.01, -1.01, -1., 1.01, 1.01, 1.),
    (-1.01, -1.01, -1., 1.01, 1.01, 1.),
    (-1.01, -1.01, -1., 1.01, 1.01, 1.),
    (-1.01, -1.01, 0., 1.01, 1.01, 1.01),
    (0., -1.01, -1., 1.01, 1.01, 1.),       # half a cylinder
    (-1.01, -1.01, -1., 1.01, 1.01, 1.),
)

PARTS = 9
MAX_PRIMITIVES = 288


class Primitives(NamedTuple):
    """k primitives in the frame of an object or of the world."""
    centers: Tensor     # ... k 3
    half_sizes: Tensor  # ... k 3
    axes: Tensor        # ... k 3 3, rotation from that frame to the primitive's
    shape: Tensor       # ... k, number of a shape above
    present: Tensor     # ... k, bool


class Draw:
    """Random number generator of a world, always on the CPU, so that a world does not depend on the device."""

    def __init__(self, seed: int):
        self.generator = torch.Generator().manual_seed(seed)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator = self.generator)

    def log_uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return self.uniform(math.log(low), math.log(high), *shape).exp()

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator = self.generator)

    def integer(self, low: int, high: int, *shape: int) -> Tensor:
        """Draws integers from low to high, both inclusive."""
        return torch.randint(low, high + 1, shape, generator = self.generator)

    def chance(self, probability: float, *shape: int) -> Tensor:
        return torch.rand(shape, generator = self.generator) < probability

    def one_of(self, choices: tuple[int, ...], *shape: int) -> Tensor:
        return torch.tensor(choices)[self.integer(0, len(choices) - 1, *shape)]

    def number(self, low: float, high: float) -> float:
        return self.uniform(low, high).item()

    def log_number(self, low: float, high: float) -> float:
        return self.log_uniform(low, high).item()

    def happens(self, probability: float) -> bool:
        return bool(self.chance(probability))

    def rotations(self, *shape: int) -> Tensor:
        """Draws arbitrary rotations (... 3 3), by orthogonalising two random directions."""
        x, y = F.normalize(self.normal(*shape, 3), dim = -1), self.normal(*shape, 3)
        z = F.normalize(torch.linalg.cross(x, y), dim = -1)
        return torch.stack((x, torch.linalg.cross(z, x), z), dim = -2)


def turns(angle: Tensor) -> Tensor:
    """Returns rotations (... 3 3) from the world to frames rotated about z by `angle` (...), in radians."""
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    return torch.stack((angle.cos(), angle.sin(), zero, -angle.sin(), angle.cos(), zero, zero, zero, one), dim = -1).unflatten(-1, (3, 3))


def along(direction: Tensor) -> Tensor:
    """Returns rotations (... 3 3) from the world to frames whose z axis is along `direction` (... 3)."""
    z = F.normalize(direction, dim = -1)
    helper = torch.eye(3)[z.abs().argmin(dim = -1)]
    x = F.normalize(torch.linalg.cross(helper, z), dim = -1)
    return torch.stack((x, torch.linalg.cross(z, x), z), dim = -2)


def extents(p: Primitives) -> Tensor:
    """Returns half sizes (... k 3) of the axis-aligned bounding boxes of primitives."""
    return (p.axes.abs() * p.half_sizes.unsqueeze(-1)).sum(dim = -2)


def joined(*groups: Primitives) -> Primitives:
    return Primitives(*(torch.cat(parts) for parts in zip(*groups, strict = True)))


def boxes(centers: Tensor, half_sizes: Tensor, *, axes: Tensor | None = None, shape: Tensor | int = BOX) -> Primitives:
    """Returns primitives (k) at centers (k 3) with half sizes (k 3); axis-aligned if `axes` are left out."""
    k = len(centers)
    axes = torch.eye(3).expand(k, 3, 3) if axes is None else axes
    shape = torch.full((k,), shape) if isinstance(shape, int) else shape
    return Primitives(centers, half_sizes, axes, shape, torch.ones(k, dtype = torch.bool))


def compounds(draw: Draw, n: int, kinds: tuple[int, ...] | None = None) -> Primitives:
    """Draws n objects of up to 9 primitives each (n 9 ...), of about unit radius, standing on z = 0.

    Args:
        draw: Random numbers.
        n: Number of objects.
        kinds: Numbers of the kinds to draw from: clumps, stacks, furniture, rings, plants, sticks and appliances. By default all.
    """
    upright = torch.eye(3).expand(n, PARTS, 3, 3)
    zero = torch.zeros(n, PARTS)
    aspect = (0.4 * draw.normal(n, PARTS, 3)).exp()

    # clumps: random shapes at random positions, some axis-aligned

    clump_axes = torch.where(draw.chance(0.5, n, 1, 1, 1), draw.rotations(n, PARTS), upright)
    clump = (draw.normal(n, PARTS, 3) * 0.4, draw.log_uniform(0.12, 0.7, n, PARTS, 1) * aspect, clump_axes, draw.one_of((0, 1, 1, 2, 3, 4, 5, 6, 7), n, PARTS))

    # stacks, such as vases, lamps, bottles and towers

    height, radius = draw.log_uniform(0.04, 0.5, n, PARTS), draw.log_uniform(0.15, 0.6, n, PARTS)
    height = height / height.sum(dim = -1, keepdim = True) * draw.uniform(0.5, 1.2, n, 1)
    flatness = torch.where(draw.chance(0.3, n, 1), draw.uniform(0.4, 1., n, 1), 1.)
    middle = 2 * height.cumsum(dim = -1) - height
    stack = (torch.stack((zero, zero, middle), dim = -1), torch.stack((radius, radius * flatness, height * 1.05), dim = -1), upright, draw.one_of((0, 1, 2, 2, 4, 4, 7), n, PARTS))

    # furniture: a top, four legs, a back, and three objects on it

    wide, deep, tall = draw.uniform(0.5, 1., n, 1), draw.uniform(0.3, 0.8, n, 1), draw.uniform(0.2, 0.9, n, 1)
    thick = draw.uniform(0.02, 0.08, n, 1)
    side, front = torch.tensor([0., -1, 1, -1, 1, 0, 0, 0, 0]), torch.tensor([0., -1, -1, 1, 1, 1, 0, 0, 0])
    loose = torch.tensor([0.] * 6 + [1.] * 3)
    loose_size = draw.log_uniform(0.06, 0.3, n, PARTS, 3)
    place = torch.stack((wide * (0.93 * side + loose * draw.uniform(-0.8, 0.8, n, PARTS)), deep * (0.93 * front + loose * draw.uniform(-0.8, 0.8, n, PARTS)), tall.expand(n, PARTS)), dim = -1)
    place[..., 2] = torch.where(side == 0, 2 * tall + thick + loose * (thick + loose_size[..., 2]), tall)
    place[:, 5, 2] = 3 * tall[:, 0]
    legs = torch.stack((thick, thick, tall), dim = -1).expand(n, PARTS, 3).clone()
    legs[:, 0], legs[:, 5] = torch.cat((wide, deep, thick), dim = -1), torch.cat((wide, thick, tall), dim = -1)
    legs = torch.where(loose.unsqueeze(-1) > 0, loose_size, legs)
    furniture = (place, legs, upright, torch.where(loose > 0, draw.one_of((0, 0, 1, 2, 4), n, PARTS), repeat(draw.one_of((0, 0, 2), n), 'n -> n p', p = PARTS) * (side != 0)))

    # rings, horizontal or vertical

    angle = torch.arange(PARTS) * (2 * math.pi / PARTS) + draw.uniform(0., 0.2, n, PARTS)
    spin = draw.rotations(n) if draw.happens(0.5) else torch.eye(3).expand(n, 3, 3)
    around = torch.stack((angle.cos(), angle.sin(), zero), dim = -1) @ spin
    tangent = torch.stack((-angle.sin(), angle.cos(), zero), dim = -1) @ spin
    thickness = draw.uniform(0.05, 0.2, n, 1, 1)
    ring = (0.7 * around, torch.cat((thickness, thickness, torch.full_like(thickness, 0.27)), dim = -1).expand(n, PARTS, 3), along(tangent), repeat(draw.one_of((0, 1, 2), n), 'n -> n p', p = PARTS))

    # plants: a trunk and leaves around its end

    crown = draw.normal(n, PARTS, 3) * torch.tensor([0.4, 0.4, 0.3]) + torch.tensor([0., 0., 1.2])
    leaf = draw.log_uniform(0.15, 0.5, n, PARTS, 1) * torch.where(draw.chance(0.4, n, 1, 1), aspect * torch.tensor([1., 0.4, 0.3]), aspect ** 0.4)
    crown[:, 0], leaf[:, 0] = torch.tensor([0., 0., 0.55]), torch.tensor([0.07, 0.07, 0.6])
    plant_shape = repeat(draw.one_of((1, 1, 1, 3, 7), n), 'n -> n p', p = PARTS).clone()
    plant_shape[:, 0] = CYLINDER
    plant_axes = draw.rotations(n, PARTS)
    plant_axes[:, 0] = torch.eye(3)
    plant = (crown, leaf, torch.where((plant_shape == ELLIPSOID)[..., None, None], plant_axes, upright), plant_shape)

    # sticks, slats and wires: a fence, or a tuft

    tuft = draw.chance(0.5, n, 1, 1)
    row = torch.stack((torch.linspace(-1, 1, PARTS).expand(n, PARTS), zero, zero), dim = -1)
    lean = torch.where(tuft, draw.normal(n, PARTS, 3) * 0.5, 0.) + torch.tensor([0., 0., 1.])
    width = draw.log_uniform(0.015, 0.06, n, 1, 1)
    stick = torch.cat((width, width * draw.uniform(1., 3., n, 1, 1), draw.uniform(0.4, 1., n, 1, 1)), dim = -1).expand(n, PARTS, 3)
    sticks = (torch.where(tuft, lean * 0.6 + draw.normal(n, PARTS, 3) * 0.1, row), stick, along(lean), repeat(draw.one_of((0, 2, 3), n), 'n -> n p', p = PARTS))

    # appliances: a body with panels, knobs and slots on its faces

    body = draw.uniform(0.3, 0.9, n, 1, 3)
    axis, sign = draw.integer(0, 2, n, PARTS), 1. - 2. * draw.chance(0.5, n, PARTS).float()
    facing = F.one_hot(axis, 3) * sign.unsqueeze(-1)
    on_face = torch.where(facing != 0, facing, draw.uniform(-0.8, 0.8, n, PARTS, 3)) * body
    panel = torch.where(facing != 0, draw.log_uniform(0.01, 0.08, n, PARTS, 1), draw.log_uniform(0.05, 0.5, n, PARTS, 3) * body)
    on_face[:, 0], panel[:, 0] = 0., body[:, 0]
    panel_shape = draw.one_of((0, 0, 0, 1), n, PARTS)
    panel_shape[:, 0] = BOX
    appliance = (on_face, panel, upright, panel_shape)

    kind = draw.one_of(kinds or (0, 0, 1, 1, 2, 2, 3, 4, 5, 6, 6), n)
    objects = torch.arange(n)
    templates = zip(clump, stack, furniture, ring, plant, sticks, appliance, strict = True)
    centers, half_sizes, axes, shape = (torch.stack([part.expand(n, PARTS, *part.shape[2:]) for part in parts])[kind, objects] for parts in templates)

    # clumps, stacks, plants and appliances have one to nine parts, the others all

    count = torch.where((kind == 2) | (kind == 3) | (kind == 5), PARTS, draw.integer(1, PARTS, n))
    present = torch.arange(PARTS) < count.unsqueeze(-1)
    p = Primitives(centers, half_sizes, axes, shape, present)
    lowest = torch.where(present, centers[..., 2] - extents(p)[..., 2], torch.inf).amin(dim = -1)
    centers = centers - lowest[:, None, None] * torch.tensor([0., 0., 1.])
    return p._replace(centers = centers)


def placed(p: Primitives, position: Tensor, size: Tensor, axes: Tensor) -> Primitives:
    """Places objects (n 9 ...) at positions (n 3), scaled by `size` (n), with rotations `axes` (n 3 3) from the world to them. Returns primitives (n·9)."""
    centers = position.unsqueeze(1) + size[:, None, None] * (p.centers @ axes)
    moved = Primitives(centers, p.half_sizes * size[:, None, None], p.axes @ axes.unsqueeze(1), p.shape, p.present)
    return Primitives(*(rearrange(t, 'n p ... -> (n p) ...') for t in moved))
