"""Camera paths in JSON files, in the format of this library or of nerfstudio."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lvsm_pytorch.errors import fail
from lvsm_pytorch.files import read_json
from lvsm_pytorch.geometry.cameras import Cameras
from lvsm_pytorch.geometry.conventions import opencv_to_opengl


class Path3D(NamedTuple):
    """A camera path.

    Attributes:
        cameras: Cameras (n ...) in the world of the photos.
        size: (height, width) in pixels to which the intrinsics refer.
        fps: Frames per second; None if the file does not have it.
    """
    cameras: Cameras
    size: tuple[int, int]
    fps: float | None = None


def read_path(path: Path, size: tuple[int, int], intrinsics: Tensor, data: Path | None = None) -> Path3D:
    """Reads a camera path from a JSON file.

    Format of this library: {"camera_to_world": [4 × 4, ..]} with OpenCV axes, in the world of the photos. Optional: "intrinsics", one 3 × 3
    for each pose or a single one, in pixels of "size": [height, width]; "fps".

    Format of nerfstudio: {"camera_path": [{"camera_to_world": 16 numbers, "fov": vertical, in degrees}, ..], "render_height", "render_width",
    "fps"} with OpenGL axes, in nerfstudio's own world. The transform from the world of the photos is in the dataparser_transforms.json that
    nerfstudio writes with its model; it is read from the folder of the path.

    Args:
        path: JSON file.
        size: Default (height, width) in pixels.
        intrinsics: Default intrinsics (3 3) in pixels of `size`.
        data: Dataset of the photos. Its transforms.json may have the transform that `ns-process-data` applied.

    Raises:
        ValueError: If the file has neither format.
    """
    try:
        content = json.loads(path.expanduser().read_text(encoding = 'utf-8-sig'))
    except (OSError, ValueError) as error:
        raise ValueError(f'path: must be interpolate, orbit, held-out or a readable JSON file, but got {path}: {error}. See lvsm render --help.') from error

    if not isinstance(content, dict) or not {'camera_to_world', 'camera_path'} & set(content):
        fail('path', 'must be a JSON object with camera_to_world, or nerfstudio\'s camera_path', path, 'See lvsm render --help.')

    if 'camera_path' in content:
        return read_nerfstudio(path, content, data)

    size = tuple(int(length) for length in content.get('size', size))  # pyright: ignore[reportAssignmentType]
    poses = numbers(path, 'camera_to_world', content['camera_to_world'], (-1, 4, 4), torch.float64)
    intrinsics = numbers(path, 'intrinsics', content['intrinsics'], (-1, 3, 3)) if 'intrinsics' in content else intrinsics.unsqueeze(0)

    if len(intrinsics) not in (1, len(poses)):
        fail(str(path), f'must have one matrix of intrinsics, or as many as poses, {len(poses)}', len(intrinsics), 'Omit them to use those of the photos.')

    return Path3D(Cameras(poses, intrinsics.expand(len(poses), 3, 3)), size, content.get('fps'))


def read_nerfstudio(path: Path, content: dict[str, Any], data: Path | None) -> Path3D:
    try:
        frames, height, width = content['camera_path'], int(content['render_height']), int(content['render_width'])
        poses = numbers(path, 'camera_to_world', [frame['camera_to_world'] for frame in frames], (-1, 4, 4), torch.float64)
        types = sorted({str(content.get('camera_type', 'perspective')), *(str(frame.get('camera_type', 'perspective')) for frame in frames)} - {'perspective'})
        fov = numbers(path, 'fov', [frame['fov'] for frame in frames], (-1,))
    except (KeyError, TypeError) as error:
        raise ValueError(f'{path}: must have camera_path with camera_to_world and fov, render_height and render_width, but {error} is missing. nerfstudio\'s viewer writes them.') from error

    if types:
        fail(str(path), 'must be of perspective cameras', f'camera_type {", ".join(types)}', 'Choose Perspective in nerfstudio\'s viewer, and save the path again.')

    focal = height / 2 / torch.deg2rad(fov / 2).tan()
    intrinsics = torch.zeros(len(poses), 3, 3)
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = focal
    intrinsics[:, 0, 2], intrinsics[:, 1, 2], intrinsics[:, 2, 2] = width / 2, height / 2, 1
    transforms = path.with_name('dataparser_transforms.json')

    if transforms.is_file():
        dataparser = read_json(transforms)
        to_theirs = numbers(transforms, 'transform', dataparser.get('transform'), (3, 4), torch.float64)
        poses[:, :3, 3] /= float(dataparser.get('scale', 1.))
        poses[:, :3, 3] = (poses[:, :3, 3] - to_theirs[:, 3]) @ to_theirs[:, :3]
        poses[:, :3, :3] = to_theirs[:, :3].T @ poses[:, :3, :3]
        poses = applied_transform(data) @ poses
    else:
        warnings.warn(f'{path} is in the world of nerfstudio, and {transforms.name} with the transform from the photos is not beside it: unless both worlds are the same, '
                      'the video shows another place. nerfstudio writes the file beside config.yml of its model', stacklevel = 3)

    return Path3D(Cameras(opencv_to_opengl(poses), intrinsics), (height, width), content.get('fps'))


def applied_transform(data: Path | None) -> Tensor:
    """Returns the transform (4 4) that `ns-process-data` applied to the world of COLMAP, from transforms.json. dataparser_transforms.json includes it."""
    found = torch.eye(4, dtype = torch.float64)
    file = data / 'transforms.json' if data is not None and data.is_dir() else data

    if file is not None and file.is_file() and file.suffix == '.json':
        applied = read_json(file).get('applied_transform')
        found[:3] = found[:3] if applied is None else numbers(file, 'applied_transform', applied, (3, 4), torch.float64)

    return found


def numbers(path: Path, name: str, values: Any, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """Converts values of a JSON file to a tensor of the given shape.

    Raises:
        ValueError: If they have another shape, or are empty or not finite.
    """
    try:
        found = torch.tensor(values, dtype = dtype).reshape(shape)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f'{path}: must have numbers {" × ".join(str(length) if length > 0 else "n" for length in shape)} as {name}, but {error}. See lvsm render --help.') from error

    if found.numel() == 0 or not found.isfinite().all():
        fail(str(path), f'must have finite numbers as {name}', 'none' if found.numel() == 0 else 'inf or nan', 'Remove frames without a camera.')

    return found
