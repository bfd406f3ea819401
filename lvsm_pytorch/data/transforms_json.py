"""transforms.json folders: nerfstudio, instant-ngp, Blender.

A JSON file beside the images says of each its camera to world (4 4, OpenGL axes) and, for it or for all, a pinhole's
fl_x, fl_y, cx, cy, w, h in pixels or Blender's camera_angle_x in radians. Pixel centres lie at +0.5.
"""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lvsm_pytorch.cameras import opencv_to_opengl, opengl_to_opencv, scale_intrinsics
from lvsm_pytorch.checks import fail
from lvsm_pytorch.data.images import image_size, load_image, save_image
from lvsm_pytorch.data.scene import Scene, View
from lvsm_pytorch.files import write_whole

FILE = 'transforms.json'
DISTORTION = ('k1', 'k2', 'k3', 'k4', 'k5', 'k6', 'p1', 'p2')
PINHOLES = ('PINHOLE', 'SIMPLE_PINHOLE', 'OPENCV')


def read_transforms(folder: Path) -> Scene:
    """The scene of a folder with a `transforms.json`, or of such a file. Images are decoded when they are loaded.

    Errors: ValueError for what is missing, broken, distorted or outside of the folder, naming file and frame.
    """
    path = folder / FILE if folder.is_dir() else folder
    shared = read_json(path)
    frames = shared.get('frames')

    if not isinstance(frames, list) or not frames:
        fail(str(path), 'must have a list `frames` of at least one image', type(frames).__name__ if frames is None else frames, 'It says where each image was taken from.')

    views = [read_frame(path, index, {**shared, **frame}) for index, frame in enumerate(frames)]
    names = [view.name for view in views]

    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        fail(str(path), 'must name every image once', twice[:3], 'Take the doubles out.')

    return Scene(path.parent.resolve().name, tuple(sorted(views, key = lambda view: view.name)))


def read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding = 'utf-8'))
    except (OSError, ValueError) as error:
        raise ValueError(f'{path}: must be a readable JSON file, but got {error}. Write it anew.') from error

    if not isinstance(content, dict):
        fail(str(path), 'must be a JSON object', type(content).__name__, 'It has a list `frames`.')

    return content


def read_frame(path: Path, index: int, frame: dict[str, Any]) -> View:
    """frame: its own entries over those that all frames share."""
    where = f'{path}, frame {index}'
    name = frame.get('file_path')

    if not isinstance(name, str):
        fail(where, 'must have a `file_path`', name, 'It is the image, relative to the JSON file.')

    image = image_path(where, path.parent, name)
    refuse_distortion(where, frame)
    camera_to_world = opengl_to_opencv(read_pose(where, frame))
    return View(image.relative_to(path.parent.resolve()).as_posix(), camera_to_world, read_intrinsics(where, frame, image_size(image)), partial(load_image, image))


def image_path(where: str, folder: Path, name: str) -> Path:
    folder = folder.resolve()
    path = (folder / name).resolve()

    if not path.is_relative_to(folder):
        fail(where, 'must have its image inside the folder of the JSON file', name, 'Move the image there and name it relative to the file.')

    if not path.is_file() and not path.suffix:
        path = path.with_name(path.name + '.png')  # Blender leaves the ending out

    if not path.is_file():
        fail(where, 'must name an image that exists', name, f'Looked for {path}.')

    return path


def refuse_distortion(where: str, frame: dict[str, Any]) -> None:
    distortion = {key: frame[key] for key in DISTORTION if frame.get(key)}
    model = frame.get('camera_model', 'PINHOLE')

    if distortion or model not in PINHOLES or frame.get('is_fisheye'):
        fail(where, 'must be an undistorted pinhole image', f'camera_model {model} with {distortion}',
             'Undistort the images first, for example with `colmap image_undistorter`, and write the pinhole cameras that it gives.')


def read_pose(where: str, frame: dict[str, Any]) -> Tensor:
    try:
        matrix = torch.tensor(frame.get('transform_matrix'), dtype = torch.float64)
    except (TypeError, ValueError, RuntimeError):
        matrix = torch.tensor(math.nan)

    if matrix.shape == (3, 4):
        matrix = torch.cat((matrix, torch.tensor([[0., 0., 0., 1.]], dtype = torch.float64)))

    if matrix.shape != (4, 4) or not matrix.isfinite().all():
        fail(where, 'must have a `transform_matrix` of 4 × 4 finite numbers', frame.get('transform_matrix'), 'It is the camera to world matrix, OpenGL axes.')

    return matrix.float()


def read_intrinsics(where: str, frame: dict[str, Any], size: tuple[int, int]) -> Tensor:
    """Intrinsics (3 3) in pixels of the image as it is stored, `size` (height, width), also where the JSON says them for another size."""
    height, width = size
    stated = round(number(where, frame, 'h', height)), round(number(where, frame, 'w', width))

    if min(stated) < 1 or abs(stated[0] * width / stated[1] - height) > 1.5:
        fail(where, f'must have w and h in the proportions of its image, {width} × {height}', f'{stated[1]} × {stated[0]}', 'Are they swapped, or is it another image?')

    angle_x, angle_y = (number(where, frame, f'camera_angle_{axis}', 0.) for axis in 'xy')
    fl_x = number(where, frame, 'fl_x', stated[1] / 2 / math.tan(angle_x / 2) if angle_x else 0.)
    fl_y = number(where, frame, 'fl_y', stated[0] / 2 / math.tan(angle_y / 2) if angle_y else fl_x)
    fl_x = fl_x or fl_y

    if fl_x <= 0 or fl_y <= 0:
        fail(where, 'must have fl_x in pixels or camera_angle_x in radians, above 0', (fl_x, fl_y), 'Without a focal length there are no rays.')

    cx, cy = number(where, frame, 'cx', stated[1] / 2), number(where, frame, 'cy', stated[0] / 2)
    return scale_intrinsics(torch.tensor([[fl_x, 0., cx], [0., fl_y, cy], [0., 0., 1.]]), stated, size)


def number(where: str, frame: dict[str, Any], key: str, default: float) -> float:
    value = frame.get(key, default)

    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        fail(where, f'must have a finite number as {key}', repr(value), 'Write it in pixels (or radians, for an angle).')

    return value


def write_transforms(scene: Scene, folder: Path, *, overwrite: bool = False) -> None:
    """Writes a scene as PNG images and a `transforms.json` with intrinsics for each frame. The JSON comes last, whole.

    Errors: ValueError where there is such a file already and `overwrite` is False.
    """
    path = folder / FILE

    if path.exists() and not overwrite:
        fail('folder', 'must have no transforms.json yet', folder, 'Choose another folder, or overwrite = True.')

    (folder / 'images').mkdir(parents = True, exist_ok = True)
    frames = []

    for view in scene.views:
        image = view.load()
        file_path = f'images/{view.name.removesuffix(".png").replace("/", "_")}.png'
        save_image(image, folder / file_path)

        (fl_x, _, cx), (_, fl_y, cy), _ = view.intrinsics.tolist()
        frames.append(dict(
            file_path = file_path,
            fl_x = fl_x, fl_y = fl_y, cx = cx, cy = cy, w = image.shape[2], h = image.shape[1],
            transform_matrix = opencv_to_opengl(view.camera_to_world).tolist(),
        ))

    content = json.dumps(dict(camera_model = 'PINHOLE', frames = frames), indent = 1)
    write_whole(path, lambda temporary: temporary.write_text(content, encoding = 'utf-8'))
