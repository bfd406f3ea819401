"""Generation of a procedural world from its seed: layout, appearance and cameras."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lvsm_pytorch.data.worlds.appearance import Lighting, Surfaces, make_lighting, make_surfaces
from lvsm_pytorch.data.worlds.layouts import MAX_VIEWS, UP, Stage, aerial, facade, open_ground, room, studio
from lvsm_pytorch.data.worlds.objects import MAX_PRIMITIVES, Draw, Primitives
from lvsm_pytorch.geometry import look_at


class Views(NamedTuple):
    camera_to_world: Tensor     # v 4 4
    focal: Tensor               # v, in image widths
    principal: Tensor           # v 2, principal point in image widths
    gain: Tensor                # v 3, errors of exposure and white balance


class World(NamedTuple):
    primitives: Primitives
    surfaces: Surfaces
    shell: Tensor       # 2 3, low and high
    is_sky: Tensor      # 6, bool
    lighting: Lighting
    views: Views


def make_world(seed: int) -> World:
    draw = Draw(seed)
    kind = int(torch.multinomial(torch.tensor([0.25, 0.15, 0.32, 0.12, 0.16]), 1, generator = draw.generator))
    stage = (room, open_ground, studio, facade, aerial)[kind](draw)
    primitives = cleared(stage)
    surfaces = make_surfaces(draw, stage)

    # images are upright except for a small roll; images from above have any orientation

    roll = draw.number(0.005, 0.06)
    up = UP + roll * draw.normal(MAX_VIEWS, 3)

    if kind == 4 or (kind == 2 and draw.happens(0.1)):
        up = up + 0.3 * torch.cat((F.normalize(draw.normal(2), dim = 0), torch.zeros(1)))

    camera_to_world = look_at(stage.eyes, stage.targets, up)
    zoom = draw.number(0., 0.05) * float(draw.happens(0.4))
    focal = stage.focal * (zoom * draw.normal(MAX_VIEWS)).exp()
    principal = 0.5 + draw.number(0., 0.04) * draw.uniform(-1, 1, 2) + torch.zeros(MAX_VIEWS, 2)
    error = draw.number(0., 0.05) * float(draw.happens(0.4))
    gain = 1 + error * draw.normal(MAX_VIEWS, 1) + 0.3 * error * draw.normal(MAX_VIEWS, 3)
    return World(primitives, surfaces, stage.shell, stage.is_sky, make_lighting(draw, stage), Views(camera_to_world, focal, principal, gain))


def cleared(stage: Stage) -> Primitives:
    """Removes primitives of a stage that are too close to a camera, and pads the others to a fixed number."""
    p = stage.primitives
    local = torch.einsum('kij,vkj->vki', p.axes, stage.eyes.unsqueeze(1) - p.centers)
    distance = (local.abs() - p.half_sizes).clamp(min = 0).norm(dim = -1).amin(dim = 0)
    p = p._replace(present = p.present & (distance > stage.near))

    def padded(t: Tensor) -> Tensor:
        return torch.cat((t[:MAX_PRIMITIVES], t.new_zeros(max(MAX_PRIMITIVES - len(t), 0), *t.shape[1:])))

    half_sizes = padded(p.half_sizes).clamp(min = 1e-3)
    return Primitives(padded(p.centers), half_sizes, padded(p.axes), padded(p.shape), padded(p.present))


def stacked(worlds: list[World], device: torch.device) -> World:
    """Stacks worlds to a batch (s ...) on a device."""
    def stack(values: tuple) -> object:
        if isinstance(values[0], Tensor):
            return torch.stack(values).to(device)

        return type(values[0])(*(stack(fields) for fields in zip(*values, strict = True)))

    return stack(tuple(worlds))  # type: ignore[return-value]
