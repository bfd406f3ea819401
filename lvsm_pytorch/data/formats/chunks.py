"""RealEstate10K and ACID in pixelSplat's format: `.torch` files of some dozens of scenes, and an `index.json` from scenes to files.

A file is a list of dicts: `key`, `timestamps` (v), `cameras` (v 18: fx fy cx cy as fractions of width and height, two unused, and world
to camera 3 × 4, OpenCV axes) and `images`, the bytes of JPEGs. Files are memory-mapped: only the images that are used are read and decoded.
"""

from __future__ import annotations

import math
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lvsm_pytorch.data.formats.common import WIDEST_VIEW, check_intrinsics, check_resolution
from lvsm_pytorch.data.formats.scene_files import INDEX, SceneFiles
from lvsm_pytorch.data.formats.torch_file import StoredTensor, materialized, open_tensors
from lvsm_pytorch.data.images import image_size, jpeg_bytes
from lvsm_pytorch.data.lazy_images import ImageFile
from lvsm_pytorch.data.problems import BadView, Problems
from lvsm_pytorch.data.scene import Scene, View, check_pose, is_rigid
from lvsm_pytorch.data.storage import Folder, LocalFolder
from lvsm_pytorch.errors import fail
from lvsm_pytorch.files import write_json, write_whole

FAR = 1000.


class Chunks(SceneFiles):
    """Dataset of the scenes in a folder of `.torch` files, in the order of the files.

    The index has the number of scenes of each file; without an index, local files are opened once to count them. Invalid scenes are recorded in `problems`.

    Raises:
        ValueError: If a remote folder has no index.
        BadView: If the index is broken or lists missing files, or no file can be read.
    """

    format = 'RealEstate10K chunks'

    def __init__(self, folder: Path | Folder, problems: Problems):
        folder = folder if isinstance(folder, Folder) else LocalFolder(folder)
        index = folder.read_json(INDEX)
        counts = count_scenes(folder, problems) if index is None else counts_of(folder, index)

        if not counts:
            fail('data', 'must have at least one scene in its .torch files', folder.label(''), problems.summary(most = 5) or 'They are empty.', BadView)

        super().__init__(folder, counts, problems)

    @staticmethod
    def read_file(path: Path) -> list[dict[str, Any]]:
        return read_file(path)

    def read_name(self, content: list[dict[str, Any]], position: int) -> str:
        return str(content[position].get('key')) if position < len(content) else ''

    def read_scene(self, where: str, content: list[dict[str, Any]], position: int) -> Scene:
        if position >= len(content):
            fail(where, f'must exist, because {INDEX} lists it', f'{len(content)} scenes', 'Write the index again.', BadView)

        return read_example(where, content[position], self.problems)


def count_scenes(folder: Folder, problems: Problems) -> dict[str, int]:
    """Counts the scenes of each file by opening it. Files without scenes are left out."""
    if not isinstance(folder, LocalFolder):
        fail('data', f'must have an {INDEX}, as remote files are not opened to be counted', folder.label(''), 'It is a JSON object of scenes and the names of their files. Or download the files.')

    contents = {name: problems.attempt(folder.label(name), partial(read_file, folder.local(name))) for name in folder.names('.torch')}
    return {name: len(content) for name, content in contents.items() if content}


def counts_of(folder: Folder, index: Any) -> dict[str, int]:
    """Counts the scenes of each file by the index, a JSON object from scenes to the names of their files."""
    if not isinstance(index, dict):
        fail(folder.label(INDEX), 'must be a JSON object of scenes and their files', type(index).__name__, 'Write it again, or remove it.', BadView)

    counts = Counter(map(str, index.values()))
    missing = sorted(set(counts) - set(folder.names('.torch'))) if isinstance(folder, LocalFolder) else []

    if missing:
        fail(folder.label(INDEX), 'must list files in its folder', missing[:3], 'Copy them there, or remove the index.', BadView)

    return {name: counts[name] for name in sorted(counts)}


def read_file(path: Path) -> list[dict[str, Any]]:
    """Reads the scenes of a file, with tensors that are read from it on demand.

    Raises:
        BadView: If it is not such a file.
    """
    try:
        content = open_tensors(path)
    except ValueError as error:
        raise BadView(str(error)) from error

    if not isinstance(content, list) or not all(isinstance(example, dict) for example in content):
        fail(str(path), 'must be a list of scenes', type(content).__name__, 'pixelSplat\'s conversion of RealEstate10K writes it.', BadView)

    return content


def read_example(where: str, example: dict[str, Any], problems: Problems) -> Scene:
    try:
        key, cameras, images, timestamps = (materialized(example.get(name)) for name in ('key', 'cameras', 'images', 'timestamps'))
    except (ValueError, KeyError) as error:
        raise BadView(f'{where}: must be complete, but got {error}') from error

    if not isinstance(key, str) or not isinstance(images, list) or not isinstance(cameras, Tensor) or cameras.shape != (len(images), 18):
        fail(where, 'must have a `key`, `images` and `cameras` (v 18)', sorted(map(str, example)), 'pixelSplat\'s conversion of RealEstate10K writes them.', BadView)

    times = timestamps.tolist() if isinstance(timestamps, Tensor) and timestamps.shape == (len(images),) and not timestamps.is_complex() else list(range(len(images)))
    size = next((size for image in images if (size := size_of(image)) is not None), None)

    if size is None:
        fail(where, 'must have at least one image that can be read', f'none of {len(images)}', 'Download the file again.', BadView)

    # all cameras at once: one by one takes longer than decoding the views

    cameras = cameras.double()
    world_to_camera = torch.eye(4, dtype = torch.float64).repeat(len(images), 1, 1)
    world_to_camera[:, :3] = cameras[:, 6:].unflatten(1, (3, 4))
    intrinsics = intrinsics_of(cameras, size)
    has_time = torch.tensor([math.isfinite(time) for time in times], dtype = torch.bool)
    is_good = has_time & is_rigid(world_to_camera) & are_usual(cameras[:, :4])
    names = [f'{where} ({key}), time {time}' for time in times]

    for index in (~is_good).nonzero().flatten().tolist():
        problems.attempt(names[index], partial(check_camera, names[index], times[index], intrinsics[index], world_to_camera[index], size))

    if not is_good.any():
        fail(where, 'must have at least one view that can be used', f'none of {len(images)}', problems.summary(most = 5), BadView)

    good = sorted(is_good.nonzero().flatten().tolist(), key = lambda index: times[index])
    camera_to_world = torch.linalg.inv(world_to_camera[good])
    check_resolution(where, intrinsics[good], [size] * len(good))
    labels = names_of_times([times[index] for index in good])
    views = [View(label, pose, intrinsics[index], ChunkImage(images[index], size, names[index])) for label, index, pose in zip(labels, good, camera_to_world, strict = True)]
    return Scene(key, tuple(views), is_video = True, numbers = tuple(good))


def names_of_times(times: list[float]) -> list[str]:
    """Returns names of views from their sorted times, which may be negative or fractional. The names sort like the times."""
    if all(float(time).is_integer() and time >= 0 for time in times):
        return [f'{int(time):012d}' for time in times]

    return [f'{index:06d} {time:.6f}' for index, time in enumerate(times)]


def are_usual(cameras: Tensor) -> Tensor:
    """Returns whether intrinsics (v 4), fx fy cx cy as fractions, are plausible: (v) bool. `check_camera` raises the error for the others."""
    focal, centre = cameras[:, :2], cameras[:, 2:]
    is_narrow = 2 * torch.atan(0.5 / focal[:, 0]).rad2deg() <= WIDEST_VIEW
    return cameras.isfinite().all(dim = 1) & (focal > 0).all(dim = 1) & (centre > 0).all(dim = 1) & (centre < 1).all(dim = 1) & is_narrow


def intrinsics_of(cameras: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns intrinsics (v 3 3) in pixels of images of `size` (height, width), from cameras (v 18)."""
    height, width = size
    fx, fy, cx, cy = cameras[:, :4].float().unbind(dim = 1)
    intrinsics = torch.eye(3).repeat(len(cameras), 1, 1)
    intrinsics[:, 0, 0], intrinsics[:, 0, 2] = fx * width, cx * width
    intrinsics[:, 1, 1], intrinsics[:, 1, 2] = fy * height, cy * height
    return intrinsics


def check_camera(where: str, time: float, intrinsics: Tensor, world_to_camera: Tensor, size: tuple[int, int]) -> None:
    """Raises the error of an invalid camera.

    Raises:
        BadView: Always.
    """
    check_pose(where, world_to_camera)

    if not math.isfinite(time):
        fail(where, 'must have a finite time', time, 'Remove the view.', BadView)

    check_intrinsics(where, intrinsics, size)
    fail(where, 'must have a plausible pinhole camera', intrinsics.tolist(), 'fx, fy, cx and cy are fractions of width and height.', BadView)


def size_of(image: Any) -> tuple[int, int] | None:
    try:
        return image_size(bytes_of(image))
    except BadView:
        return None


def bytes_of(image: Any) -> bytes:
    """Returns the bytes of an image file, which is stored in a uint8 tensor."""
    if isinstance(image, StoredTensor) and image.is_bytes:
        return image.content()

    if not isinstance(image, Tensor) or image.dtype != torch.uint8 or image.ndim != 1:
        raise BadView('image: must be bytes in a uint8 tensor')

    return image.numpy().tobytes()


class ChunkImage(ImageFile):
    """An image file whose bytes are in a tensor of a chunk."""

    def content(self) -> bytes:
        return bytes_of(self.source)


def write_chunks(scenes: list[Scene], folder: Path, *, scenes_per_file: int = 50, with_index: bool = True) -> None:
    """Writes scenes as `.torch` files with JPEGs, and their index.

    Raises:
        ValueError: If the folder has `.torch` files, or if names are not unique.
    """
    if any(folder.glob('*.torch')):
        fail('folder', 'must have no .torch files yet', folder, 'Choose another folder.')

    if len({scene.name for scene in scenes}) < len(scenes):
        fail('scenes', 'must have unique names', [scene.name for scene in scenes], 'They are the keys of the index.')

    folder.mkdir(parents = True, exist_ok = True)
    index = {}

    for start in range(0, len(scenes), scenes_per_file):
        name = f'{start // scenes_per_file:06d}.torch'
        examples = [example_of(scene) for scene in scenes[start:start + scenes_per_file]]
        write_whole(folder / name, lambda temporary, examples = examples: torch.save(examples, temporary))
        index |= {example['key']: name for example in examples}

    if with_index:
        write_json(folder / INDEX, index)


def example_of(scene: Scene) -> dict[str, Any]:
    cameras, images = [], []

    for view in scene.views:
        pixels = view.load()
        height, width = pixels.shape[1:]
        (fx, _, cx), (_, fy, cy), _ = view.intrinsics.tolist()
        world_to_camera = torch.linalg.inv(view.camera_to_world.double())[:3].flatten().tolist()
        cameras.append([fx / width, fy / height, cx / width, cy / height, 0., 0., *world_to_camera])
        images.append(jpeg_of(pixels))

    rows = torch.tensor(cameras, dtype = torch.float64)

    # float32, as in pixelSplat, except far from the origin of the world, where it is too coarse

    far = float(rows[:, 6:].abs().max()) > FAR
    return dict(key = scene.name, url = '', timestamps = torch.arange(len(images)), cameras = rows if far else rows.float(), images = images)


def jpeg_of(pixels: Tensor) -> Tensor:
    return torch.frombuffer(bytearray(jpeg_bytes(pixels)), dtype = torch.uint8)
