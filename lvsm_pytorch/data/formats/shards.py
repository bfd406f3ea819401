"""WebDataset shards of scenes: tar files, in which a sample is a scene, and an `index.json` with their numbers of scenes.

A scene is a JSON file, followed by its images: `000017.json`, `000017.0000.jpg`, `000017.0001.jpg`, .. The JSON has `name`, `is_video`, `held_out` (names of views)
and `views`, each with `name`, `image` (the file name after the key), `size` (height, width), `camera_to_world` (4 4, OpenCV axes) and `intrinsics` (3 3, in pixels). The tar files
are not compressed, so that single images are read from their positions in the file.
"""

from __future__ import annotations

import json
import mmap
import tarfile
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lvsm_pytorch.data.formats.common import check_intrinsics, usable
from lvsm_pytorch.data.formats.scene_files import INDEX, SceneFiles
from lvsm_pytorch.data.images import image_library, image_size, jpeg_bytes
from lvsm_pytorch.data.lazy_images import ImageFile
from lvsm_pytorch.data.problems import BadView, Problems
from lvsm_pytorch.data.scene import Scene, View, check_pose
from lvsm_pytorch.data.storage import Folder, LocalFolder
from lvsm_pytorch.errors import fail
from lvsm_pytorch.files import parse_json

FORMAT, VERSION = 'lvsm-shards', 1

# a tar file ends with two empty blocks

END_OF_TAR = bytes(1024)

ENDINGS = dict(JPEG = 'jpg', PNG = 'png', WEBP = 'webp')


class Stored(NamedTuple):
    """A range of bytes in a memory-mapped file."""
    mapped: mmap.mmap
    start: int
    length: int

    def content(self) -> bytes:
        return self.mapped[self.start:self.start + self.length]


class ShardImage(ImageFile):
    """An image file in a shard."""

    def content(self) -> bytes:
        return self.source.content()


class Shards(SceneFiles):
    """Dataset of the scenes in a folder of shards, in the order of the shards.

    Raises:
        BadView: If the folder has no index of this format, or no scenes.
    """

    format = 'WebDataset shards'

    def __init__(self, folder: Path | Folder, problems: Problems):
        folder = folder if isinstance(folder, Folder) else LocalFolder(folder)
        counts = counts_of(folder.label(INDEX), folder.read_json(INDEX))

        if not counts:
            fail('data', 'must have at least one scene in its shards', folder.label(INDEX), 'Pack it again.', BadView)

        super().__init__(folder, counts, problems)

    @staticmethod
    def read_file(path: Path) -> list[dict[str, Stored]]:
        return read_shard(path)

    def read_name(self, content: list[dict[str, Stored]], position: int) -> str:
        return str(described('', content, position).get('name', ''))

    def read_scene(self, where: str, content: list[dict[str, Stored]], position: int) -> Scene:
        said = described(where, content, position)

        if not isinstance(said.get('name'), str) or not isinstance(said.get('views'), list) or not isinstance(said.get('held_out', []), list):
            fail(where, 'must have a `name`, a list `views` and a list `held_out` in its JSON', sorted(said), '`lvsm pack` writes them.', BadView)

        views = usable(where, self.problems, {f'{where}, view {number}': partial(read_view, f'{where}, view {number}', view, content[position]) for number, view in enumerate(said['views'])})
        numbers = [number for number in range(len(said['views'])) if f'{where}, view {number}' in views]
        return Scene(said['name'], tuple(views.values()), bool(said.get('is_video')), frozenset(map(str, said.get('held_out', ()))), tuple(numbers))


def is_shard_index(index: Any) -> bool:
    return isinstance(index, dict) and index.get('format') == FORMAT


def counts_of(where: str, index: Any) -> dict[str, int]:
    """Returns the number of scenes of each shard.

    Raises:
        BadView: If the index has another format, or a later version.
    """
    if not is_shard_index(index) or not isinstance(index.get('shards'), list):
        fail(where, 'must be the index of shards of scenes', type(index).__name__, '`lvsm pack` writes it.', BadView)

    if index.get('version', 1) not in range(1, VERSION + 1):
        fail(where, f'must be of version {VERSION} or before', index['version'], 'Update lvsm-pytorch.', BadView)

    try:
        return {str(shard['file']): int(shard['scenes']) for shard in index['shards'] if int(shard['scenes']) > 0}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise BadView(f'{where}: must have a file and a number of scenes for each shard, but got {type(error).__name__}: {error}. `lvsm pack` writes them.') from error


def read_shard(path: Path) -> list[dict[str, Stored]]:
    """Returns the positions of the files of each scene, by file name without the key.

    Raises:
        BadView: If the file is not a tar file, or is truncated.
    """
    try:
        with open(path, 'rb') as file:
            mapped = mmap.mmap(file.fileno(), 0, access = mmap.ACCESS_READ)

            with tarfile.open(fileobj = file, mode = 'r:') as archive:
                members = [(member.name, Stored(mapped, member.offset_data, member.size)) for member in archive if member.isfile()]
    except (tarfile.TarError, OSError, ValueError) as error:
        raise BadView(f'{path}: must be a tar file, but got {error}. Pack it, or download it, again.') from error

    # tarfile reads a truncated file without an error, so its end is checked

    if any(mapped[-len(END_OF_TAR):]) or any(stored.start + stored.length > len(mapped) for _, stored in members):
        fail(str(path), 'must be a complete tar file', f'the first {len(mapped)} bytes of one', 'Pack it, or download it, again.', BadView)

    scenes: dict[str, dict[str, Stored]] = {}

    for name, stored in members:
        folder, _, file = name.rpartition('/')
        key, _, rest = file.partition('.')
        scenes.setdefault(f'{folder}/{key}', {})[rest] = stored

    return list(scenes.values())


def described(where: str, content: list[dict[str, Stored]], position: int) -> dict[str, Any]:
    """Reads the JSON file of a scene.

    Raises:
        BadView: If it is missing or broken.
    """
    if position >= len(content) or 'json' not in content[position]:
        fail(where, f'must exist with a JSON file, since {INDEX} lists it', f'{len(content)} scenes', 'Pack it again.', BadView)

    said = parse_json(content[position]['json'].content(), where, BadView)
    return said if isinstance(said, dict) else {}


def read_view(where: str, said: Any, files: dict[str, Stored]) -> View:
    try:
        name, image, (height, width) = said['name'], said['image'], said['size']
        camera_to_world, intrinsics = torch.tensor(said['camera_to_world'], dtype = torch.float64), torch.tensor(said['intrinsics'])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise BadView(f'{where}: must have name, image, size, camera_to_world and intrinsics, but got {type(error).__name__}: {error}. `lvsm pack` writes them.') from error

    if camera_to_world.shape != (4, 4) or intrinsics.shape != (3, 3) or image not in files:
        fail(where, 'must have camera_to_world 4 × 4, intrinsics 3 × 3, and its image', image, '`lvsm pack` writes them.', BadView)

    return View(name, check_pose(where, camera_to_world), check_intrinsics(where, intrinsics, (height, width)), ShardImage(files[image], (height, width), where))


# writing

def scene_files(scene: Scene, key: str, problems: Problems, *, image_size: int | None = None) -> list[tuple[str, bytes]]:
    """Returns the names and contents of a scene's files, the JSON first. Image files are copied unchanged, unless they are downscaled or undistorted.

    Args:
        scene: The scene.
        key: Key of the scene in its shard, without a dot.
        problems: Record of views whose images can't be read.
        image_size: Maximum length of the shorter side, in pixels.

    Raises:
        BadView: If no image can be read.
    """
    views, images = [], []

    for number, view in enumerate(scene.views):
        found = problems.attempt(f'{scene.name}/{view.name}', partial(encode_image, view, image_size))

        if found is None:
            continue

        content, size, intrinsics, ending = found
        image = f'{number:04d}.{ending}'
        images.append((f'{key}.{image}', content))
        views.append(dict(name = view.name, image = image, size = size, camera_to_world = view.camera_to_world.double().tolist(), intrinsics = intrinsics.tolist()))

    if not views:
        fail(scene.name, 'must have at least one image that can be read', f'none of {len(scene.views)}', 'Download it again.', BadView)

    said = dict(name = scene.name, is_video = scene.is_video, held_out = sorted(scene.held_out), views = views)
    return [(f'{key}.json', json.dumps(said).encode()), *images]


def encode_image(view: View, max_size: int | None) -> tuple[bytes, tuple[int, int], Tensor, str]:
    """Returns an image as a file, downscaled to a shorter side of at most `max_size` pixels: its content, size (height, width), intrinsics (3 3), and ending."""
    size = view.size
    is_small = max_size is None or min(size) <= max_size
    original = view.load.original() if isinstance(view.load, ImageFile) and is_small else None

    if original is not None and image_size(original) == size and (ending := ENDINGS.get(kind_of(original))) is not None:
        return original, size, view.intrinsics, ending

    fitted = size if is_small or max_size is None else tuple(max(round(length * max_size / min(size)), max_size) for length in size)
    image, intrinsics = (view.load(), view.intrinsics) if is_small else view.fitted_bytes((fitted[0], fitted[1]))
    return jpeg_bytes(image), (image.shape[1], image.shape[2]), intrinsics, 'jpg'


def kind_of(content: bytes) -> str:
    with image_library().open(BytesIO(content)) as file:
        return file.format or ''


def add_to(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """Adds a file to a tar archive, without times and owners, so that the same scenes give the same archive."""
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, BytesIO(content))
