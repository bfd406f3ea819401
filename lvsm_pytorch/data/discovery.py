"""Detection of datasets in folders, and of their formats."""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from shlex import quote

from lvsm_pytorch.data.dataset import MOST_HELD_OUT, Concat, Dataset, Scenes, Split, Subset, split_scenes
from lvsm_pytorch.data.formats.chunks import Chunks
from lvsm_pytorch.data.formats.colmap import model_folder, read_colmap
from lvsm_pytorch.data.formats.lvsm_json import LIST, first_contents, is_lvsm, lvsm_files, read_lvsm, read_name
from lvsm_pytorch.data.formats.scene_files import INDEX
from lvsm_pytorch.data.formats.shards import Shards, is_shard_index
from lvsm_pytorch.data.formats.transforms_json import FILE, SPLITS, read_transforms, transforms_files
from lvsm_pytorch.data.photo_files import describe_unposed, posed_folder
from lvsm_pytorch.data.problems import BadView, Problems
from lvsm_pytorch.data.scene import EVERY, Scene
from lvsm_pytorch.data.several import Location, joined, separate
from lvsm_pytorch.data.storage import LocalFolder, RemoteFolder, remote_url
from lvsm_pytorch.errors import fail

KNOWN = 'a transforms.json (nerfstudio, instant-ngp, Blender, DL3DV), a COLMAP model, RealEstate10K chunks (.torch), WebDataset shards of `lvsm pack`, or the LVSM authors\' JSON files; or a folder of such folders'

TRANSFORMS, COLMAP, LVSM_JSON = 'transforms.json', 'COLMAP model', 'LVSM authors\' JSON'

# readers of formats with one scene in a folder, and file names of these formats

READERS: dict[str | None, Callable[[Path, Problems, str], Scene]] = {TRANSFORMS: read_transforms, COLMAP: read_colmap}
TRANSFORMS_FILES = FILE, *SPLITS
IN_COLMAP_FOLDERS = 'cameras.bin', 'cameras.txt', 'sparse', 'colmap'

# maximum depth of the search for scenes; names of folders that contain images only; and folders in which datasets store the same photos of a scene in
# several ways, in order of preference: DL3DV's benchmark, ScanNet++, workspaces of COLMAP and gaussian splatting

DEPTH = 3
IMAGES = r'(images|input|depths?|masks?|frames)(_\d+)?'
COPIES = ('nerfstudio', 'dslr', 'gaussian_splat', 'dense', 'undistorted', 'colmap', 'sparse', 'distorted', 'iphone')


def open_dataset(path: Location | Sequence[Location], problems: Problems | None = None) -> Dataset:
    """Opens the dataset in a folder or file of any supported format, or several datasets as one. Scenes are read on access.

    Folders inside the folder of a scene are not scenes of their own. A scene is named after its folder, or by its path if several folders have the same name. With several datasets,
    the name of a scene begins with that of its dataset (`several.prefixes`).

    Args:
        path: A local path, or for chunks and shards an address that fsspec reads: hf://datasets/OWNER/NAME, s3://BUCKET/FOLDER, gs://BUCKET/FOLDER, https://HOST/FOLDER. Or several of these.
        problems: Record of unusable views and scenes.

    Raises:
        ImportError: If the package that reads an address is not installed.
        ValueError: If no format is found, or several datasets share scenes. For photos or a video without poses, the message has the command that estimates them.
        OSError: If an address can't be read.
    """
    problems = Problems() if problems is None else problems

    if not isinstance(path, str | Path):
        return joined({each: open_dataset(each, problems) for each in separate(path)}, problems)

    if (url := remote_url(path)) is not None:
        return open_remote(url, problems)

    path = Path(path).expanduser()
    found = find_dataset(path, problems)

    if found is None and path.is_dir() and (broken := next((each for each in first_contents(path) if isinstance(each, ValueError)), None)) is not None:
        raise broken

    if found is None and (loose := describe_unposed(path)) is not None:
        command = f'lvsm pose --data {quote(str(path))} --out {quote(str(posed_folder(path)))}'
        fail('data', 'must have poses', f'{loose} in {path} without any', f'Find them by `{command}`, or add --pose to lvsm render, view, train, evaluate or inspect.')

    if found is None:
        there = sorted(entry.name for entry in path.iterdir())[:8] if path.is_dir() else 'a file' if path.exists() else 'nothing of that name'
        fail('data', f'must be {KNOWN}', f'{path}: {there}', 'Is it the folder above, or below?')

    return found


def open_remote(url: str, problems: Problems) -> Dataset:
    """Opens the chunks or shards at an address, by their index."""
    folder = RemoteFolder(url)
    index = folder.read_json(INDEX)

    if index is None:
        fail('data', f'must have an {INDEX} of chunks or shards', url, 'Write shards with `lvsm pack`, and upload all that it writes; or download the data. Is it the folder above, or below?')

    return Shards(folder, problems) if is_shard_index(index) else Chunks(folder, problems)


def find_dataset(path: Path, problems: Problems) -> Dataset | None:
    """Opens a dataset as `open_dataset` does; returns None if there is none."""
    found = recognised(path, problems)

    if found is None and path.is_dir() and (formats := scene_folders(path)):
        names = dict(zip(formats, unique_names(path, list(formats)), strict = True))
        inner: list[Dataset] = []

        for is_one_scene, folders in groupby(formats, key = lambda folder: formats[folder] in READERS):
            if is_one_scene:
                inner.append(single_scenes({folder: formats[folder] for folder in folders}, names, problems))
            else:
                inner.extend(each for folder in folders if (each := problems.attempt(str(folder), partial(recognised, folder, problems))) is not None)

        if not inner:
            fail('data', 'must have at least one folder that can be read', f'none of {len(formats)} in {path}', problems.summary(most = 5) or 'Their lists of scenes are empty.')

        found = Concat(inner, problems)

    return found


def single_scenes(formats: dict[Path, str], names: dict[Path, str], problems: Problems) -> Scenes:
    """Returns a dataset of folders or files with one scene each.

    Args:
        formats: Formats by path of the folder or file.
        names: Names of the scenes by path.
        problems: Record of unusable views and scenes.
    """
    readers = [partial(READERS[format], path, problems, names[path]) for path, format in formats.items()]
    return Scenes(', '.join(dict.fromkeys(formats.values())), readers, problems, [names[path] for path in formats], [str(path) for path in formats])


def format_of(path: Path) -> str | None:
    """Returns the format of a folder from the names of its files, or None. The folder is listed once; a file is read only if its name is ambiguous."""
    if path.is_file():
        return LVSM_JSON if is_lvsm(path) else TRANSFORMS if transforms_files(path) else None

    try:
        names = set(os.listdir(path))
    except OSError:
        return None

    json_files = sorted(name for name in names if name.endswith('.json'))

    if INDEX in names and any(name.endswith('.tar') for name in names) and is_index_of_shards(path):
        return Shards.format

    if not names.isdisjoint(TRANSFORMS_FILES) and LIST not in names and (json_files[0] in TRANSFORMS_FILES or not is_lvsm(path)):
        return TRANSFORMS

    if any(name.endswith('.torch') for name in names):
        return Chunks.format

    if not names.isdisjoint(IN_COLMAP_FOLDERS) and model_folder(path) is not None:
        return COLMAP

    return LVSM_JSON if (json_files or not names.isdisjoint((LIST, 'metadata'))) and is_lvsm(path) else None


def is_index_of_shards(path: Path) -> bool:
    """Returns whether the index beside tar files is that of shards, or can't be parsed, since the reader of shards then raises a helpful error."""
    try:
        return is_shard_index(LocalFolder(path).read_json(INDEX))
    except BadView:
        return True


def recognised(path: Path, problems: Problems) -> Dataset | None:
    """Returns the dataset of a folder or file itself, or None if it has no known format. A scene is named after its folder."""
    format = format_of(path)
    folder = path if path.is_dir() else path.parent

    if format is not None and format in READERS:
        return single_scenes({path: format}, {path: folder.resolve().name}, problems)

    if format == LVSM_JSON:
        files = lvsm_files(path)
        readers = [partial(read_lvsm, file, folder, problems) for file in files]
        return Scenes(format, readers, problems, NamesInside(files), [str(file) for file in files]) if files else None

    if format == Shards.format:
        return Shards(path, problems)

    return Chunks(path, problems) if format == Chunks.format else None


class NamesInside:
    """Function from the number of a scene to its name, which is read from its file."""

    def __init__(self, files: Sequence[Path]):
        self.files = files

    def __call__(self, index: int) -> str:
        return read_name(self.files[index])


def scene_folders(path: Path) -> dict[Path, str]:
    """Finds the folders of scenes below a folder, sorted, with their formats. DL3DV has its scenes two levels below. Folders inside a scene, and copies of its photos, are left out."""
    found: dict[Path, str] = {}
    places: set[tuple[int, int]] = set()  # device and inode, so that links to one folder count once
    left_out: list[Path] = []

    def search(folder: Path, depth: int) -> None:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if not entry.name.startswith('.') and not re.fullmatch(IMAGES, entry.name) and entry.is_dir())

        formats = {name: format_of(folder / name) for name in names}
        copies = sorted((name for name, format in formats.items() if format is not None and name in COPIES), key = COPIES.index)[1:]
        left_out.extend(folder / name for name in copies)

        for name, format in formats.items():
            if format is None and depth > 1:
                search(folder / name, depth - 1)
            elif format is not None and name not in copies:
                about = (folder / name).stat()
                place = about.st_dev, about.st_ino

                if place not in places:
                    places.add(place)
                    found[folder / name] = format

    search(path, DEPTH)

    if left_out:
        warnings.warn(f'{len(left_out)} folders are left out, since they hold the photos of a folder beside them, such as {left_out[0]}', stacklevel = 3)

    return found


def unique_names(root: Path, folders: Sequence[Path]) -> list[str]:
    """Returns the names of folders; paths relative to the root for folders of the same name."""
    count = Counter(folder.name for folder in folders)
    return [folder.name if count[folder.name] == 1 else folder.relative_to(root).as_posix() for folder in folders]


def split_dataset(path: Location | Sequence[Location], problems: Problems | None = None) -> Split:
    """Opens a dataset as training scenes and held-out scenes: its folders `train` and `test`, or else every eighth scene is held out. At most 64 scenes are held out.

    Several datasets are split one by one (`split_each`).

    Raises:
        ValueError: If there is no dataset, or it has fewer than two scenes.
    """
    problems = Problems() if problems is None else problems

    if not isinstance(path, str | Path):
        splits = split_each(path, problems)
        return Split(joined({each: split.training for each, split in splits.items()}, problems), joined({each: split.held_out for each, split in splits.items()}, problems))

    return split_test(path, problems) if has_split(path) else split_scenes(open_dataset(path, problems))


def split_each(paths: Sequence[Location], problems: Problems) -> dict[Location, Split]:
    """Splits several datasets, with at most 64 held-out scenes in total.

    Datasets of a single scene are used for training if others have held-out scenes; otherwise they are split like one dataset.

    Raises:
        ValueError: As `open_dataset`, and if there is only one scene in total.
    """
    paths = separate(paths)
    most = max(MOST_HELD_OUT // len(paths), 1)
    own = {path: split_test(path, problems, most) for path in paths if has_split(path)}
    others = {path: open_dataset(path, problems) for path in paths if path not in own}
    lone = [path for path, dataset in others.items() if len(dataset) == 1]
    held_out = [] if len(own) + len(others) > len(lone) else lone[::EVERY][:most]

    def split(path: Location) -> Split:
        if path in own:
            return own[path]

        dataset = others[path]
        all_of_it, none = Subset(dataset, range(len(dataset))), Subset(dataset, ())
        return split_scenes(dataset, most) if path not in lone else Split(none, all_of_it) if path in held_out else Split(all_of_it, none)

    return {path: split(path) for path in paths}


def split_test(path: Location, problems: Problems, most: int = MOST_HELD_OUT) -> Split:
    """Opens a folder with `train` and `test` as a split."""
    test = open_dataset(inside(path, 'test'), problems)
    return Split(open_dataset(inside(path, 'train'), problems), Subset(test, range(0, len(test), max(len(test) // most, 1))[:most]))


def open_test(path: Location | Sequence[Location], problems: Problems | None = None) -> Dataset:
    """Opens the test split of a dataset: its folder `test` if there are `train` and `test`, otherwise the whole dataset.

    Raises:
        ValueError: As `open_dataset`.
    """
    problems = Problems() if problems is None else problems

    if not isinstance(path, str | Path):
        return joined({each: open_test(each, problems) for each in separate(path)}, problems)

    return open_dataset(inside(path, 'test') if has_split(path) else path, problems)


def inside(path: Location, name: str) -> Location:
    """Returns the path or address of a subfolder."""
    url = remote_url(path)
    return Path(path).expanduser() / name if url is None else f'{url.rstrip("/")}/{name}'


def has_split(path: Location) -> bool:
    """Returns whether a folder consists of `train` and `test`."""
    url = remote_url(path)

    if url is not None:
        return RemoteFolder(url).read_json(INDEX) is None and all(RemoteFolder(f'{url.rstrip("/")}/{part}').read_json(INDEX) is not None for part in ('train', 'test'))

    path = Path(path).expanduser()
    return (path / 'train').is_dir() and (path / 'test').is_dir() and recognised(path, Problems()) is None


