"""The pictures of the README and the documentation: python docs/pictures.py [OUT]

Made by the models that come with the library: on built-in scenes, so that everybody gets the same, and those of photos where the photo sets
are at hand, in ../shared/scenes.
"""

from __future__ import annotations

import shutil
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.patches import Rectangle
from torch import Tensor

from lvsm_pytorch import LVSM, synthesize
from lvsm_pytorch.configs.demo import DemoConfig
from lvsm_pytorch.data import cameras_of, read_scene, synthetic_scene
from lvsm_pytorch.evaluation.inspection import frustum
from lvsm_pytorch.geometry.cameras import Cameras
from lvsm_pytorch.geometry.rays import pixel_grid, plucker_rays
from lvsm_pytorch.geometry.view_selection import nearest_views
from lvsm_pytorch.inference.demo import show
from lvsm_pytorch.inference.scenes import some_inputs
from lvsm_pytorch.lvsm.losses import psnr
from lvsm_pytorch.packaged import PHOTOS, SOLIDS

COLORS = dict(x = 'tab:red', y = 'tab:green', z = 'tab:blue')


# photo sets whose licence allows pictures: CC0; CC BY 4.0; CC BY 3.0; CC BY 4.0. Whom they are by stands where they are shown

SETS = ('caliterra', 'maryRose', 'boruszyn', 'buddha')


def draw_photo_sets(path: Path, folder: Path) -> None:
    """Of each set a held-out view: its three nearest photos, what photos-128 renders from them, and the photo."""
    model, size = LVSM.from_pretrained(PHOTOS), (128, 128)
    figure, rows = plt.subplots(len(SETS), 5, figsize = (10, 8.6), layout = 'constrained')

    for axes, name in zip(rows, SETS, strict = True):
        scene = read_scene(folder / name)
        poses = cameras_of(scene.views).camera_to_world
        others = [index for index in range(len(poses)) if index % 8]
        chosen = [*(others[index] for index in nearest_views(poses[others], poses[8], 3)), 8]
        images, intrinsics = zip(*(scene.views[index].fitted(size) for index in chosen), strict = True)
        cameras = Cameras(poses[chosen], torch.stack(intrinsics))
        view = synthesize(model, images[:3], cameras[:3], cameras[3], size)
        titles = ('input', 'input', 'input', f'photos-128, {psnr(view, images[3]):.1f} dB', 'photo')

        for axis, title, image in zip(axes, titles, (*images[:3], view, images[3]), strict = True):
            axis.imshow(image.permute(1, 2, 0))
            axis.set_title(title, fontsize = 9)
            axis.set_xticks([])
            axis.set_yticks([])

        axes[0].set_ylabel(name, fontsize = 9)

    figure.savefig(path, dpi = 90)
    plt.close(figure)


def draw_conventions(path: Path) -> None:
    """A camera of a built-in scene in its world, one of its rays, and its image."""
    scene = synthetic_scene(5, num_views = 2, image_size = 64)
    cameras = cameras_of(scene.views)
    figure = plt.figure(figsize = (11, 4.6), layout = 'constrained')
    in_world, in_image = figure.add_subplot(1, 2, 1, projection = '3d'), figure.add_subplot(1, 2, 2)
    column, row = 22, 53

    for camera_to_world, intrinsics in zip(*cameras, strict = True):
        draw_frustum(in_world, camera_to_world, intrinsics, depth = 0.7)

    camera_to_world, intrinsics = cameras.camera_to_world[0], cameras.intrinsics[0]
    centre = camera_to_world[:3, 3]

    for axis, (name, color) in enumerate(COLORS.items()):
        tip = centre + 0.8 * camera_to_world[:3, axis]
        line(in_world, centre, tip, color = color, linewidth = 2)
        in_world.text(*tip.tolist(), f' {name}', color = color)
        end = torch.eye(3)[axis] * 0.8
        line(in_world, torch.zeros(3), end, color = 'black', linewidth = 1)
        in_world.text(*end.tolist(), name.upper(), color = 'black', fontsize = 8)

    direction = plucker_rays(camera_to_world, intrinsics, (64, 64))[:3, row, column]
    hit = centre + direction * (centre[2] / -direction[2])
    line(in_world, centre, hit, color = 'tab:orange', linewidth = 1.5)
    in_world.text(*(centre + 0.62 * (hit - centre)).tolist(), '  o + s d', color = 'tab:orange')
    in_world.text(*centre.tolist(), 'o  ', ha = 'right')
    in_world.set_box_aspect((4.4, 3.4, 2.2), zoom = 1.25)
    in_world.set(xlim = (-3.6, 0.8), ylim = (-2.4, 1.), zlim = (0, 2.2), xticks = [], yticks = [], zticks = [])
    in_world.view_init(elev = 20, azim = -70)
    in_world.set_title('camera_to_world: OpenCV axes in any world\nx right, y down, z forward; ray: unit d, moment o × d', fontsize = 10)

    # its image, and where the ray goes through it

    image = scene.views[0].load()
    in_image.imshow(image.movedim(0, -1).numpy(), extent = (0, 64, 64, 0))
    in_image.add_patch(Rectangle((column, row), 1, 1, fill = False, color = 'tab:orange', linewidth = 2))
    across, down = (pixel_grid((64, 64))[axis, row, column].item() for axis in (0, 1))
    in_image.annotate(f'image[:, {row}, {column}]: its centre\nis at ({across}, {down}) pixels', (across, down), (30, 61), color = 'white', fontsize = 9,
                      arrowprops = dict(arrowstyle = '->', color = 'white'))
    (fx, _, cx), (_, fy, cy), _ = intrinsics.tolist()
    in_image.plot([cx], [cy], '+', color = 'white', markersize = 12)
    in_image.text(cx + 1.5, cy - 1.5, '(cx, cy)', color = 'white', fontsize = 9)
    in_image.set_title(f'intrinsics, in pixels of the image at hand:\nfx {fx:.1f}, fy {fy:.1f}, cx {cx:.0f}, cy {cy:.0f} of 64 × 64; (0, 0) is the corner', fontsize = 10)
    in_image.set(xlabel = 'x, to the right', ylabel = 'y, down', xticks = [0, 16, 32, 48, 64], yticks = [0, 16, 32, 48, 64])
    figure.savefig(path, dpi = 110)
    plt.close(figure)


def draw_frustum(axes, camera_to_world: Tensor, intrinsics: Tensor, depth: float) -> None:
    outline = frustum(camera_to_world, intrinsics, depth)

    for number, corner in enumerate(outline):
        line(axes, camera_to_world[:3, 3], corner, color = 'gray', linewidth = 0.7)
        line(axes, corner, outline[number - 1], color = 'gray', linewidth = 0.7)


def line(axes, start: Tensor, end: Tensor, **style) -> None:
    axes.plot(*np.stack((start.numpy(), end.numpy()), axis = 1), **style)


def draw_more_photos(path: Path) -> None:
    """The same views, from more and more photos of a scene that the model has never seen."""
    counts, asked = (1, 2, 3, 4, 6, 8), (1, 5)
    model = LVSM.from_pretrained(SOLIDS)
    scene = synthetic_scene(8, num_views = 12, image_size = 128)
    truth = torch.stack([scene.views[number].load() for number in asked])
    others = replace(scene, views = tuple(view for number, view in enumerate(scene.views) if number not in asked))
    figure, panels = plt.subplots(len(asked), len(counts) + 1, figsize = (11, 3.6), layout = 'constrained')

    for column, count in enumerate(counts):
        photos = [others.views[number] for number in some_inputs(others, count)]

        with warnings.catch_warnings():
            warnings.simplefilter('ignore')    # it was trained with three
            views = synthesize(model, [view.load() for view in photos], cameras_of(photos), cameras_of([scene.views[number] for number in asked]), (128, 128))

        for panel, view, true in zip(panels[:, column], views, truth, strict = True):
            panel.imshow(view.movedim(0, -1).numpy())
            panel.set_xlabel(f'{psnr(view, true):.2f} dB', fontsize = 9)

        panels[0, column].set_title(f'{count} photo{"s" * (count > 1)}', fontsize = 10)

    for panel, true in zip(panels[:, -1], truth, strict = True):
        panel.imshow(true.movedim(0, -1).numpy())

    panels[0, -1].set_title('truth', fontsize = 10)

    for panel in panels.flat:
        panel.set(xticks = [], yticks = [])

    figure.savefig(path, dpi = 110)
    plt.close(figure)


if __name__ == '__main__':
    out = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / 'assets')
    draw_conventions(out / 'conventions.png')
    draw_more_photos(out / 'more-photos.png')
    photo_sets = Path(__file__).parents[2] / 'shared' / 'scenes'

    if photo_sets.is_dir():
        draw_photo_sets(out / 'photos.png', photo_sets)

    for file in show(DemoConfig(out = Path('lvsm-demo'))):
        shutil.copy(file, out)
