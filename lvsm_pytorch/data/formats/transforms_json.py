"""Folders with transforms.json, the format of nerfstudio, instant-ngp, Blender and DL3DV.

A JSON file beside the images has the camera-to-world matrix (4 4, OpenGL axes) of each image; for each image, or for all images, fl_x, fl_y,
cx, cy, w, h in pixels or Blender's camera_angle_x in radians; and lens distortion, OpenCV's k1 k2 k3 p1 p2 or k1 … k4 of a fisheye. Pixel
centres lie at +0.5. Blender has one file for each of train, val and test. If images exist in a smaller size only, as in DL3DV (`images_4` for
`images`), these are read.
"""

from __future__ import annotations

import math
import re
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lvsm_pytorch.data.formats.common import check_intrinsics, check_resolution, looked_for, name_inside, path_inside, usable
from lvsm_pytorch.data.formats.undistort import Distortion, UndistortedFile, check_distortion, undistorted_intrinsics
from lvsm_pytorch.data.images import save_image
from lvsm_pytorch.data.lazy_images import ImageFile, StoredSizes
from lvsm_pytorch.data.problems import BadView, Problems
from lvsm_pytorch.data.scene import Scene, View, check_pose, file_names
from lvsm_pytorch.errors import fail
from lvsm_pytorch.files import check_free, read_json, write_json
from lvsm_pytorch.geometry.cameras import scale_intrinsics
from lvsm_pytorch.geometry.conventions import opencv_to_opengl, opengl_to_opencv

FILE = 'transforms.json'
SPLITS = tuple(f'transforms_{split}.json' for split in ('train', 'val', 'test'))

# names of camera models in nerfstudio; instant-ngp has the flag is_fisheye only

FISHEYES = ('OPENCV_FISHEYE', 'FISHEYE')
PINHOLES = ('PINHOLE', 'SIMPLE_PINHOLE', 'OPENCV', 'PERSPECTIVE', 'SIMPLE_RADIAL', 'RADIAL', 'FULL_OPENCV')
OPENCV_ORDER = ('k1', 'k2', 'p1', 'p2', 'k3', 'k4', 'k5', 'k6')
FISHEYE_ORDER = ('k1', 'k2', 'k3', 'k4')


def transforms_files(path: Path) -> list[Path]:
    """Returns the JSON files of this format in a folder, or a JSON file itself."""
    if path.is_file():
        return [path] if path.suffix == '.json' else []

    if (path / FILE).is_file():
        return [path / FILE]

    return [path / name for name in SPLITS if (path / name).is_file()]


def read_transforms(path: Path, problems: Problems | None = None, name: str | None = None) -> Scene:
    """Reads a scene from a folder with `transforms.json`, or with one file for each of train, val and test, or from such a file. Images are decoded when loaded.

    Frames with a missing or broken image, implausible intrinsics or an invalid pose are skipped and recorded in `problems`. Duplicates count
    once. Frames of `transforms_val` and `transforms_test`, and those in `val_filenames` and `test_filenames`, are held out.

    Args:
        path: The folder or the file.
        problems: Records skipped frames.
        name: Name of the scene. By default that of the folder.

    Raises:
        BadView: For a broken file, and if no frame is valid.
    """
    problems = Problems() if problems is None else problems
    folder = path if path.is_dir() else path.parent
    sizes = StoredSizes()
    frames: dict[str, tuple[Path, dict[str, Any]]] = {}
    splits: dict[str, set[str]] = {}

    contents = {file: read_shared(file) for file in transforms_files(path)}

    for file, content in contents.items():
        split = file.stem.removeprefix('transforms').removeprefix('_')
        shared = {key: value for key, value in content.items() if key != 'frames'}

        for index, frame in enumerate(content['frames']):
            where = f'{file}, frame {index}'
            frames[where] = file, {**shared, **frame} if isinstance(frame, dict) else {}
            splits.setdefault(split, set()).add(where)

    views = usable(str(path), problems, {where: partial(read_frame, where, file, frame, sizes) for where, (file, frame) in frames.items()})
    by_name: dict[str, View] = {}

    for where, view in views.items():
        before = by_name.setdefault(view.name, view)

        if before is not view and not torch.allclose(before.camera_to_world, view.camera_to_world, rtol = 1e-4, atol = 1e-6):
            problems.skip(where, f'{view.name} is listed twice with different poses; the first is used')

    check_resolution(str(path), torch.stack([view.intrinsics for view in by_name.values()]), [view.size for view in by_name.values()])
    listed = {split: {views[where].name for where in of_split if where in views} for split, of_split in splits.items() if split}

    for file, content in contents.items():
        if not any(f'{split}_filenames' in content for split in ('train', 'val', 'test')):
            continue

        known = {name_of(file.parent, frame.get('file_path')): views[where].name if where in views else None for where, (of_file, frame) in frames.items() if of_file == file}
        listed = merged(listed, listed_splits(file, content, known))

    kept, held_out = divided(str(path), set(by_name), listed)
    ordered = tuple(by_name[each] for each in sorted(kept))
    return Scene(name or folder.resolve().name, ordered, held_out = frozenset(held_out))


def name_of(folder: Path, file_path: object) -> str | None:
    """Returns the normalised name of an image from its path."""
    path = path_inside(folder, file_path) if isinstance(file_path, str) else None
    return None if path is None else name_inside(folder, path)


def merged(splits: dict[str, set[str]], more: dict[str, set[str]]) -> dict[str, set[str]]:
    return {split: splits.get(split, set()) | more.get(split, set()) for split in {*splits, *more}}


def listed_splits(file: Path, content: dict[str, Any], known: dict[str | None, str | None]) -> dict[str, set[str]]:
    """Returns the names of views by split, from nerfstudio's `train_filenames`, `val_filenames` and `test_filenames`.

    Args:
        file: The JSON file.
        content: Its content.
        known: Names of the views by the paths of their frames; None for skipped frames.
    """
    found = {}

    for split in ('train', 'val', 'test'):
        names = content.get(f'{split}_filenames')

        if isinstance(names, list) and names:
            paths = {str(each): name_of(file.parent, each) for each in names}
            strangers = [each for each, path in paths.items() if path not in known]
            found[split] = {view for path in paths.values() if (view := known.get(path)) is not None}

            if strangers:
                warnings.warn(f'{file}: {len(strangers)} of {len(names)} {split}_filenames name no frame: {strangers[:3]}', stacklevel = 2)

    return found


def divided(where: str, names: set[str], splits: dict[str, set[str]]) -> tuple[set[str], set[str]]:
    """Returns the names of the views to keep, and of those to hold out, from the splits of a dataset. No view is in both training and held-out views."""
    train, tests = splits.get('train', set()), splits.get('val', set()) | splits.get('test', set())
    kept = names

    if train and tests:
        kept = train | tests

        if kept < names:
            warnings.warn(f'{where}: {len(names - kept)} of {len(names)} frames are in no split and not used', stacklevel = 2)
    elif train:
        tests = names - train

    both = train & tests

    if both and len(train - tests) < 3:
        warnings.warn(f'{where}: {len(both)} of {len(train)} training frames are also in val or test, which leaves none to train on: they are used for training', stacklevel = 2)
        tests = tests - train

    return kept, tests


def read_shared(path: Path) -> dict[str, Any]:
    content = read_json(path, BadView)

    if not isinstance(content, dict):
        fail(str(path), 'must be a JSON object', type(content).__name__, 'It has a list `frames`.', BadView)

    frames = content.get('frames')

    if not isinstance(frames, list) or not any(isinstance(frame, dict) for frame in frames):
        fail(str(path), 'must have a list `frames` of at least one image', type(frames).__name__ if frames is None else frames, 'It has the pose of each image.', BadView)

    return content


def read_frame(where: str, path: Path, frame: dict[str, Any], sizes: StoredSizes) -> View:
    """Reads the view of a frame.

    Args:
        frame: Entries of the frame, merged over the shared ones.
    """
    name = frame.get('file_path')

    if not isinstance(name, str):
        fail(where, 'must have a `file_path`', name, 'It is the image, relative to the JSON file.', BadView)

    image = image_path(where, path.parent, name)
    stated = (number(where, frame, 'h', 0.), number(where, frame, 'w', 0.)) if 'h' in frame and 'w' in frame else None
    size = sizes.of(image, stated)
    pose = opengl_to_opencv(read_pose(where, frame))
    intrinsics = read_intrinsics(where, frame, size)
    distortion = read_distortion(where, frame)

    if distortion is None:
        load = ImageFile(image, size, where)
    else:
        pinhole = undistorted_intrinsics(intrinsics, distortion, size)
        check_distortion(where, intrinsics, distortion, size, pinhole)
        load = UndistortedFile(image, size, where, intrinsics = intrinsics, distortion = distortion, pinhole = pinhole)
        intrinsics = pinhole

    return View(name_inside(path.parent, image), pose, intrinsics, load)


def image_path(where: str, folder: Path, name: str) -> Path:
    path = path_inside(folder, name)

    if path is None:
        fail(where, 'must have its image inside the folder of the JSON file', name, 'Move the image there and name it relative to the file.', BadView)

    if path.suffix and path.is_file():
        return path

    # Blender omits the suffix; DL3DV may have downscaled copies only

    names = [path] if path.suffix else [path, *(path.with_name(path.name + ending) for ending in ('.png', '.jpg', '.jpeg', '.JPG', '.PNG'))]
    smaller = [path.parent.with_name(f'{path.parent.name}_{factor}') / each.name for factor in (2, 4, 8) for each in names]
    found = next((each for each in (*names, *smaller) if each.is_file()), None)

    if found is None:
        fail(where, 'must name an image that exists', name, looked_for(path), BadView)

    return found


def read_distortion(where: str, frame: dict[str, Any]) -> Distortion | None:
    """Reads the lens distortion; None for a pinhole.

    Raises:
        BadView: For camera models without an OpenCV model.
    """
    model = frame.get('camera_model') or 'PINHOLE'
    is_fisheye = bool(frame.get('is_fisheye')) or model in FISHEYES
    given = {key: number(where, frame, key, 0.) for key in frame if re.fullmatch(r'[kps]\d', key) and frame[key]}
    order = FISHEYE_ORDER if is_fisheye else OPENCV_ORDER

    if (model not in PINHOLES and not is_fisheye) or not set(given) <= set(order):
        fail(where, 'must have a pinhole camera, a lens with k1 … k6, p1, p2, or a fisheye with k1 … k4', f'camera_model {model} with {given}',
             'Undistort the images first, for example with `colmap image_undistorter`, and use its pinhole cameras.', BadView)

    if is_fisheye:
        return Distortion('fisheye', tuple(given.get(key, 0.) for key in order))

    return Distortion('opencv', tuple(given.get(key, 0.) for key in order)) if given else None


def read_pose(where: str, frame: dict[str, Any]) -> Tensor:
    """Reads the transform_matrix (4 4), float64, OpenGL axes."""
    try:
        matrix = torch.tensor(frame.get('transform_matrix'), dtype = torch.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        matrix = torch.tensor(math.nan)

    if matrix.shape == (3, 4):
        matrix = torch.cat((matrix, torch.tensor([[0., 0., 0., 1.]], dtype = torch.float64)))

    if matrix.shape != (4, 4):
        fail(where, 'must have a `transform_matrix` of 4 × 4 finite numbers', frame.get('transform_matrix'), 'It is the camera to world matrix, OpenGL axes.', BadView)

    return check_pose(where, matrix)


def read_intrinsics(where: str, frame: dict[str, Any], size: tuple[int, int]) -> Tensor:
    """Reads intrinsics (3 3) in pixels of the stored image of `size` (height, width), scaled if the JSON has them for another size."""
    height, width = size
    stated = round(number(where, frame, 'h', height)), round(number(where, frame, 'w', width))

    if min(stated) < 1 or abs(stated[0] * width / stated[1] - height) > 1.5:
        fail(where, f'must have w and h in the proportions of its image, {width} × {height}', f'{stated[1]} × {stated[0]}', 'Are they swapped, or is it another image?', BadView)

    angle_x, angle_y = (number(where, frame, f'camera_angle_{axis}', 0.) for axis in 'xy')
    fl_x = number(where, frame, 'fl_x', stated[1] / 2 / math.tan(angle_x / 2) if angle_x else 0.)
    fl_y = number(where, frame, 'fl_y', stated[0] / 2 / math.tan(angle_y / 2) if angle_y else fl_x)
    fl_x = fl_x or fl_y

    if fl_x <= 0 or fl_y <= 0:
        fail(where, 'must have fl_x in pixels or camera_angle_x in radians, above 0', (fl_x, fl_y), 'Without a focal length there are no rays.', BadView)

    cx, cy = number(where, frame, 'cx', stated[1] / 2), number(where, frame, 'cy', stated[0] / 2)
    intrinsics = scale_intrinsics(torch.tensor([[fl_x, 0., cx], [0., fl_y, cy], [0., 0., 1.]]), stated, size)
    return check_intrinsics(where, intrinsics, size)


def number(where: str, frame: dict[str, Any], key: str, default: float) -> float:
    value = frame.get(key, default)

    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e30:  # integers may be larger than any float
        fail(where, f'must have a finite number as {key}', repr(value), 'Write it in pixels (or radians, for an angle).', BadView)

    return value


def write_transforms(scene: Scene, folder: Path, *, overwrite: bool = False) -> None:
    """Writes a scene as PNG images and a `transforms.json` with intrinsics for each frame. The JSON is written last, atomically.

    Raises:
        ValueError: If the file exists and `overwrite` is False, or if images would be replaced.
    """
    path = folder / FILE

    if path.exists() and not overwrite:
        fail('folder', 'must have no transforms.json yet', folder, 'Choose another folder, or overwrite = True.')

    names = file_names(scene)
    check_free([] if path.exists() else [folder / 'images' / name for name in names])
    (folder / 'images').mkdir(parents = True, exist_ok = True)
    frames = []

    for view, name in zip(scene.views, names, strict = True):
        image = view.load()
        file_path = f'images/{name}'
        save_image(image, folder / file_path)

        (fl_x, _, cx), (_, fl_y, cy), _ = view.intrinsics.tolist()
        frames.append(dict(
            file_path = file_path,
            fl_x = fl_x, fl_y = fl_y, cx = cx, cy = cy, w = image.shape[2], h = image.shape[1],
            transform_matrix = opencv_to_opengl(view.camera_to_world).tolist(),
        ))

    write_json(path, dict(camera_model = 'PINHOLE', frames = frames))
