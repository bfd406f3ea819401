"""Folders of photos with poses, to read as a dataset is read."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.nn.functional as F

from lvsm_pytorch.data.images import save_image
from lvsm_pytorch.geometry.conventions import opencv_to_opengl
from lvsm_pytorch.geometry.trajectories import look_at


def write_photos(folder: Path, *, scenes: int, views: int, size: tuple[int, int]) -> None:
    """`scenes` folders of JPEG files (height, width) of smooth noise, of about the length of photos', and transforms.json, from cameras around the origin."""
    generator = torch.Generator().manual_seed(0)
    height, width = size

    for scene in range(scenes):
        to = folder / f'scene-{scene:03d}'
        to.mkdir(parents = True)
        angles = torch.linspace(0, 3, views)
        cameras = look_at(2 * torch.stack((angles.cos(), angles.sin(), 0.3 * torch.ones(views)), dim = -1), torch.zeros(views, 3), torch.tensor([0., 0., 1.]))
        frames = []

        for view, camera_to_world in enumerate(cameras):
            noise = torch.rand(1, 3, height // 4 + 1, width // 4 + 1, generator = generator)
            save_image(F.interpolate(noise, size = size, mode = 'bicubic')[0].clamp(0, 1), to / f'{view:03d}.jpg', durable = False)
            frames.append(dict(file_path = f'{view:03d}.jpg', transform_matrix = opencv_to_opengl(camera_to_world).tolist()))

        content = dict(fl_x = float(width), fl_y = float(width), cx = width / 2, cy = height / 2, w = width, h = height, frames = frames)
        (to / 'transforms.json').write_text(json.dumps(content), encoding = 'utf-8')
