"""Format of the LVSM authors' preprocessing: a JSON file for each scene, with the frames of a video, and a list of these files.

A file has `scene_name` and `frames`, each with `image_path`, `fxfycxcy` in pixels of the image and `w2c`, world to camera (4 4), OpenCV
axes. Image paths refer to the machine of the writer: the image is the file under the dataset at the longest end of the path that exists.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from heapq import nsmallest
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from lvsm_pytorch.data.formats.common import check_intrinsics, check_resolution, path_inside, usable
from lvsm_pytorch.data.images import save_image
from lvsm_pytorch.data.lazy_images import ImageFile, StoredSizes
from lvsm_pytorch.data.problems import BadView, Problems
from lvsm_pytorch.data.scene import Scene, View, check_pose
from lvsm_pytorch.errors import fail
from lvsm_pytorch.files import check_free, read_json, write_json, write_whole

LIST = 'full_list.txt'

# maximum number of JSON files that are read to detect the format

MOST_READ = 8


def is_lvsm(path: Path) -> bool:
    """Returns whether a list file, a file of a scene, or a folder has this format, by its list or by the first of its JSON files, of which some may be broken."""
    if (path.is_file() and path.suffix == '.txt') or (path / LIST).is_file():
        return True

    return any(isinstance(content, dict) and 'scene_name' in content and 'frames' in content for content in first_contents(path))


def first_contents(path: Path) -> Iterator[Any]:
    """Yields the contents of the first JSON files of a folder, or of its `metadata`, or of a file, or the errors of unreadable files."""
    return map(content_or_error, [path] if path.is_file() else first_of(path) or first_of(path / 'metadata'))


def content_or_error(file: Path) -> Any:
    try:
        return read_json(file, BadView)
    except BadView as error:
        return error


def first_of(folder: Path) -> list[Path]:
    return nsmallest(MOST_READ, folder.glob('*.json'))


def lvsm_files(path: Path) -> list[Path]:
    """Returns the files of the scenes: those of a list file, of a folder with such a list, or in a folder or its `metadata`; none if the format is another."""
    if not is_lvsm(path):
        return []

    if path.is_file():
        return listed(path) if path.suffix == '.txt' else [path]

    if (path / LIST).is_file():
        return listed(path / LIST)

    return sorted(path.glob('*.json')) or sorted((path / 'metadata').glob('*.json'))


def listed(path: Path) -> list[Path]:
    try:
        lines = [line.strip() for line in path.read_text(encoding = 'utf-8-sig').splitlines()]
    except (OSError, ValueError) as error:
        raise BadView(f'{path}: must be a text file of paths, but got {error}. Write it again.') from error

    files = [inside(path.parent, line) for line in lines if line]

    for line, file in zip([line for line in lines if line], files, strict = True):
        if file is None:
            fail(str(path), 'must list existing files in its folder', line, 'Move them there, or write their paths relative to the list.', BadView)

    return [file for file in files if file is not None]


def inside(root: Path, path: str) -> Path | None:
    """Returns the file under `root` at the longest end of `path` that exists, with forward or back slashes. Links are followed."""
    parts = [part for part in PurePosixPath(path.replace('\\', '/')).parts if part not in ('/', '.')]
    ends = (path_inside(root, '/'.join(parts[start:])) for start in range(len(parts)))
    return next((file for file in ends if file is not None and file.is_file()), None)


def read_lvsm(path: Path, root: Path | None = None, problems: Problems | None = None) -> Scene:
    """Reads the scene of a file.

    Unusable frames, and those whose image is outside of the root, are skipped and recorded in `problems`.

    Args:
        path: JSON file of the scene.
        root: Folder of the dataset, which contains its images. By default that of the file.
        problems: Record of skipped frames.

    Raises:
        BadView: If the file has another format, or no frame is usable.
    """
    problems = Problems() if problems is None else problems
    root = path.parent if root is None else root
    content = read_content(path)
    sizes = StoredSizes()
    places = {f'{path}, frame {index}': index for index in range(len(content['frames']))}
    views = usable(str(path), problems, {where: partial(read_frame, where, index, root, content['frames'][index], sizes) for where, index in places.items()})
    check_resolution(str(path), torch.stack([view.intrinsics for view in views.values()]), [view.size for view in views.values()])
    return Scene(content['scene_name'], tuple(views.values()), is_video = True, numbers = tuple(places[where] for where in views))


def read_name(path: Path) -> str:
    """Reads the name of the scene of a file, without its frames.

    Raises:
        BadView: If the file has another format.
    """
    return read_content(path)['scene_name']


def read_content(path: Path) -> dict[str, Any]:
    content = read_json(path, BadView)

    if not isinstance(content, dict) or not isinstance(content.get('frames'), list) or not isinstance(content.get('scene_name'), str):
        fail(str(path), 'must be a JSON object with `scene_name` and a list `frames`', type(content).__name__, 'The LVSM authors\' processing writes it.', BadView)

    return content


def read_frame(where: str, index: int, root: Path, frame: Any, sizes: StoredSizes) -> View:
    name = frame.get('image_path') if isinstance(frame, dict) else None

    if not isinstance(name, str):
        fail(where, 'must have an `image_path`', name, 'It is where the image is in the dataset.', BadView)

    path = inside(root, name)

    if path is None:
        is_outside = path_inside(root, name) is None
        fail(where, f'must have its image in {root}', name, 'It is not there.' if not is_outside else 'Paths that lead out of the dataset are not followed.', BadView)

    fx, fy, cx, cy = numbers(where, frame, 'fxfycxcy', (4,)).tolist()

    world_to_camera = check_pose(where, numbers(where, frame, 'w2c', (4, 4)))
    size = sizes.of(path, 'frames of a video')
    intrinsics = check_intrinsics(where, torch.tensor([[fx, 0., cx], [0., fy, cy], [0., 0., 1.]]), size)
    return View(f'{index:06d} {path.name}', torch.linalg.inv(world_to_camera), intrinsics, ImageFile(path, size, where))


def numbers(where: str, frame: dict[str, Any], key: str, shape: tuple[int, ...]) -> Tensor:
    try:
        values = torch.tensor(frame.get(key), dtype = torch.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        values = torch.tensor(0.)

    if values.shape != shape or not values.isfinite().all():
        fail(where, f'must have finite numbers {" × ".join(map(str, shape))} as {key}', frame.get(key), 'The LVSM authors\' processing writes them.', BadView)

    return values


def write_lvsm(scenes: list[Scene], folder: Path) -> None:
    """Writes scenes as PNG images in `images`, a JSON file for each in `metadata`, and `full_list.txt`.

    Raises:
        ValueError: If the folder has such a list, files would be replaced, or names of scenes are not unique.
    """
    if (folder / LIST).exists():
        fail('folder', f'must have no {LIST} yet', folder, 'Choose another folder.')

    folders = [scene.name.replace('/', '_') for scene in scenes]

    if len(set(folders)) < len(folders):
        fail('scenes', 'must have unique names', folders, 'They are the names of folders and files.')

    check_free([folder / 'images' / name for name in folders] + [folder / 'metadata' / f'{name}.json' for name in folders])

    (folder / 'metadata').mkdir(parents = True, exist_ok = True)
    lines = []

    for scene, name in zip(scenes, folders, strict = True):
        (folder / 'images' / name).mkdir(parents = True, exist_ok = True)
        frames = []

        for index, view in enumerate(scene.views):
            image_path = f'images/{name}/{index:05d}.png'
            save_image(view.load(), folder / image_path)
            (fx, _, cx), (_, fy, cy), _ = view.intrinsics.tolist()
            frames.append(dict(image_path = image_path, fxfycxcy = [fx, fy, cx, cy], w2c = torch.linalg.inv(view.camera_to_world.double()).tolist()))

        lines.append(f'metadata/{name}.json')
        write_json(folder / lines[-1], dict(scene_name = scene.name, frames = frames))

    write_whole(folder / LIST, lambda temporary: temporary.write_text('\n'.join(lines) + '\n', encoding = 'utf-8'))
