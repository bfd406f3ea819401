"""transforms.json folders: nerfstudio, instant-ngp, Blender, DL3DV.

A JSON file beside the images says of each its camera to world (4 4, OpenGL axes) and, for it or for all, fl_x, fl_y, cx, cy, w, h in
pixels or Blender's camera_angle_x in radians; and how its lens distorts: k1 k2 k3 p1 p2 as OpenCV has them, or k1 … k4 of a fisheye.
Pixel centres lie at +0.5. Blender has a file each for train, val and test. Where images are there in a smaller size alone, as in
DL3DV (`images_4` for `images`), those are taken.
"""

from __future__ import annotations

import math
import re
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lvsm_pytorch.data.formats.undistort import Distortion, undistort, undistorted_intrinsics
from lvsm_pytorch.data.images import image_size, load_image, save_image
from lvsm_pytorch.data.problems import BadView, Problems
from lvsm_pytorch.data.scene import Scene, View, check_pose, file_name
from lvsm_pytorch.errors import fail
from lvsm_pytorch.files import read_json, write_json
from lvsm_pytorch.geometry.cameras import scale_intrinsics
from lvsm_pytorch.geometry.conventions import opencv_to_opengl, opengl_to_opencv

FILE = 'transforms.json'
SPLITS = tuple(f'transforms_{split}.json' for split in ('train', 'val', 'test'))

# what else a camera may be called: instant-ngp says nothing but is_fisheye, nerfstudio the name

FISHEYES = ('OPENCV_FISHEYE', 'FISHEYE')
PINHOLES = ('PINHOLE', 'SIMPLE_PINHOLE', 'OPENCV', 'PERSPECTIVE', 'SIMPLE_RADIAL', 'RADIAL', 'FULL_OPENCV')
OPENCV_ORDER = ('k1', 'k2', 'p1', 'p2', 'k3', 'k4', 'k5', 'k6')
FISHEYE_ORDER = ('k1', 'k2', 'k3', 'k4')


def transforms_files(path: Path) -> list[Path]:
    """The JSON files of a folder that this format has; of a JSON file, itself."""
    if path.is_file():
        return [path] if path.suffix == '.json' else []

    if (path / FILE).is_file():
        return [path / FILE]

    return [path / name for name in SPLITS if (path / name).is_file()]


def read_transforms(path: Path, problems: Problems | None = None) -> Scene:
    """The scene of a folder with a `transforms.json`, or one each for train, val and test, or of such a file. Images are decoded when they are loaded.

    Frames whose image is missing or broken, or whose pose is none, are skipped, and noted in `problems`.
    Errors: ValueError for what is broken or outside of the folder, naming file and frame, and where no frame is left.
    """
    problems = Problems() if problems is None else problems
    folder = path if path.is_dir() else path.parent
    views: list[View] = []
    held_out: set[str] = set()

    for file in transforms_files(path):
        shared = read_shared(file)
        frames = shared.get('frames')

        if not isinstance(frames, list) or not frames or not all(isinstance(frame, dict) for frame in frames):
            fail(str(file), 'must have a list `frames` of at least one image', type(frames).__name__ if frames is None else frames, 'It says where each image was taken from.')

        tests = set(shared.get('test_filenames') or ())

        for index, frame in enumerate(frames):
            where = f'{file}, frame {index}'
            view = problems.attempt(where, partial(read_frame, where, file, {**shared, **frame}))

            if view is None:
                continue

            views.append(view)

            if file.name == 'transforms_test.json' or frame.get('file_path') in tests:
                held_out.add(view.name)

    if not views:
        fail(str(path), 'must have at least one frame that can be used', 'none', problems.summary(most = 5), BadView)

    names = [view.name for view in views]

    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        fail(str(path), 'must name every image once', twice[:3], 'Take the doubles out.')

    return Scene(folder.resolve().name, tuple(sorted(views, key = lambda view: view.name)), held_out = frozenset(held_out))


def read_shared(path: Path) -> dict[str, Any]:
    content = read_json(path)

    if not isinstance(content, dict):
        fail(str(path), 'must be a JSON object', type(content).__name__, 'It has a list `frames`.')

    return content


def read_frame(where: str, path: Path, frame: dict[str, Any]) -> View:
    """frame: its own entries over those that all frames share."""
    name = frame.get('file_path')

    if not isinstance(name, str):
        fail(where, 'must have a `file_path`', name, 'It is the image, relative to the JSON file.', BadView)

    image = image_path(where, path.parent, name)
    size = image_size(image)
    intrinsics = read_intrinsics(where, frame, size)
    distortion = read_distortion(where, frame)
    load = partial(load_image, image)

    if distortion is not None:
        pinhole = undistorted_intrinsics(intrinsics, distortion, size)
        intrinsics, load = pinhole, partial(load_undistorted, image, intrinsics, distortion, pinhole)

    return View(image.relative_to(path.parent.resolve()).as_posix(), opengl_to_opencv(read_pose(where, frame)), intrinsics, load)


def load_undistorted(image: Path, intrinsics: Tensor, distortion: Distortion, pinhole: Tensor) -> Tensor:
    return undistort(load_image(image), intrinsics, distortion, pinhole)


def image_path(where: str, folder: Path, name: str) -> Path:
    folder = folder.resolve()
    path = (folder / name).resolve()

    if not path.is_relative_to(folder):
        fail(where, 'must have its image inside the folder of the JSON file', name, 'Move the image there and name it relative to the file.')

    if not path.is_file() and not path.suffix:
        path = path.with_name(path.name + '.png')  # Blender leaves the ending out

    if not path.is_file():
        smaller = [path.parent.with_name(f'{path.parent.name}_{factor}') / path.name for factor in (2, 4, 8)]
        path = next((each for each in smaller if each.is_file()), path)

    if not path.is_file():
        fail(where, 'must name an image that exists', name, f'Looked for {path}.', BadView)

    return path


def read_distortion(where: str, frame: dict[str, Any]) -> Distortion | None:
    """How the lens distorts; None for a pinhole. Errors: ValueError for camera models that OpenCV has no formula of."""
    model = frame.get('camera_model') or 'PINHOLE'
    is_fisheye = bool(frame.get('is_fisheye')) or model in FISHEYES
    given = {key: number(where, frame, key, 0.) for key in frame if re.fullmatch(r'[kps]\d', key) and frame[key]}
    order = FISHEYE_ORDER if is_fisheye else OPENCV_ORDER

    if (model not in PINHOLES and not is_fisheye) or not set(given) <= set(order):
        fail(where, 'must be of a pinhole, or of a lens with k1 … k6, p1, p2 or a fisheye with k1 … k4', f'camera_model {model} with {given}',
             'Undistort the images first, for example with `colmap image_undistorter`, and write the pinhole cameras that it gives.')

    if is_fisheye:
        return Distortion('fisheye', tuple(given.get(key, 0.) for key in order))

    return Distortion('opencv', tuple(given.get(key, 0.) for key in order)) if given else None


def read_pose(where: str, frame: dict[str, Any]) -> Tensor:
    """(4 4), as it stands there."""
    try:
        matrix = torch.tensor(frame.get('transform_matrix'), dtype = torch.float64)
    except (TypeError, ValueError, RuntimeError):
        matrix = torch.tensor(math.nan)

    if matrix.shape == (3, 4):
        matrix = torch.cat((matrix, torch.tensor([[0., 0., 0., 1.]], dtype = torch.float64)))

    if matrix.shape != (4, 4):
        fail(where, 'must have a `transform_matrix` of 4 × 4 finite numbers', frame.get('transform_matrix'), 'It is the camera to world matrix, OpenGL axes.', BadView)

    return check_pose(where, matrix).float()


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
        file_path = f'images/{file_name(view)}'
        save_image(image, folder / file_path)

        (fl_x, _, cx), (_, fl_y, cy), _ = view.intrinsics.tolist()
        frames.append(dict(
            file_path = file_path,
            fl_x = fl_x, fl_y = fl_y, cx = cx, cy = cy, w = image.shape[2], h = image.shape[1],
            transform_matrix = opencv_to_opengl(view.camera_to_world).tolist(),
        ))

    write_json(path, dict(camera_model = 'PINHOLE', frames = frames))
