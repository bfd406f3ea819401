"""Appearance of procedural worlds: colours, patterns and lighting."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lvsm_pytorch.data.worlds.layouts import UP, Stage
from lvsm_pytorch.data.worlds.objects import MAX_PRIMITIVES, Draw
from lvsm_pytorch.data.worlds.textures import NUM_NOISE, NUM_PATTERNS

# hues of brick, wood, skin, sand, grass and sky, in hundredths of a full turn from red
NATURAL_HUES = 2, 6, 8, 10, 12, 15, 22, 30, 57, 60


class Surfaces(NamedTuple):
    """Surfaces of k primitives and, last, of the six faces of the shell: low x, high x, low y, ..."""
    pattern: Tensor     # k, index in the bank of patterns
    frequency: Tensor   # k, periods of the pattern per unit of length
    offset: Tensor      # k 2
    turn: Tensor        # k 2, cosine and sine
    color: Tensor       # k 3, mean albedo
    contrast: Tensor    # k 3 3, from channels of the pattern to colours
    detail: Tensor      # k 3: pattern, frequency and strength of a finer layer of gray
    gloss: Tensor       # k
    glow: Tensor        # k, emitted light
    wrapped: Tensor     # k, 1 if the pattern is wrapped around the z axis, 0 if it is projected along axes


class Lighting(NamedTuple):
    position: Tensor    # 3, of the main light
    focus: Tensor       # 3, point that it is directed at
    reach: Tensor       # (), radius around the focus within which objects cast shadows
    color: Tensor       # 3
    fading: Tensor      # (), decay with distance: 0 for the sun, 1 for a lamp
    shadow: Tensor      # (), strength
    fill: Tensor        # 3, direction to a second light; the length is its strength
    sky: Tensor         # 3, ambient light from above
    ground: Tensor      # 3, ambient light from below
    corners: Tensor     # (), darkening where faces of the shell meet
    horizon: Tensor     # 3, colours of the sky
    zenith: Tensor      # 3
    clouds: Tensor      # 3: pattern, frequency, strength
    haze: Tensor        # (), inverse of the distance at which haze hides objects
    brightness: Tensor  # (), mean value of the first image


def make_surfaces(draw: Draw, stage: Stage) -> Surfaces:
    """Draws the surfaces of all primitives, padded, and of the shell. Parts of an object often share a surface."""
    k = MAX_PRIMITIVES + 6
    palette = colors(draw, 7)
    vividness = draw.log_number(0.3, 1.4)
    color = palette[draw.integer(0, 6, k)] * draw.uniform(0.7, 1.3, k, 1) + 0.02 * draw.normal(k, 3)

    # contrast: mostly in brightness, not in hue

    light_dark = F.normalize(color.clamp(min = 0.05) + 0.3, dim = -1) * 1.7
    strength = vividness * draw.log_uniform(0.15, 1.8, k, 1) * torch.where(draw.chance(0.25, k, 1), 0.15, 1.)
    axes = draw.rotations(k)
    chroma = draw.log_number(0.03, 0.25) * draw.normal(k, 2, 3)
    contrast = torch.cat((light_dark.unsqueeze(1), chroma), dim = 1) * strength.unsqueeze(-1)
    contrast = contrast.mT @ axes

    # periods in proportion to sizes: from a fraction of one to many on a primitive

    largest = stage.primitives.half_sizes.amax(dim = -1)[:MAX_PRIMITIVES]
    scale = torch.ones(k)
    scale[:len(largest)] = largest.clamp(min = 0.01)
    distance = float((stage.eyes[0] - stage.focus).norm())
    scale[-6:] = distance
    frequency = draw.log_uniform(0.12, 2.5, k) / (2 * scale)
    detail = torch.stack((draw.integer(0, NUM_PATTERNS - 1, k).float(), frequency * draw.log_uniform(3., 14., k), draw.uniform(0.2, 2.2, k) * draw.chance(0.75, k)), dim = -1)

    gloss = draw.uniform(0., 0.6, k) * draw.chance(0.35, k) * float(draw.happens(0.6))
    glow = draw.uniform(0.3, 0.9, k) * draw.chance(0.04, k)
    glow[-6:] = 0.
    wrapped = draw.chance(0.6, k).float()
    turn = torch.where(draw.chance(0.6, k), draw.integer(0, 3, k) * math.pi / 2, draw.uniform(0, 2 * math.pi, k))
    surfaces = Surfaces(draw.integer(0, NUM_PATTERNS - 1, k), frequency, draw.uniform(0, 1, k, 2), torch.stack((turn.cos(), turn.sin()), dim = -1), color, contrast, detail, gloss, glow, wrapped)

    # a primitive has the surface of its group, or its own

    group = torch.cat((stage.group[:MAX_PRIMITIVES], torch.arange(k - min(len(stage.group), MAX_PRIMITIVES)) + 10 ** 6))
    _, inverse = group.unique(return_inverse = True)
    leader = torch.full((k,), k).scatter_reduce(0, inverse, torch.arange(k), 'amin')[inverse]
    share = draw.number(0.1, 1.)
    leader = torch.where(draw.chance(share, k), leader, torch.arange(k))
    shell_alike = draw.happens(0.6)

    if stage.backdrop:
        leader[-6:] = k - 6
    elif shell_alike:
        leader[-6:-2] = k - 6

    s = Surfaces(*(t[leader] for t in surfaces))
    s = s._replace(frequency = torch.where(draw.chance(0.5, k), s.frequency, frequency), offset = surfaces.offset)

    # shells: outdoor ground is rougher than walls; backdrops are black, white, plain, or blurred

    if stage.backdrop:
        tone = draw.number(0, 1)
        plain = torch.tensor([0.02, 0.02, 0.02]) if tone < 0.35 else torch.tensor([0.95, 0.95, 0.95]) if tone < 0.55 else s.color[-1]
        blur = 0. if tone < 0.75 else 1.
        s.color[-6:], s.contrast[-6:] = plain, s.contrast[-6:] * blur
        s.detail[-6:, 2] = 0.
        s.frequency[-6:] = draw.log_number(0.02, 0.1) / distance
        s.gloss[-6:] = 0.
        s.glow[-6:] = 0.9 if tone < 0.55 else 0.
    else:
        s.detail[-6:, 2] = s.detail[-6:, 2].clamp(min = draw.number(0., 1.))
        s.contrast[-6:] *= draw.uniform(0.2, 1., 6, 1, 1)

    return s


def colors(draw: Draw, n: int) -> Tensor:
    """Draws a palette of colours (n 3): many of one hue, few saturated."""
    hue = float(draw.one_of(NATURAL_HUES)) / 100 if draw.happens(0.8) else draw.number(0, 1)
    others = torch.where(draw.chance(0.75, n), draw.one_of(NATURAL_HUES, n) / 100, draw.uniform(0, 1, n))
    hues = (torch.where(draw.chance(0.6, n), hue, others) + 0.03 * draw.normal(n)).remainder(1)
    saturation = draw.uniform(0, 1, n) ** 1.3 * (0.15 + 0.8 * draw.number(0., 1.) ** 1.3)
    # purple, pink and turquoise are rare

    rare = ((hues > 0.64) & (hues < 0.98)) | ((hues > 0.38) & (hues < 0.52))
    saturation = torch.where(rare & draw.chance(0.85, n), 0.3 * saturation, saturation)
    value = draw.uniform(0.08, 1., n) ** draw.number(0.4, 1.4)
    wheel = ((hues.unsqueeze(-1) * 6 + torch.tensor([0., 4., 2.])).remainder(6) - 3).abs() - 1
    return value.unsqueeze(-1) * (1 - saturation.unsqueeze(-1) * (1 - wheel.clamp(0, 1)))


def make_lighting(draw: Draw, stage: Stage) -> Lighting:
    outside = bool(stage.is_sky.any())
    indoors = not outside and not stage.backdrop
    direction = F.normalize(draw.normal(3) * torch.tensor([1., 1., 0.]) + UP * draw.number(0.4, 2.), dim = 0)
    lamp = indoors and draw.happens(0.6)
    position = stage.focus + direction * stage.size * (draw.number(1.5, 4.) if lamp else 20.)

    if lamp:
        position = position.clamp(stage.shell[0] + 0.3, stage.shell[1] - 0.3)
        position[2] = max(float(position[2]), float(stage.focus[2]) + 0.5 * stage.size)

    warm = torch.tensor([1., 0., -1.])
    warmth = 1 + 0.1 * draw.normal(1) * warm + 0.02 * draw.normal(3)
    balance = draw.number(0.15, 0.75)   # fraction of direct light
    ambient = (1 - balance) * (1 + 0.08 * draw.normal(1) * warm + 0.02 * draw.normal(3))
    horizon, zenith = draw.number(0.6, 1.) * (1 - draw.uniform(0., 0.15, 3)), draw.number(0.4, 1.) * (1 - draw.number(0., 0.7) * torch.tensor([1., 0.55, 0.1]))
    return Lighting(
        position = position,
        focus = stage.focus,
        reach = torch.tensor(stage.size * 1.2),
        color = 1.3 * balance * warmth,
        fading = torch.tensor(float(lamp)),
        shadow = torch.tensor(draw.number(0.5, 1.) if draw.happens(0.75) else 0.),
        fill = F.normalize(draw.normal(3), dim = 0) * draw.number(0., 0.35),
        sky = ambient,
        ground = ambient * draw.number(0.35, 0.9),
        corners = torch.tensor(draw.number(0.2, 0.7) if indoors else 0.),
        horizon = horizon,
        zenith = zenith,
        clouds = torch.stack((draw.integer(0, NUM_NOISE - 1), draw.log_uniform(0.05, 0.5), draw.uniform(0., 1.2) * draw.chance(0.6))),
        haze = torch.tensor(draw.log_number(0.002, 0.02) if outside else 0.),
        brightness = torch.tensor(draw.number(0.35, 0.62)),
    )
