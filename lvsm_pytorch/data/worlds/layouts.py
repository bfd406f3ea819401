"""Layouts of procedural worlds: placement of objects, and camera paths.

z is up. Every world is inside a box, its shell, whose six faces are walls, ground, backdrop or sky.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from lvsm_pytorch.data.worlds.objects import ARCH, BOX, CONE, CYLINDER, DOME, ELLIPSOID, FRUSTUM, PARTS, Draw, Primitives, along, boxes, compounds, extents, joined, placed, turns

MAX_VIEWS = 32
UP = torch.tensor([0., 0., 1.])
GROUND = 4    # the face of the shell whose inner side faces up


class Stage(NamedTuple):
    """Geometry and cameras of a world, without colours and light, which one function for each kind of world generates."""
    primitives: Primitives
    group: Tensor           # k, the object to which a primitive belongs
    shell: Tensor
    is_sky: Tensor
    focus: Tensor           # 3, centre of the subject
    size: float             # radius of the subject
    eyes: Tensor            # v 3
    targets: Tensor         # v 3
    near: float             # free space around cameras
    focal: float            # focal length, in image widths
    backdrop: bool = False  # whether the shell has one colour and is far away


# paths of cameras

def lattice(draw: Draw) -> tuple[Tensor, Tensor]:
    """Draws steps (v), (v) of a path back and forth along rows, as people walk around objects, with jitter; 0 is the middle of a row."""
    index = torch.arange(MAX_VIEWS)
    columns = int(draw.integer(3, 9))
    rows = max(int(draw.integer(1, 4)), math.ceil(9 / columns))

    def back_and_forth(i: Tensor, n: int) -> Tensor:
        return (i % (2 * n)).minimum(2 * n - 1 - i % (2 * n)).float() if n > 1 else torch.zeros(len(i))

    a, b = back_and_forth(index, columns) - (columns - 1) / 2, back_and_forth(index // columns, rows) - (rows - 1) / 2
    jitter = draw.number(0., 0.35)
    return a + jitter * draw.normal(MAX_VIEWS), b + jitter * draw.normal(MAX_VIEWS)


def orbit(draw: Draw, focus: Tensor, radius: float, size: float, elevations: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Draws camera centres and targets (v 3) around an object of radius `size`, at several heights.

    Args:
        draw: Random numbers.
        focus: Centre of the object (3).
        radius: Mean distance of the cameras.
        size: Radius of the object.
        elevations: Minimum and maximum elevation in degrees.
    """
    a, b = lattice(draw)
    step = draw.log_number(0.1, 0.9) * (radius - 0.8 * size) / radius
    azimuth = draw.number(0, 2 * math.pi) + a * step
    low, high = (math.radians(degrees) for degrees in elevations)
    elevation = (draw.number(low, high) + b * min(step, 0.3)).clamp(low, high)
    distance = radius * (1 + draw.number(0., 0.12) * draw.normal(MAX_VIEWS)).clamp(0.8, 1.4)
    eyes = focus + distance.unsqueeze(-1) * torch.stack((azimuth.cos() * elevation.cos(), azimuth.sin() * elevation.cos(), elevation.sin()), dim = -1)
    return eyes, focus + draw.number(0., 0.2) * size * draw.normal(MAX_VIEWS, 3)


def walk(draw: Draw, eye: Tensor, focus: Tensor, near: float) -> tuple[Tensor, Tensor]:
    """Draws camera centres and targets (v 3) of a camera that moves sideways, forwards or is held by hand, with similar viewing directions."""
    a, b = lattice(draw)
    step = draw.log_number(0.1, 1.2) * near
    forward = F.normalize((focus - eye) * torch.tensor([1., 1., 0.]) + 1e-6, dim = 0)
    right = torch.linalg.cross(forward, UP)
    way = draw.number(0, 1)

    if way < 0.4:       # sideways, in rows at several heights
        moves = a[:, None] * right + 0.5 * b[:, None] * UP
    elif way < 0.75:    # forwards
        moves = a[:, None] * forward + 0.5 * b[:, None] * right
    else:               # by hand
        moves = draw.normal(MAX_VIEWS, 3) * torch.tensor([1., 1., 0.5])

    moves = step * (moves + 0.08 * draw.normal(MAX_VIEWS, 3))
    distance = (focus - eye).norm()
    wander = draw.number(0., 0.12) * distance * draw.normal(MAX_VIEWS, 3) * torch.tensor([1., 1., 0.5])
    return eye + moves, focus + draw.number(0.3, 1.) * moves + wander


# kinds of worlds

def spots(draw: Draw, n: int, half_extent: Tensor) -> Tensor:
    """Draws positions (n 2) in a rectangle centred at 0, from a jittered grid in random order, so that few objects overlap."""
    cells = math.ceil(math.sqrt(n))
    order = torch.randperm(cells ** 2, generator = draw.generator)[:n]
    cell = torch.stack((order % cells, order // cells), dim = -1) + draw.uniform(0.1, 0.9, n, 2)
    return (cell / cells * 2 - 1) * half_extent


def scattered(draw: Draw, n: int, half_extent: Tensor, sizes: tuple[float, float], ground: float = 0., kinds: tuple[int, ...] | None = None) -> Primitives:
    """Draws compound objects on the ground, most of them upright, with heavy-tailed sizes."""
    place = torch.cat((spots(draw, n, half_extent), torch.full((n, 1), ground)), dim = -1)
    size = draw.log_uniform(*sizes, n)
    axes = turns(draw.uniform(0, 2 * math.pi, n))
    tipped = draw.chance(0.12, n)
    axes = torch.where(tipped[:, None, None], draw.rotations(n), axes)
    place = torch.where(tipped[:, None], place + UP * size[:, None] * 0.5, place)
    return placed(compounds(draw, n, kinds), place, size, axes)


def object_groups(p: Primitives, parts: int = PARTS, start: int = 0) -> Tensor:
    return start + torch.arange(len(p.shape)) // parts


def on_walls(draw: Draw, n: int, half: Tensor, height: float) -> Primitives:
    """Draws n pictures, windows, doors, shelves and cupboards on the walls of a room."""
    wall = draw.integer(0, 3, n)
    axis, sign = wall // 2, (wall % 2).float() * 2 - 1
    normal = F.one_hot(axis, 3).float()
    depth = draw.log_uniform(0.03, 0.9, n)
    wide, tall = draw.log_uniform(0.3, 3.5, n), draw.log_uniform(0.3, 3., n)
    center_z = draw.uniform(0.15, 0.85, n) * height
    sideways = torch.stack((normal[:, 1], normal[:, 0], torch.zeros(n)), dim = -1)
    center = normal * (sign * torch.where(axis == 0, half[0], half[1])).unsqueeze(-1) + sideways * draw.uniform(-0.9, 0.9, n, 1) * torch.cat((half, half.new_zeros(1)))
    center = center + center_z.unsqueeze(-1) * UP
    frame = boxes(center, normal * depth[:, None] + sideways * wide[:, None] + tall[:, None] * UP)

    # the content protrudes slightly less than the frame is wide

    inner = frame.half_sizes * (1 - normal) * draw.uniform(0.8, 0.95, n, 1) + normal * (depth * 1.01 + 0.02).unsqueeze(-1)
    pane = boxes(center, inner)
    return Primitives(*(rearrange(torch.stack(parts, dim = 1), 'n two ... -> (n two) ...') for parts in zip(frame, pane, strict = True)))


def room(draw: Draw) -> Stage:
    small = 1. if draw.happens(0.6) else 0.5
    half = draw.uniform(8.5, 15, 2) * small
    height = draw.number(10, 15) * small
    shell = torch.stack((torch.cat((-half, torch.zeros(1))), torch.cat((half, torch.tensor([height])))))
    objects = scattered(draw, int(draw.integer(8, 24)), half * 0.9, (0.5, 3.5))
    walls = on_walls(draw, int(draw.integer(6, 24)), half, height)
    primitives = joined(objects, walls)
    group = torch.cat((object_groups(objects), object_groups(walls, 2, 1000)))

    focus = torch.cat((draw.uniform(-0.6, 0.6, 2) * half, draw.uniform(0.5, 0.4 * height, 1)))
    near = draw.log_number(0.6, 2.5) * small

    if draw.happens(0.3):
        size = draw.number(1., 2.5) * small
        eyes, targets = orbit(draw, focus, size * draw.number(2., 3.5), size, (5, 50))
    else:
        bearing = draw.number(0, 2 * math.pi)
        eye = focus + draw.number(4, 12) * small * torch.tensor([math.cos(bearing), math.sin(bearing), 0.])
        eye[2] = draw.number(0.15, 0.7) * height
        eyes, targets = walk(draw, eye.clamp(shell[0] + 1.5 * small, shell[1] - 1.5 * small), focus, near)

    eyes = eyes.clamp(shell[0] + 0.5 * near, shell[1] - 0.5 * near)
    return Stage(primitives, group, shell, torch.zeros(6, dtype = torch.bool), focus, 0.6 * float(half.max()), eyes, targets, 0.7 * near, draw.log_number(0.45, 1.2))


def open_shell(draw: Draw, reach: float) -> tuple[Tensor, Tensor]:
    """Returns the shell of an outdoor world, a ground under a sky, and which of its faces are sky."""
    is_sky = torch.ones(6, dtype = torch.bool)
    is_sky[GROUND] = False
    return torch.tensor([[-reach, -reach, 0.], [reach, reach, reach]]), is_sky


def open_ground(draw: Draw) -> Stage:
    shell, is_sky = open_shell(draw, draw.log_number(60, 300))
    near_objects = scattered(draw, int(draw.integer(5, 16)), torch.tensor([6., 6.]), (0.4, 2.5))
    far_objects = scattered(draw, int(draw.integer(3, 12)), torch.tensor([30., 30.]), (2., 9.))
    primitives = joined(near_objects, far_objects)
    focus = torch.cat((draw.uniform(-1, 1, 2), draw.uniform(0.3, 1.8, 1)))
    near = draw.log_number(0.6, 3.)

    if draw.happens(0.5):
        eyes, targets = orbit(draw, focus, draw.number(5, 11), 3., (3, 40))
    else:
        bearing = draw.number(0, 2 * math.pi)
        eye = focus + draw.number(5, 12) * torch.tensor([math.cos(bearing), math.sin(bearing), 0.])
        eye[2] = draw.log_number(0.6, 5.)
        eyes, targets = walk(draw, eye, focus, near)

    eyes[:, 2] = eyes[:, 2].clamp(min = 0.3)
    return Stage(primitives, object_groups(primitives), shell, is_sky, focus, 9., eyes, targets, 0.6 * near, draw.log_number(0.5, 1.5))


def studio(draw: Draw) -> Stage:
    """Draws a single detailed object that fills the image, on a table, on a turntable, or without support."""
    body = compounds(draw, 1)
    spin = draw.rotations(1) if draw.happens(0.25) else turns(draw.uniform(0, 2 * math.pi, 1))
    body = placed(body, torch.tensor([[0., 0., 0.]]), torch.ones(1), spin)

    if draw.happens(0.5):
        # one large rounded body, as skulls, shells, heads and fruits have
        core = boxes(torch.tensor([[0., 0., 0.8]]), draw.uniform(0.5, 1., 1, 3), axes = draw.rotations(1), shape = int(draw.one_of((1, 1, 1, 2, 4, 5, 7))))
        body = joined(core, body._replace(half_sizes = body.half_sizes * 0.7))

    # small objects on its surface, in a regular pattern or of random sizes

    n = int(draw.integer(0, 110))
    host = torch.where(draw.chance(0.7, n), 0, draw.integer(0, len(body.shape) - 1, n))
    direction = F.normalize(draw.normal(n, 3), dim = -1)

    if draw.happens(0.5):
        index = torch.arange(n) + 0.5
        polar, around = (1 - 2 * index / max(n, 1)).acos(), index * math.pi * (1 + 5 ** 0.5)
        direction = torch.stack((polar.sin() * around.cos(), polar.sin() * around.sin(), polar.cos()), dim = -1)

    squareness = torch.where(body.shape[host] == BOX, direction.abs().amax(dim = -1), 1.).unsqueeze(-1)
    surface = body.centers[host] + ((direction / squareness * body.half_sizes[host]).unsqueeze(-2) @ body.axes[host]).squeeze(-2)
    small = draw.number(0.04, 0.13) * (draw.number(0., 0.6) * draw.normal(n, 1) + draw.number(0., 0.3) * draw.normal(n, 3)).exp()
    knob_axes = along((direction.unsqueeze(-2) @ body.axes[host]).squeeze(-2))
    kind = (ELLIPSOID, ELLIPSOID, BOX, CYLINDER, CONE, DOME)[int(draw.integer(0, 5))]
    details = boxes(surface, small.clamp(max = 0.3), axes = knob_axes, shape = kind)
    details = details._replace(present = body.present[host])

    # total size, and support

    whole = joined(body, details)
    reach, seen = extents(whole), whole.present.unsqueeze(-1)
    low = torch.where(seen, whole.centers - reach, torch.inf).amin(dim = 0)
    high = torch.where(seen, whole.centers + reach, -torch.inf).amax(dim = 0)
    middle, size = (low + high) / 2, float((high - low).norm()) / 2
    whole = whole._replace(centers = whole.centers - torch.stack((middle[0], middle[1], low[2])))
    focus = torch.tensor([0., 0., float(high[2] - low[2]) / 2])

    clutter = scattered(draw, int(draw.integer(0, 14)), torch.tensor([4., 4.]) * size, (0.1, 0.8))
    outside = clutter.centers[:, :2].norm(dim = -1) > 1.1 * size + extents(clutter)[:, :2].amax(dim = -1)
    clutter = clutter._replace(present = clutter.present & outside)
    marks = boxes(torch.cat((draw.uniform(-1.2, 1.2, 8, 2) * size, torch.full((8, 1), 0.005)), dim = -1), draw.log_uniform(0.05, 0.4, 8, 3) * torch.tensor([1., 1., 0.02]), axes = turns(draw.uniform(0, 7, 8)))
    disc = boxes(torch.tensor([[0., 0., -0.1]]), torch.tensor([[1.5, 1.5, 0.1]]) * size * draw.number(0.4, 1.2), shape = CYLINDER)
    disc = disc._replace(centers = -disc.half_sizes * UP)
    marks = marks._replace(present = marks.present & draw.chance(0.5, 1))
    on_disc = marks.centers[:, :2].norm(dim = -1) < disc.half_sizes[0, 0]

    # without support or on a disc before a plain backdrop; on a table in a room; on the ground outdoors

    fill, focal = draw.number(0.8, 2.1), draw.log_number(0.7, 4.)
    radius = max(2 * size * focal / fill, 1.6 * size)
    reach_of_shell = radius * draw.log_number(1.6, 6.)
    where = draw.number(0, 1)
    backdrop = where < 0.45

    if backdrop:
        shell = torch.tensor([[-1., -1., -1.], [1., 1., 1.]]) * reach_of_shell
        is_sky = torch.zeros(6, dtype = torch.bool)
        disc = disc._replace(present = draw.chance(0.5, 1))
        clutter = clutter._replace(present = clutter.present & False)
        marks = marks._replace(present = marks.present & disc.present & on_disc)
        elevations = (-10, 60)
    else:
        shell = torch.tensor([[-1., -1., 0.], [1., 1., 1.]]) * reach_of_shell
        is_sky = torch.zeros(6, dtype = torch.bool)
        disc = disc._replace(present = torch.zeros(1, dtype = torch.bool))
        elevations = (8, 80)

        if where > 0.85:
            shell, is_sky = open_shell(draw, 20 * radius)

    eyes, targets = orbit(draw, focus, radius, size, elevations)
    eyes = eyes.clamp(shell[0] + 0.05 * radius, shell[1] - 0.05 * radius)
    primitives = joined(disc, marks, whole, clutter)
    one, each = torch.ones(len(whole.shape), dtype = torch.long), len(clutter.shape)
    group = torch.cat((torch.zeros(1, dtype = torch.long), torch.arange(8) + 2000, one, 1000 + torch.arange(each) // PARTS))
    return Stage(primitives, group, shell, is_sky, focus, 1.5 * size, eyes, targets, 0.15 * radius, focal, backdrop)


def facade(draw: Draw) -> Stage:
    """Draws a façade with rows of windows, columns, ledges, steps and a door, and cameras in front of it."""
    shell, is_sky = open_shell(draw, draw.log_number(40, 150))
    wide, tall = draw.number(8, 16), draw.number(6, 14)
    wall = boxes(torch.tensor([[0., 1., tall / 2]]), torch.tensor([[wide, 1., tall / 2]]))
    columns, rows = int(draw.integer(2, 7)), int(draw.integer(1, 4))
    cell_x, cell_z = 2 * wide / columns, tall / rows
    index = torch.arange(columns * rows)
    x, z = (index % columns + 0.5) * cell_x - wide, (index // columns + 0.5) * cell_z
    n = len(index)
    frame_size = torch.tensor([cell_x * draw.number(0.15, 0.4), draw.log_number(0.05, 0.5), cell_z * draw.number(0.2, 0.42)])
    centers = torch.stack((x, torch.zeros(n), z), dim = -1)
    frames = boxes(centers, frame_size.expand(n, 3))
    panes = boxes(centers, (frame_size * torch.tensor([0.8, 1.05, 0.85]) + torch.tensor([0., 0.02, 0.])).expand(n, 3))
    bars = boxes(centers, (frame_size * torch.tensor([0.06, 1.2, 0.85]) + torch.tensor([0., 0.03, 0.])).expand(n, 3))
    sills = boxes(centers - UP * frame_size[2], (frame_size * torch.tensor([1.2, 1.8, 0.08]) + torch.tensor([0., 0.05, 0.02])).expand(n, 3))

    edges = torch.arange(columns + 1) * cell_x - wide
    thickness = draw.log_number(0.1, 0.5)
    posts = boxes(torch.stack((edges, torch.zeros(columns + 1), torch.full((columns + 1,), tall / 2)), dim = -1), torch.tensor([thickness, thickness, tall / 2]).expand(columns + 1, 3), shape = int(draw.one_of((BOX, CYLINDER, FRUSTUM))))
    ledges = boxes(torch.stack((torch.zeros(rows + 1), torch.zeros(rows + 1), torch.arange(rows + 1) * cell_z), dim = -1), torch.tensor([wide, draw.log_number(0.1, 0.6), draw.log_number(0.05, 0.3)]).expand(rows + 1, 3))

    # a door in receding arches, and reliefs of all sizes

    rings = 6
    inwards = torch.arange(rings) / rings
    door_x, door_radius, door_height = draw.number(-0.4, 0.4) * wide, draw.number(1., 2.5), draw.number(1.5, 0.5 * tall)
    arch_axes = torch.tensor([[0., 0., 1.], [1., 0., 0.], [0., 1., 0.]]).expand(rings, 3, 3)
    radii = door_radius * (1 - 0.6 * inwards)
    depth = 0.6 + 0.12 * torch.arange(rings)
    arch_center = torch.stack((torch.full((rings,), door_x), torch.zeros(rings), torch.full((rings,), door_height)), dim = -1)
    arches = boxes(arch_center, torch.stack((radii, radii, depth), dim = -1), axes = arch_axes, shape = ARCH)
    jambs = boxes(arch_center * torch.tensor([1., 1., 0.5]), torch.stack((radii, depth, torch.full((rings,), door_height / 2)), dim = -1))
    steps = boxes(torch.stack((torch.full((rings,), door_x), torch.zeros(rings), 0.1 * torch.arange(rings) + 0.1), dim = -1), torch.stack((torch.full((rings,), 1.6 * door_radius), 2. - 0.25 * torch.arange(rings), torch.full((rings,), 0.1)), dim = -1))
    m = int(draw.integer(5, 40))
    reliefs = boxes(torch.stack((draw.uniform(-wide, wide, m), torch.zeros(m), draw.uniform(0, tall, m)), dim = -1), draw.log_uniform(0.05, 1.2, m, 3) * torch.tensor([1., 0.3, 1.]), shape = draw.one_of((BOX, BOX, ELLIPSOID), m))
    objects = scattered(draw, int(draw.integer(2, 8)), torch.tensor([wide, 3.]), (0.3, 1.6))
    objects = objects._replace(centers = objects.centers - torch.tensor([0., 4., 0.]))

    kept = [group._replace(present = group.present & draw.chance(0.7, 1)) for group in (bars, sills, posts, ledges, arches, jambs, steps, reliefs)]
    has_door = draw.chance(0.7, 1)
    kept[4:7] = [group._replace(present = group.present & has_door) for group in (arches, jambs, steps)]
    parts = (wall, frames, panes, *kept, objects)
    primitives = joined(*parts)
    like = torch.cat([torch.full((len(part.shape),), index) for index, part in enumerate(parts[:-2])] + [100 + torch.arange(m), object_groups(objects, start = 200)])

    focus = torch.tensor([draw.number(-0.5, 0.5) * wide, 0., draw.number(0.25, 0.7) * tall])
    distance = draw.log_number(4, 14)
    eye = torch.tensor([float(focus[0]) + draw.number(-0.6, 0.6) * distance, -distance, draw.number(1., max(2., 0.5 * tall))])

    if draw.happens(0.6):
        eyes, targets = walk(draw, eye, focus, 0.6 * distance)
    else:
        a, b = lattice(draw)
        step = draw.log_number(0.1, 0.8) * distance
        eyes = eye + step * torch.stack((a, 0.3 * b, 0.4 * b), dim = -1)
        targets = focus + torch.tensor([0.7, 0., 0.7]) * (eyes - eye)

    eyes[:, 1], eyes[:, 2] = eyes[:, 1].clamp(max = -2.8), eyes[:, 2].clamp(min = 0.4)
    targets[:, 0], targets[:, 2] = targets[:, 0].clamp(-wide, wide), targets[:, 2].clamp(0.5, tall)
    return Stage(primitives, like, shell, is_sky, focus, 0.9 * wide, eyes, targets, 0.25 * distance, draw.log_number(0.5, 1.3))


def aerial(draw: Draw) -> Stage:
    """Draws a landscape with fields, roads, houses, trees and cars, and cameras above it."""
    shell, is_sky = open_shell(draw, draw.log_number(60, 300))
    half = torch.tensor([28., 28.])

    def flat(n: int, low: tuple[float, float], high: tuple[float, float], thickness: float) -> Primitives:
        place = torch.cat((draw.uniform(-28, 28, n, 2), torch.zeros(n, 1)), dim = -1)
        size = torch.stack((draw.log_uniform(*low, n), draw.log_uniform(*high, n), thickness * (1 + torch.arange(n) / n)), dim = -1)
        return boxes(place, size, axes = turns(draw.number(0, 3) + draw.integer(0, 1, n) * math.pi / 2 + 0.15 * draw.normal(n)), shape = draw.one_of((BOX, BOX, BOX, CYLINDER), n))

    fields = flat(int(draw.integer(2, 12)), (3, 14), (3, 14), 0.01)
    roads = flat(int(draw.integer(0, 6)), (0.3, 1.2), (15, 60), 0.03)
    n = int(draw.integer(0, 16))
    size = torch.stack((draw.log_uniform(0.8, 2.5, n), draw.log_uniform(1., 5., n), draw.log_uniform(0.5, 2.5, n)), dim = -1)
    spin = turns(draw.number(0, 3) + draw.integer(0, 3, n) * math.pi / 2 + 0.1 * draw.normal(n))
    center = torch.cat((spots(draw, n, half * 0.7), size[:, 2:] * 0.9), dim = -1)
    houses = boxes(center, size, axes = spin)

    # a gable is the upper edge of a box rotated by 45 degrees

    tilt = 0.5 ** 0.5 * torch.tensor([[1., 0., 1.], [0., 2 ** 0.5, 0.], [-1., 0., 1.]])
    width = size[:, :1] * 0.5 ** 0.5
    roofs = boxes(center + UP * (size[:, 2:] - 0.25 * width), torch.cat((width, size[:, 1:2] * 1.05, width), dim = -1), axes = tilt @ spin)
    roofs = roofs._replace(present = draw.chance(0.6, n))

    trees = int(draw.log_number(5, 140))
    clumped = spots(draw, trees, half) if draw.happens(0.4) else spots(draw, 5, half)[draw.integer(0, 4, trees)] + 4 * draw.normal(trees, 2)
    radius = draw.log_uniform(0.3, 1.8, trees, 1) * (0.25 * draw.normal(trees, 3)).exp()
    woods = boxes(torch.cat((clumped, radius[:, 2:] * 0.7), dim = -1), radius, shape = draw.one_of((ELLIPSOID, ELLIPSOID, CONE), trees))
    m = int(draw.integer(0, 50))
    small = draw.log_number(0.15, 0.5) * draw.log_uniform(0.5, 2., m, 3)
    rows = draw.happens(0.4)
    where = torch.stack((torch.arange(m) % 3 * 1.2, torch.arange(m) // 3 * 0.8), dim = -1) - 4 if rows else spots(draw, m, half * 0.8)
    things = boxes(torch.cat((where, small[:, 2:]), dim = -1), small, axes = turns(torch.zeros(m) if rows else draw.uniform(0, 7, m)), shape = draw.one_of((BOX, BOX, ELLIPSOID), m))

    parts = (fields, roads, houses, roofs, woods, things)
    primitives = joined(*parts)
    starts = (0, 300, 400, 500, 600, 700)
    alike = draw.integer(0, 2, trees) if draw.happens(0.7) else torch.arange(trees)
    group = torch.cat([start + (alike if part is woods else torch.arange(len(part.shape)) % (1 if part is roads else 1000)) for start, part in zip(starts, parts, strict = True)])

    height = draw.log_number(6, 28)
    pitch = math.radians(draw.number(75, 90) if draw.happens(0.55) else draw.number(25, 75))
    bearing = draw.number(0, 2 * math.pi)
    ahead = torch.tensor([math.cos(bearing), math.sin(bearing), 0.])
    focus = torch.cat((draw.uniform(-8, 8, 2), torch.zeros(1)))
    eye = focus - ahead * height / math.tan(pitch) + UP * height
    a, b = lattice(draw)
    step = draw.log_number(0.1, 0.8) * height
    moves = step * (a[:, None] * torch.linalg.cross(ahead, UP) + b[:, None] * ahead) + 0.03 * height * draw.normal(MAX_VIEWS, 3)
    eyes = eye + moves
    targets = focus + moves * torch.tensor([1., 1., 0.]) * draw.number(0.6, 1.) + draw.number(0., 0.1) * height * draw.normal(MAX_VIEWS, 3) * torch.tensor([1., 1., 0.])
    return Stage(primitives, group, shell, is_sky, focus, 0.8 * height + 6., eyes, targets, 0.25 * height, draw.log_number(0.6, 1.6))
