"""Whether a device computes what it should: against float64 on the CPU, the plain reference, and the paper authors' network where its files are at hand."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests')]

from conftest import known_cameras, tiny_model  # noqa: E402
from plain_lvsm import plain_lvsm, random_weights  # noqa: E402

from lvsm_pytorch import LVSM  # noqa: E402
from lvsm_pytorch.geometry.cameras import Cameras  # noqa: E402
from lvsm_pytorch.geometry.rays import plucker_rays  # noqa: E402

GOLDEN = ROOT.parent / 'shared' / 'golden'
SIZE = (32, 32)

# what rounding may do: to pixels, and to gradients, of which the largest is 1

PIXELS, GRADIENTS, PIXELS_IN_BFLOAT16 = 1e-4, 1e-3, 0.05

# the sweep of features takes the plane nearest to a distance: where two are equally near, rounding decides, so that a few pixels may differ by anything

JUMPS = 'plane sweep of features'
SHARE_WITHOUT_JUMPS = 0.95

VARIANTS: dict[str, dict[str, Any]] = {
    "the paper's": {},
    'cacheable': dict(input_attends_target = False),
    'prope': dict(camera_encoding = 'prope', input_attends_target = False),
    'plane sweep of colors': dict(num_depth_planes = 6),
    'plane sweep of features': dict(num_depth_planes = 6, plane_sweep = 'features', camera_encoding = 'prope', input_attends_target = False),
    'checkpointing': dict(num_depth_planes = 6, camera_encoding = 'prope', gradient_checkpointing = True),
}


class Check(NamedTuple):
    """difference: the largest. most: that it may be."""
    name: str
    difference: float
    most: float

    @property
    def holds(self) -> bool:
        return self.difference <= self.most


def checks(device: torch.device) -> Iterator[Check]:
    """All of them, one after the other."""
    with in_full_precision():
        for name, options in VARIANTS.items():
            yield from of_variant(name, options, device)

        yield of_plain_reference(device)

        for name in ('small', 'multi') if GOLDEN.is_dir() else ():
            yield of_golden(name, device)


@contextmanager
def in_full_precision() -> Iterator[None]:
    """Without TensorFloat-32, which convolutions have by default."""
    before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision('highest')

    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before[0]
        torch.set_float32_matmul_precision(before[1])


def of_variant(name: str, options: dict[str, Any], device: torch.device) -> Iterator[Check]:
    """Views and gradients against float64 on the CPU; encoded once and rendered one after the other; in bfloat16; of padded inputs."""
    torch.manual_seed(0)
    exact = tiny_model(**options).double()
    share = SHARE_WITHOUT_JUMPS if name == JUMPS else 1.

    for parameter in exact.parameters():
        parameter.data *= parameter[0, 0].numel() ** -0.5 if parameter.ndim > 2 else 1.  # kernels as large as matrices

    arguments = scene_of(inputs = 3, targets = 2)
    wanted, wanted_gradients = views_and_gradients(exact, arguments)

    model = copy.deepcopy(exact).float().to(device)
    there = moved(arguments, lambda t: t.to(device, torch.float32 if t.is_floating_point() else t.dtype))
    views, gradients = views_and_gradients(model, there)
    yield Check(f'{name}: views', largest(views, wanted, share), PIXELS)
    yield Check(f'{name}: gradients', max(largest(each, other, share) / max(float(other.abs().max()), 1e-3) for each, other in zip(gradients, wanted_gradients, strict = True)), GRADIENTS)

    with torch.no_grad():
        cameras: Cameras = there['cameras']
        scene = model.encode(there['input_images'], there['input_rays'], there['num_input_images'], cameras[:, :3], there['depth_range'])
        rendered = model.render(scene, there['target_rays'], cameras = cameras[:, 3:], chunk_size = 1)
        yield Check(f'{name}: encoded and rendered', largest(rendered, wanted, share), PIXELS)

        with torch.autocast(device.type, torch.bfloat16):
            yield Check(f'{name}: bfloat16', largest(model(**there), wanted, share), PIXELS_IN_BFLOAT16)


def scene_of(*, inputs: int, targets: int) -> dict[str, Any]:
    """Two scenes in float64, the second with one view of padding."""
    cameras = known_cameras(2, inputs + targets, size = SIZE).to(torch.float64)
    rays = plucker_rays(*cameras, image_size = SIZE)
    return dict(
        input_images = torch.rand(2, inputs, 3, *SIZE, dtype = torch.float64), input_rays = rays[:, :inputs], target_rays = rays[:, inputs:],
        num_input_images = torch.tensor([inputs, inputs - 1]), cameras = cameras, depth_range = torch.tensor([[1., 6.]] * 2, dtype = torch.float64),
    )


def moved(arguments: dict[str, Any], function: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    return {name: value.map(function) if isinstance(value, Cameras) else function(value) for name, value in arguments.items()}


def views_and_gradients(model: LVSM, arguments: dict[str, Any]) -> tuple[Tensor, list[Tensor]]:
    views = model(**arguments)
    views.square().mean().backward()
    return views.detach(), [p.grad for p in model.parameters() if p.grad is not None]


def of_plain_reference(device: torch.device) -> Check:
    torch.manual_seed(0)
    weights = random_weights(dim = 64, dim_head = 32, depth = 2, patch_size = 8)
    model = LVSM.from_official(weights).to(device)
    images, cameras = torch.rand(1, 2, 3, *SIZE), known_cameras(1, 3, size = SIZE)
    rays = plucker_rays(*cameras, image_size = SIZE)
    origins_and_directions = [(cameras.camera_to_world[0, index, :3, 3].view(3, 1, 1).expand(3, *SIZE), rays[0, index, :3]) for index in range(3)]

    with torch.no_grad():
        view = model(images.to(device), rays[:, :2].to(device), rays[:, 2].to(device))[0]

    return Check('the plain reference', largest(view, plain_lvsm(weights, images[0], origins_and_directions[:2], origins_and_directions[2], 8)), PIXELS)


def of_golden(name: str, device: torch.device) -> Check:
    """The authors' network, from files beside the checkout."""
    from safetensors.torch import load_file

    io, sizes = load_file(GOLDEN / f'{name}.io.safetensors'), json.loads((GOLDEN / f'{name}.json').read_text(encoding = 'utf-8'))
    model = LVSM.from_official(GOLDEN / f'{name}.pt', max_image_size = 64).to(device)
    v = sizes['num_input_views']
    origins, directions = (torch.cat((io[f'input_ray_{part}'], io[f'target_ray_{part}']), dim = 1) for part in 'od')
    rays = torch.cat((directions, torch.linalg.cross(origins, directions, dim = 2)), dim = 2).to(device)

    with torch.no_grad():
        return Check(f"the authors' network, {name}", largest(model(io['image'][:, :v].to(device), rays[:, :v], rays[:, v:]), io['render']), PIXELS)


def largest(a: Tensor, b: Tensor, share: float = 1.) -> float:
    """Difference of values; with a share, the largest of so many of them."""
    difference = (a.detach().cpu().double() - b.detach().cpu().double()).abs()
    return float(difference.max() if share == 1 else difference.flatten().quantile(share))
