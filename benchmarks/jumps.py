"""How much films jump where their input photos change: python benchmarks/jumps.py --data DIR [DIR ...] [--frames 60] [--sheets FOLDER]

Each set is rendered along the path of `lvsm render`, once as it is, with sets of photos that fade into each other, and once without. A jump is the
mean absolute difference of the two frames at a change of photos, over its median at the steps around (`lvsm_pytorch.inference.jumps`). Contact
sheets show the four frames around the largest jumps, without the fade above, with it below.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import torch
from torch import Tensor

from lvsm_pytorch.configs.render import RenderConfig
from lvsm_pytorch.data import cameras_of
from lvsm_pytorch.data.images import resized_intrinsics, save_image
from lvsm_pytorch.evaluation.pictures import joined
from lvsm_pytorch.geometry.cameras import Cameras
from lvsm_pytorch.geometry.trajectories import interpolation
from lvsm_pytorch.inference.jumps import Jump, find_jumps
from lvsm_pytorch.inference.large_views import render_view
from lvsm_pytorch.inference.nearest import NearestPhotos
from lvsm_pytorch.inference.scenes import FittedViews, scene_of, scenes_of, unit_for
from lvsm_pytorch.lvsm.model import LVSM
from lvsm_pytorch.lvsm.pretrained import default_size, num_inputs_of

NUM_SHOWN = 4


def films(model: LVSM, data: Path, frames: int) -> tuple[Tensor, Tensor, list[tuple[int, ...]]]:
    """Without the fade and with it, (n 3 h w); and the photos that are nearest to each frame."""
    size = default_size(model)
    scenes = scenes_of(data, size[0])
    scene = scene_of(scenes, 0)
    photos = FittedViews(scene, size, scenes.problems)
    nearest = NearestPhotos(model, photos, num_inputs_of(model), unit = unit_for(model, scene))
    ends = [scene.views[number] for number in photos.some_inputs(num_inputs_of(model))]
    poses = interpolation(cameras_of(ends).camera_to_world, frames)
    cameras = Cameras(poses, resized_intrinsics(ends[0].intrinsics, ends[0].size, size).expand(frames, 3, 3))
    own = [nearest.inputs_for(pose) for pose in poses]
    hard, soft = [], []

    for number, (inputs, weights) in enumerate(nearest.weighted_inputs(poses)):
        views = {each: render_view(nearest.encoded(each), cameras[number], size) for each in inputs}
        hard.append(views[own[number]])
        soft.append(torch.stack([weight * views[each] for each, weight in zip(inputs, weights, strict = True)]).sum(dim = 0))

    return torch.stack(hard), torch.stack(soft), own


def line(jumps: list[Jump]) -> str:
    ratios = [jump.ratio for jump in jumps]
    return f'{statistics.median(ratios):.2f} in the median, {max(ratios):.2f} at most ({1000 * max(jump.difference for jump in jumps):.1f} thousandths)'


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument('--model', default = str(RenderConfig.model))
    parser.add_argument('--data', type = Path, nargs = '+', required = True)
    parser.add_argument('--frames', type = int, default = 60)
    parser.add_argument('--sheets', type = Path)
    given = parser.parse_args()
    model = LVSM.from_pretrained(given.model)

    for data in given.data:
        hard, soft, own = films(model, data, given.frames)
        without, faded = find_jumps(hard, own), find_jumps(soft, own)
        print(f'{data.name}: {len(without)} changes of photos. Without a fade {line(without)}; with it {line(faded)}', flush = True)

        if given.sheets is not None:
            given.sheets.mkdir(parents = True, exist_ok = True)

            for jump in sorted(without, key = lambda jump: -jump.ratio)[:NUM_SHOWN]:
                shown = range(max(jump.frame - 2, 0), min(jump.frame + 2, given.frames))
                rows = [joined([film[number] for number in shown], across = True) for film in (hard, soft)]
                save_image(joined(rows, across = False), given.sheets / f'{data.name}-{jump.frame:03}.png')


if __name__ == '__main__':
    main()
