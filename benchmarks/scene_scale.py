"""How good the unit of length is that is estimated from the photos: held-out views with that unit, and with multiples of it.

    python benchmarks/scene_scale.py ../shared/scenes --max-views 3 --out scene_scale.json

Every eighth photo by name is held out and rendered from the three nearest others, by the estimated unit times each of `FACTORS`. Beside the
mean over sets of the estimated unit stand the best factor of all sets, of each set and of each view, which only the truth tells. The planes
of a model with `plane_sweep = 'features'` lie between the near and the far distance of the scene whatever the unit. Also measured: the time
of the estimate, in encodings of the three photos.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from lvsm_pytorch import LVSM
from lvsm_pytorch.data import Scene, cameras_of, read_scene
from lvsm_pytorch.data.scene import hold_out
from lvsm_pytorch.files import write_json
from lvsm_pytorch.geometry import Cameras
from lvsm_pytorch.geometry.scene_scale import estimate_depth_range
from lvsm_pytorch.geometry.view_selection import nearest_views
from lvsm_pytorch.inference.pipeline import encode_photos
from lvsm_pytorch.inference.scenes import FittedViews
from lvsm_pytorch.lvsm.losses import psnr

Result = TypeVar('Result')

FACTORS = 0.4, 0.55, 0.75, 1., 1.35, 1.8, 2.5


def psnr_of_factors(model: LVSM, scene: Scene, size: int, num_inputs: int, max_views: int | None, seconds: dict[str, list[float]]) -> Tensor:
    """PSNR (views factors). Views for which the photos tell no unit are left out. seconds: where times are noted."""
    others, held_out = hold_out(scene)
    photos, poses = FittedViews(others, (size, size)), cameras_of(others.views).camera_to_world
    rows = []

    for target in held_out.views[:max_views]:
        images, cameras = photos.of(nearest_views(poses, target.camera_to_world, num_inputs))
        truth, intrinsics = target.fitted((size, size))
        camera = Cameras(target.camera_to_world[None], intrinsics[None])
        found = timed(seconds, 'estimate', partial(estimate_depth_range, torch.stack(images), cameras))

        if found is None:
            continue

        row = []

        for factor in FACTORS:
            encoded = timed(seconds, 'encode_photos', partial(encode_photos, model, images, cameras, input_size = (size, size), pose_frame = 'inputs', unit = found.unit * factor))
            view, = encoded.render(camera, (size, size))
            row.append(float(psnr(view[0], truth)))

        rows.append(row)

    return torch.tensor(rows).reshape(-1, len(FACTORS))


def timed(seconds: dict[str, list[float]], name: str, do: Callable[[], Result]) -> Result:
    start = time.perf_counter()
    result = do()
    seconds.setdefault(name, []).append(time.perf_counter() - start)
    return result


def summary(found: dict[str, Tensor], seconds: dict[str, list[float]]) -> dict[str, object]:
    """Means over sets, in dB."""
    by_set = {name: rows.mean(dim = 0) for name, rows in found.items() if len(rows) > 0}
    mean = torch.stack(list(by_set.values())).mean(dim = 0)
    median = {name: torch.tensor(values).median().item() for name, values in seconds.items()}
    encode = median['encode_photos'] - median['estimate']    # encode_photos of models with planes makes the estimate too
    return dict(
        factors = list(FACTORS), psnr = mean.tolist(), estimated = mean[FACTORS.index(1.)].item(), best_factor_of_all = mean.max().item(),
        best_factor_of_each_set = torch.stack([each.max() for each in by_set.values()]).mean().item(),
        best_factor_of_each_view = torch.stack([rows.max(dim = 1).values.mean() for rows in found.values() if len(rows) > 0]).mean().item(),
        estimate_in_encodings = median['estimate'] / encode if encode > 0 else None, sets = {name: each.tolist() for name, each in by_set.items()},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description = __doc__, formatter_class = argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type = Path, help = 'of photo sets')
    parser.add_argument('--model', default = 'photos-128')
    parser.add_argument('--size', type = int, default = 128, help = 'height and width in pixels')
    parser.add_argument('--num-inputs', type = int, default = 3)
    parser.add_argument('--max-views', type = int, help = 'held-out views of a set at most')
    parser.add_argument('--out', type = Path, default = Path('scene_scale.json'))
    args = parser.parse_args()
    model = LVSM.from_pretrained(args.model)
    found, seconds = {}, {}

    for folder in tqdm(sorted(path for path in args.folder.iterdir() if path.is_dir()), unit = 'set'):
        found[folder.name] = psnr_of_factors(model, read_scene(folder), args.size, args.num_inputs, args.max_views, seconds)
        write_json(args.out, summary(found, seconds))

    print(json.dumps({name: value for name, value in summary(found, seconds).items() if name != 'sets'}, indent = 2))


if __name__ == '__main__':
    main()
