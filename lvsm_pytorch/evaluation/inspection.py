"""Inspection of a dataset: a summary of each scene, a check of its cameras, and a plot."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lvsm_pytorch.data import BadView, Problems, Scene, View, cameras_of, open_dataset
from lvsm_pytorch.data.posing import posed_data
from lvsm_pytorch.errors import check_at_least, fail
from lvsm_pytorch.evaluation.epipolar import Compared, compare, fundamental
from lvsm_pytorch.files import write_whole
from lvsm_pytorch.geometry.trajectories import up_of
from lvsm_pytorch.geometry.view_selection import pairwise_distances, spacings
from lvsm_pytorch.text import counted

# metadata that marks pictures of this command

SOFTWARE = 'lvsm inspect'


class Inspected(NamedTuple):
    scene: Scene
    compared: Compared


def inspect(data: Path, out: Path, *, scenes: int = 8, pairs: int = 12, pose: bool = False) -> list[Inspected]:
    """Prints a summary of each scene and plots the first.

    Args:
        data: Posed photos in any format that `open_dataset` takes.
        out: File of the plot.
        scenes: Maximum number of scenes to inspect, spread over the dataset.
        pairs: Maximum number of pairs of photos to match in a scene.
        pose: Estimate the poses of loose photos first, as `with_poses` does.

    Raises:
        ValueError: If the folder has no dataset, or no usable scene.
    """
    from tqdm import tqdm

    check_at_least(1, scenes = scenes, pairs = pairs)

    check_picture(out)
    problems = Problems()
    data = posed_data(data) if pose else data
    dataset = open_dataset(data, problems)
    numbers = list(range(0, len(dataset), max(len(dataset) // scenes, 1)))[:scenes]
    print(f'{data}: {dataset.format}, {counted(len(dataset), "scene")}' + (f', {len(numbers)} inspected' if len(numbers) < len(dataset) else ''))

    inspected = []

    for number in tqdm(numbers, unit = 'scene', disable = True if len(numbers) == 1 else None, leave = False):
        found = problems.attempt(dataset.label(number), lambda number = number: inspect_scene(dataset[number], pairs, problems))

        if found is not None:
            tqdm.write(report(found))
            inspected.append(found)

    if not inspected:
        fail('data', 'must have at least one scene that can be used', f'none of {len(numbers)}', problems.summary(most = 5))

    if problems.found:
        print(problems.summary())

    draw(inspected[0], out)
    print(f'wrote {out}')
    return inspected


def check_picture(out: Path) -> None:
    """Checks that the plot may be written.

    Raises:
        ValueError: If the file exists and is not a plot of this command.
    """
    from PIL import Image

    if not out.exists():
        return

    try:
        with Image.open(out) as picture:
            is_ours = picture.info.get('Software') == SOFTWARE
    except OSError:
        is_ours = False

    if not is_ours:
        fail('out', 'must be a new file, or a picture by lvsm inspect', out, 'Choose another by --out.')


def inspect_scene(scene: Scene, num_pairs: int, problems: Problems) -> Inspected:
    return Inspected(scene, compare(scene, num_pairs = num_pairs, problems = problems))


def report(found: Inspected) -> str:
    """Summary of a scene: image sizes, focal lengths, baselines, and agreement of the cameras."""
    scene, checked = found.scene, found.compared.agreement
    sizes = dict.fromkeys(f'{width} × {height}' for height, width in found.compared.sizes)
    poses, intrinsics = cameras_of(scene.views)
    centres = poses[:, :3, 3]
    widths = torch.tensor([view.size[1] for view in scene.views if is_sized(view)], dtype = torch.float32)
    angles = angles_across(intrinsics[[is_sized(view) for view in scene.views]], widths)
    lines = [
        f'\n{scene.name}: {counted(len(scene.views), "view")}{" of a video" if scene.is_video else ""}',
        f'  sizes              {", ".join(list(sizes)[:4]) or "?"}{" and others" if len(sizes) > 4 else ""} pixels, of the {len(found.compared.sizes)} photos compared',
        f'  focal length       {span(intrinsics[:, 0, 0])} pixels across, {span(intrinsics[:, 1, 1])} down; about {span(angles)} degrees wide',
        f'  baselines          {span(spacings(centres))} to the nearest view, {pairwise_distances(centres).max():.3g} at most, in units of the dataset',
        f'  epipolar distance  {checked.given:.2f} pixels, median of {checked.num_matches} matches; {checked.shifted:.2f} with the cameras shifted by one view',
        f'  verdict            {checked.verdict}',
    ]
    return '\n'.join(lines)


def angles_across(intrinsics: Tensor, widths: Tensor) -> Tensor:
    """Horizontal fields of view (n) in degrees.

    Args:
        intrinsics: (n 3 3).
        widths: (n) of the images in pixels.
    """
    focal, left = intrinsics[:, 0, 0], intrinsics[:, 0, 2]
    return (torch.atan(left / focal) + torch.atan((widths - left) / focal)).rad2deg()


def is_sized(view: View) -> bool:
    try:
        return min(view.size) > 0
    except BadView:
        return False


def span(values: Tensor) -> str:
    """Minimum and maximum as text, or one number."""
    if len(values) == 0:
        return '?'

    low, high = values.min().item(), values.max().item()
    return f'{low:.4g}' if high - low <= 1e-3 * abs(high) else f'{low:.4g} to {high:.4g}'


def draw(found: Inspected, path: Path) -> None:
    """Plots the cameras from the side, with thumbnails, and from above; and a pair of photos with epipolar lines of matches."""
    from matplotlib.figure import Figure

    given = found.compared.cameras.camera_to_world
    given = torch.cat((given[..., :3], given[..., 3:] - F.pad(given[:, :3, 3].mean(dim = 0), (0, 1)).unsqueeze(-1)), dim = -1)    # the scene may be far from the origin of the world
    poses, size = upright(given.float()), frustum_size(given)
    figure = Figure(figsize = (14, 11), layout = 'constrained')
    grid = figure.add_gridspec(2, 2, height_ratios = (1.4, 1))
    side = figure.add_subplot(grid[0, 0], projection = '3d')
    above = figure.add_subplot(grid[0, 1])
    pair = figure.add_subplot(grid[1, :])

    for number, view in enumerate(found.scene.views):
        corners = frustum(poses[number], view.intrinsics, size, view.size if is_sized(view) else None)
        centre = poses[number, :3, 3]
        outline = torch.cat((corners, corners[:1], centre[None], corners[1:2], corners[2:3], centre[None], corners[3:4]))
        side.plot(*outline.T.numpy(), color = f'C{number % 10}', linewidth = 0.8)
        above.plot(*outline[:, :2].T.numpy(), color = f'C{number % 10}', linewidth = 0.8)

        if len(poses) <= 40 or number % (len(poses) // 20) == 0:
            above.annotate(str(number), (centre[0].item(), centre[1].item()), fontsize = 7)

    thumbnails(side, found, poses, size)
    side.set_aspect('equal')
    side.set_title(f'{found.scene.name}: {len(poses)} cameras, from a side')
    above.set_aspect('equal')
    above.set_title('from above, by number of the view')
    draw_pair(pair, found)
    write_whole(path, lambda temporary: figure.savefig(temporary, format = 'png', dpi = 80, metadata = dict(Software = SOFTWARE)))


def upright(camera_to_world: Tensor) -> Tensor:
    """Poses rotated so that z is up and y is the mean viewing direction."""
    up = up_of(camera_to_world)
    forward = camera_to_world[:, :3, 2].mean(dim = 0)
    right = torch.linalg.cross(forward, up)
    right = right if right.norm() > 1e-6 else torch.linalg.cross(torch.eye(3)[up.abs().argmin()], up)
    right = right / right.norm()
    rotation = torch.eye(4)
    rotation[:3, :3] = torch.stack((right, torch.linalg.cross(up, right), up))
    return rotation @ camera_to_world


def frustum_size(camera_to_world: Tensor) -> float:
    """Depth of the frusta in the plot: the median distance to the nearest camera."""
    return max(spacings(camera_to_world[:, :3, 3]).median().item(), 1e-6) if len(camera_to_world) > 1 else 1.


def frustum(pose: Tensor, intrinsics: Tensor, depth: float, image_size: tuple[int, int] | None = None, steps: int = 2) -> Tensor:
    """Points of the image plane at a depth: its corners (4 3) in order, or for more steps a grid (steps steps 3).

    Args:
        image_size: (height, width) in pixels. None for an unreadable image: twice the principal point.
    """
    width, height = (2 * intrinsics[:2, 2]).tolist() if image_size is None else image_size[::-1]

    if steps == 2:
        pixels = torch.tensor([[0., 0.], [width, 0.], [width, height], [0., height]])
    else:
        pixels = torch.cartesian_prod(torch.linspace(0, height, steps), torch.linspace(0, width, steps)).flip(-1)

    rays = torch.cat((pixels, torch.ones(len(pixels), 1)), dim = 1) @ torch.linalg.inv(intrinsics).mT
    points = (rays.to(pose) * depth) @ pose[:3, :3].mT + pose[:3, 3]
    return points if steps == 2 else points.unflatten(0, (steps, steps))


def thumbnails(axes, found: Inspected, poses: Tensor, size: float, steps: int = 13) -> None:
    """Plots the photos that were loaded for matching in their frusta."""
    for number, photo in found.compared.photos.items():
        small = torch.nn.functional.interpolate(photo.unsqueeze(0), (steps - 1, steps - 1), mode = 'area')[0].permute(1, 2, 0).clamp(0, 1)
        x, y, z = frustum(poses[number], found.compared.cameras.intrinsics[number], size, (photo.shape[1], photo.shape[2]), steps).unbind(-1)
        axes.plot_surface(x.numpy(), y.numpy(), z.numpy(), facecolors = small.numpy(), rstride = 1, cstride = 1, shade = False, linewidth = 0)


def draw_pair(axes, found: Inspected, num_lines: int = 12) -> None:
    """Plots the pair with most matches: points on the left, matches and epipolar lines on the right."""
    axes.axis('off')
    best = max(found.compared.matches, key = lambda each: len(each.points), default = None)

    if best is None or len(best.points) == 0:
        axes.set_title('no matches')
        return

    left, right = found.compared.photos[best.first], found.compared.photos[best.second]
    height = max(left.shape[1], right.shape[1])
    canvas = torch.ones(height, left.shape[2] + right.shape[2], 3)
    canvas[:left.shape[1], :left.shape[2]] = left.permute(1, 2, 0)
    canvas[:right.shape[1], left.shape[2]:] = right.permute(1, 2, 0)
    axes.imshow(canvas.numpy(), extent = (0, canvas.shape[1], height, 0))
    f = fundamental(found.compared.cameras, best.first, best.second)
    chosen = torch.linspace(0, len(best.points) - 1, min(num_lines, len(best.points))).long()

    for color, (point, other) in enumerate(zip(best.points[chosen], best.others[chosen], strict = True)):
        a, b, c = (f @ torch.cat((point, point.new_ones(1)))).tolist()
        x = torch.linspace(0, right.shape[2], 200, dtype = torch.float64)
        y = -(a * x + c) / b if abs(b) > 1e-12 else x * torch.nan
        shown = (y >= 0) & (y <= right.shape[1])
        axes.plot((x[shown] + left.shape[2]).numpy(), y[shown].numpy(), color = f'C{color % 10}', linewidth = 0.8)
        axes.plot([point[0], other[0] + left.shape[2]], [point[1], other[1]], 'o', color = f'C{color % 10}', markersize = 4)

    axes.set_title(f'views {best.first} and {best.second}: a point on the left should lie on the line of its colour on the right. {found.compared.agreement.verdict}', fontsize = 9)
