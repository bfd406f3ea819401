"""`lvsm pose` beside cameras that are known: sets of posed photos are posed anew from their photos alone.

    python benchmarks/posing.py ../shared/scenes --out posing --minutes 20

Sets are taken with the fewest photos first; none is begun after so many minutes, and what is there already is not posed again. After the
similarity (Umeyama 1991) that brings the camera centres that were found to the given ones: the median rotation error in degrees, and the
median error of centres as a fraction of the given cameras' spread, the root of their mean squared distance from their mean. Where cameras
stand in a line, centres alone say little of how the world is turned around it: so also the median error of rotations between two views,
which needs no similarity.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from lvsm_pytorch.configs.pose import PoseConfig
from lvsm_pytorch.data import find_poses, read_scene

HEADER = '| set | photos | placed | rotation, degrees | between two views, degrees | centre, of the spread | seconds |\n|---|---|---|---|---|---|---|'


class Similarity(NamedTuple):
    """x -> scale rotation x + translation: scale (), rotation (3 3), translation (3)."""
    scale: Tensor
    rotation: Tensor
    translation: Tensor


class Compared(NamedTuple):
    """Medians. rotation: in degrees, after the similarity. relative: of rotations between two views, in degrees. centre: as a fraction of the spread."""
    rotation: float
    relative: float
    centre: float


def umeyama(source: Tensor, target: Tensor) -> Similarity:
    """The similarity that brings points `source` (n 3) nearest to `target` (n 3), in the mean of squares.

    Umeyama 1991, "Least-squares estimation of transformation parameters between two point patterns", equations 40 to 42.
    """
    source_mean, target_mean = source.mean(dim = 0), target.mean(dim = 0)
    source, target = source - source_mean, target - target_mean
    u, s, vh = torch.linalg.svd(target.mT @ source / len(source))
    sign = torch.ones(3, dtype = source.dtype)
    sign[2] = torch.linalg.det(u @ vh).sign()
    rotation = u @ torch.diag(sign) @ vh
    scale = (s * sign).sum() / source.square().sum(dim = 1).mean()
    return Similarity(scale, rotation, target_mean - scale * rotation @ source_mean)


def compare(found: Tensor, given: Tensor, spread: float) -> Compared:
    """Medians over cameras (n 4 4), camera to world. spread: unit of the centres' errors."""
    found, given = found.double(), given.double()
    similarity = umeyama(found[:, :3, 3], given[:, :3, 3])
    centres = similarity.scale * found[:, :3, 3] @ similarity.rotation.mT + similarity.translation
    off = (similarity.rotation @ found[:, :3, :3]).mT @ given[:, :3, :3]
    pairs = torch.combinations(torch.arange(len(given)))
    between = [poses[pairs[:, 0], :3, :3].mT @ poses[pairs[:, 1], :3, :3] for poses in (found, given)]
    errors = (centres - given[:, :3, 3]).norm(dim = 1)
    return Compared(angle(off).median().item(), angle(between[0].mT @ between[1]).median().item(), errors.median().item() / spread)


def angle(rotation: Tensor) -> Tensor:
    """Of rotation matrices (... 3 3), in degrees: (...)."""
    return ((rotation.diagonal(dim1 = -2, dim2 = -1).sum(dim = -1) - 1) / 2).clamp(-1, 1).acos().rad2deg()


def judge(folder: Path, out: Path, config: PoseConfig) -> str:
    """A row of the table. The set's photos are posed into `out/<name of the set>`."""
    given = {Path(view.name).name: view.camera_to_world for view in read_scene(folder).views}
    out = out / folder.name
    note = out / 'seconds.json'
    start = time.perf_counter()

    try:
        found = find_poses(folder / 'images', out, config)
    except ValueError as error:
        return f'| {folder.name} | {len(given)} | {str(error).split("but got ")[-1].split(" of ")[0]}: an error | | | | {time.perf_counter() - start:.0f} |'

    if not note.is_file():
        note.write_text(json.dumps(time.perf_counter() - start))

    poses = {found.placed[view.name]: view.camera_to_world for view in read_scene(out).views}
    centres = torch.stack([pose[:3, 3] for pose in given.values()]).double()
    spread = (centres - centres.mean(dim = 0)).square().sum(dim = 1).mean().sqrt().item()
    names = [name for name in poses if name in given]
    compared = compare(torch.stack([poses[name] for name in names]), torch.stack([given[name] for name in names]), spread)
    return f'| {folder.name} | {len(given)} | {len(names)} | {compared.rotation:.2f} | {compared.relative:.2f} | {compared.centre:.4f} | {json.loads(note.read_text()):.0f} |'


def main() -> None:
    parser = argparse.ArgumentParser(description = __doc__, formatter_class = argparse.RawDescriptionHelpFormatter)
    parser.add_argument('sets', type = Path, help = 'folder of posed sets, each with its photos in images/')
    parser.add_argument('--out', type = Path, default = Path('posing'))
    parser.add_argument('--minutes', type = float, default = 20.)
    parser.add_argument('--threads', type = int, default = 1)
    given = parser.parse_args()
    sets = sorted((folder for folder in given.sets.iterdir() if (folder / 'images').is_dir()), key = lambda folder: len(list((folder / 'images').iterdir())))
    start = time.perf_counter()
    rows = [HEADER]

    for folder in sets:
        if time.perf_counter() - start > 60 * given.minutes:
            rows.append(f'| {folder.name} | not begun | | | | | |')
        else:
            rows.append(judge(folder, given.out, PoseConfig(threads = given.threads)))

        print(rows[-1], flush = True)

    print('\n'.join(rows))


if __name__ == '__main__':
    main()
