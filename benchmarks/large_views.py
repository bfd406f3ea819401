"""How views larger than in training are rendered best: python benchmarks/large_views.py --data DIR [DIR ...] [--views 4]

The first held-out views of photo sets, at twice the size of training, from the three nearest photos: rendered at the size of training and enlarged,
at once at the whole size, and in tiles; with photos encoded at the size of training and at twice that. PSNR and SSIM against the truth, and CPU
seconds per view.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from lvsm_pytorch.configs.render import RenderConfig
from lvsm_pytorch.data import cameras_of
from lvsm_pytorch.data.scene import hold_out
from lvsm_pytorch.evaluation.metrics import score
from lvsm_pytorch.geometry.cameras import Cameras, scale_intrinsics
from lvsm_pytorch.geometry.view_selection import nearest_views
from lvsm_pytorch.inference.large_views import render_tiled
from lvsm_pytorch.inference.pipeline import EncodedPhotos, encode_photos
from lvsm_pytorch.inference.scenes import FittedViews, scene_of, scenes_of
from lvsm_pytorch.lvsm.model import LVSM
from lvsm_pytorch.lvsm.pretrained import default_size, num_inputs_of

Size = tuple[int, int]


def rendered(encoded: EncodedPhotos, camera: Cameras, size: Size) -> Tensor:
    return next(encoded.render(camera[None], size))[0]


def enlarged(encoded: EncodedPhotos, camera: Cameras, size: Size, trained: Size) -> Tensor:
    small = rendered(encoded, Cameras(camera.camera_to_world, scale_intrinsics(camera.intrinsics, size, trained)), trained)
    return F.interpolate(small.unsqueeze(0), size, mode = 'bicubic').clamp(0, 1)[0]


def in_tiles(encoded: EncodedPhotos, camera: Cameras, size: Size, tile: Size) -> Tensor:
    return render_tiled(lambda part, size: rendered(encoded, part, size), camera, size, tile)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument('--model', default = str(RenderConfig.model))
    parser.add_argument('--data', type = Path, nargs = '+', required = True)
    parser.add_argument('--views', type = int, default = 4)
    given = parser.parse_args()
    warnings.simplefilter('ignore')
    model = LVSM.from_pretrained(given.model)
    height, width = trained = default_size(model)
    large, tile = (2 * height, 2 * width), (3 * height // 2, 3 * width // 2)
    rows: dict[str, list[tuple[float, float, float]]] = {}

    for data in given.data:
        scene = scene_of(scenes_of(data, height), 0)
        others, held_out = hold_out(scene)
        poses = cameras_of(others.views).camera_to_world
        photos = {size: FittedViews(others, size) for size in (trained, large)}

        for view in held_out.views[:given.views]:
            nearest = nearest_views(poses, view.camera_to_world, num_inputs_of(model))
            truth, intrinsics = view.fitted(large)
            camera = Cameras(view.camera_to_world, intrinsics)

            for input_size in (trained, large):
                encoded = encode_photos(model, *photos[input_size].of(nearest), input_size = input_size)
                ways = dict(
                    enlarged = lambda encoded = encoded, camera = camera: enlarged(encoded, camera, large, trained),
                    whole = lambda encoded = encoded, camera = camera: rendered(encoded, camera, large),
                    tiles = lambda encoded = encoded, camera = camera: in_tiles(encoded, camera, large, tile),
                )

                for name, way in ways.items():
                    began = time.process_time()
                    pred = way()
                    seconds = time.process_time() - began
                    found = score(pred.unsqueeze(0), truth.unsqueeze(0))
                    rows.setdefault(f'photos at {input_size[1]} × {input_size[0]}, {name}', []).append((float(found.psnr), float(found.ssim), seconds))

    for name, row in rows.items():
        psnr, ssim, seconds = torch.tensor(row).mean(dim = 0).tolist()
        print(f'{name}: {psnr:.2f} dB, {ssim:.3f}, {seconds:.2f} s')


if __name__ == '__main__':
    main()
