"""Where a camera goes: through the cameras of photos, around what they look at, or along a path from a file."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lvsm_pytorch.errors import fail
from lvsm_pytorch.files import read_json
from lvsm_pytorch.geometry.cameras import Cameras, interpolate_poses, look_at, opencv_to_opengl

# photos whose azimuths leave no gap wider than this stand all around what they look at

WIDEST_GAP = math.radians(120)

# of cameras that look almost in parallel, what they look at is taken to be so many times as far as they are apart

FAR = 4.
PARALLEL = 1e-3


class Path3D(NamedTuple):
    """cameras: (n ...), in the world of the photos. size: (height, width) that the intrinsics are of. fps: frames a second, where the file says so."""
    cameras: Cameras
    size: tuple[int, int]
    fps: float | None = None


def looked_at(camera_to_world: Tensor) -> Tensor:
    """The point (3) that is nearest to the optical axes of cameras (n 4 4); where they are parallel, one in front of them."""
    centres, forward = camera_to_world[:, :3, 3].double(), camera_to_world[:, :3, 2].double()
    middle, ahead = centres.mean(dim = 0), forward.mean(dim = 0)
    apart = (centres - middle).norm(dim = -1).max().clamp(min = 1e-6)
    fallback = middle + FAR * apart * ahead / ahead.norm().clamp(min = 1e-6)
    across = torch.eye(3, dtype = torch.float64) - forward.unsqueeze(-1) * forward.unsqueeze(-2)
    system = across.sum(dim = 0) + PARALLEL * len(centres) * torch.eye(3, dtype = torch.float64)
    point = torch.linalg.solve(system, (across @ centres.unsqueeze(-1)).sum(dim = 0).squeeze(-1) + PARALLEL * len(centres) * fallback)
    return (point if (point - middle) @ ahead > 0 else fallback).to(camera_to_world)


def up_of(camera_to_world: Tensor) -> Tensor:
    """The unit direction (3) that is up, by cameras (n 4 4) that people hold level: across their x axes, and as their y axes have it where those leave it open."""
    right, up = camera_to_world[:, :3, 0].double(), -camera_to_world[:, :3, 1].double().mean(dim = 0)
    system = right.mT @ right / len(right) + PARALLEL * torch.eye(3, dtype = torch.float64)
    across = torch.linalg.solve(system, PARALLEL * up)
    return (across / across.norm().clamp(min = 1e-12)).to(camera_to_world)


def orbit(camera_to_world: Tensor, num_frames: int) -> Tensor:
    """Camera to world (num_frames 4 4) around what the cameras (n 4 4) look at, at their median distance and height.

    Where they stand all around it, this is one full turn; else it goes from one side of them to the other and back, since nobody
    knows what is behind. Up is theirs (`up_of`).
    """
    target = looked_at(camera_to_world)
    offset = camera_to_world[:, :3, 3] - target
    up = up_of(camera_to_world)
    x = offset.mean(dim = 0)
    some_axis = torch.eye(3, dtype = up.dtype)[up.abs().argmin()]
    x = torch.linalg.cross(up, torch.linalg.cross(x if x.norm() > 1e-6 else some_axis, up))
    x = x if x.norm() > 1e-6 else torch.linalg.cross(up, some_axis)
    x = x / x.norm()
    y = torch.linalg.cross(up, x)

    azimuth = torch.atan2(offset @ y, offset @ x)
    radius, elevation = offset.norm(dim = -1), torch.asin((offset @ up / offset.norm(dim = -1).clamp(min = 1e-12)).clamp(-1, 1))
    turn = torch.arange(num_frames, dtype = up.dtype) * (2 * math.pi / num_frames)
    first, last = arc(azimuth)
    around = turn if last - first >= 2 * math.pi else (first + last) / 2 + (last - first) / 2 * turn.sin()
    height, distance = elevation.median(), radius.median()
    eye = target + distance * (height.cos() * (around.cos().unsqueeze(-1) * x + around.sin().unsqueeze(-1) * y) + height.sin() * up)
    return look_at(eye, target, up)


def arc(azimuth: Tensor) -> tuple[float, float]:
    """From where to where azimuths (n) reach, in radians; a whole turn where they leave no wide gap."""
    ordered = azimuth.sort().values
    gaps = torch.cat((ordered.diff(), ordered[:1] + 2 * math.pi - ordered[-1:]))
    widest = int(gaps.argmax())

    if gaps[widest] < WIDEST_GAP:
        return 0., 2 * math.pi

    first = float(ordered[(widest + 1) % len(ordered)])
    return first, first + 2 * math.pi - float(gaps[widest])


def interpolation(camera_to_world: Tensor, num_frames: int) -> Tensor:
    """Camera to world (num_frames 4 4) through all cameras (n 4 4), in a short way: from the first always on to the nearest that is left."""
    left, way = list(range(1, len(camera_to_world))), [0]
    centres = camera_to_world[:, :3, 3]

    while left:
        nearest = min(left, key = lambda index: float((centres[index] - centres[way[-1]]).norm()))
        left.remove(nearest)
        way.append(nearest)

    return interpolate_poses(camera_to_world[way], num_frames)


def read_path(path: Path, size: tuple[int, int], intrinsics: Tensor, data: Path | None = None) -> Path3D:
    """A camera path from JSON.

    Ours: {"camera_to_world": [4 × 4, ..]}, OpenCV axes, in the world of the photos, and if they are to differ from those given,
    "intrinsics": [3 × 3, ..] or one 3 × 3, in pixels, of "size": [height, width]; "fps".

    nerfstudio's: {"camera_path": [{"camera_to_world": 16 numbers, "fov": degrees, down}, ..], "render_height", "render_width", "fps"}, OpenGL
    axes, in the world that nerfstudio has made of that of the photos. How, says the dataparser_transforms.json that it wrote with
    its model: put it beside the path.

    size, intrinsics (3 3): where the file says none. data: of the photos, whose transforms.json may say how nerfstudio had moved them before.
    Errors: ValueError for what is neither.
    """
    try:
        content = json.loads(path.read_text(encoding = 'utf-8'))
    except (OSError, ValueError) as error:
        raise ValueError(f'path: must be interpolate, orbit, held-out or a readable JSON file, but got {path}: {error}. See lvsm render --help.') from error

    if not isinstance(content, dict) or not {'camera_to_world', 'camera_path'} & set(content):
        fail('path', 'must be a JSON object with camera_to_world, or nerfstudio\'s camera_path', path, 'See lvsm render --help.')

    if 'camera_path' in content:
        return read_nerfstudio(path, content, data)

    size = tuple(int(length) for length in content.get('size', size))  # pyright: ignore[reportAssignmentType]
    poses = numbers(path, 'camera_to_world', content['camera_to_world'], (-1, 4, 4))
    intrinsics = numbers(path, 'intrinsics', content['intrinsics'], (-1, 3, 3)) if 'intrinsics' in content else intrinsics.unsqueeze(0)

    if len(intrinsics) not in (1, len(poses)):
        fail(str(path), f'must have one matrix of intrinsics, or as many as poses, {len(poses)}', len(intrinsics), 'Leave them out for those of the photos.')

    return Path3D(Cameras(poses, intrinsics.expand(len(poses), 3, 3)), size, content.get('fps'))


def read_nerfstudio(path: Path, content: dict[str, Any], data: Path | None) -> Path3D:
    try:
        frames, height, width = content['camera_path'], int(content['render_height']), int(content['render_width'])
        poses = numbers(path, 'camera_to_world', [frame['camera_to_world'] for frame in frames], (-1, 4, 4))
        fov = numbers(path, 'fov', [frame['fov'] for frame in frames], (-1,))
    except (KeyError, TypeError) as error:
        raise ValueError(f'{path}: must have camera_path with camera_to_world and fov, render_height and render_width, but {error} is missing. nerfstudio\'s viewer writes them.') from error

    focal = height / 2 / torch.deg2rad(fov / 2).tan()
    intrinsics = torch.zeros(len(poses), 3, 3)
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = focal
    intrinsics[:, 0, 2], intrinsics[:, 1, 2], intrinsics[:, 2, 2] = width / 2, height / 2, 1
    transforms = path.with_name('dataparser_transforms.json')

    if transforms.is_file():
        told = read_json(transforms)
        to_theirs = numbers(transforms, 'transform', told.get('transform'), (3, 4)).double()
        poses = poses.double()
        poses[:, :3, 3] /= float(told.get('scale', 1.))
        poses[:, :3, 3] = (poses[:, :3, 3] - to_theirs[:, 3]) @ to_theirs[:, :3]
        poses[:, :3, :3] = to_theirs[:, :3].T @ poses[:, :3, :3]
        poses = applied_to(data) @ poses

    return Path3D(Cameras(opencv_to_opengl(poses).float(), intrinsics), (height, width), content.get('fps'))


def applied_to(data: Path | None) -> Tensor:
    """What `ns-process-data` did to the world of COLMAP before it wrote transforms.json, (4 4), which dataparser_transforms.json counts as its own."""
    found = torch.eye(4, dtype = torch.float64)
    file = data / 'transforms.json' if data is not None and data.is_dir() else data

    if file is not None and file.is_file() and file.suffix == '.json':
        told = read_json(file).get('applied_transform')
        found[:3] = found[:3] if told is None else numbers(file, 'applied_transform', told, (3, 4))

    return found


def numbers(path: Path, name: str, values: Any, shape: tuple[int, ...]) -> Tensor:
    """As a tensor of that shape. Errors: ValueError for what has no such."""
    try:
        found = torch.tensor(values, dtype = torch.float32).reshape(shape)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f'{path}: must have numbers {" × ".join(str(length) if length > 0 else "n" for length in shape)} as {name}, but {error}. See lvsm render --help.') from error

    if found.numel() == 0 or not found.isfinite().all():
        fail(str(path), f'must have finite numbers as {name}', 'none' if found.numel() == 0 else 'inf or nan', 'Take out what has no camera.')

    return found
