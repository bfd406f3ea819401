"""Datasets in folders, in any format, which is detected from the files."""

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

# formats of one scene a folder, and names in such folders

READERS: dict[str | None, Callable[[Path, Problems, str], Scene]] = {TRANSFORMS: read_transforms, COLMAP: read_colmap}
TRANSFORMS_FILES = FILE, *SPLITS
IN_COLMAP_FOLDERS = 'cameras.bin', 'cameras.txt', 'sparse', 'colmap'

# how far below a folder scenes are looked for; folders of images alone; and folders, in order of preference, in which datasets have the same photos
# of one scene in several ways: DL3DV's benchmark, ScanNet++, workspaces of COLMAP and gaussian splatting

DEPTH = 3
IMAGES = r'(images|input|depths?|masks?|frames)(_\d+)?'
COPIES = ('nerfstudio', 'dslr', 'gaussian_splat', 'dense', 'undistorted', 'colmap', 'sparse', 'distorted', 'iphone')


def open_dataset(path: Location | Sequence[Location], problems: Problems | None = None) -> Dataset:
    """The dataset in a folder (or of a file) in any format that this library reads, or all scenes of several. No scene is read yet.

    What lies in the folder of a scene is no scene of its own. A scene is called as its folder is, and where several are called so, by its path. Of several datasets, the name of
    a scene begins with that of its dataset (`several.prefixes`).

    Args:
        path: A path of this machine, or of chunks and shards an address that fsspec reads: hf://datasets/OWNER/NAME, s3://BUCKET/FOLDER, gs://BUCKET/FOLDER, https://HOST/FOLDER. Or several of these.
        problems: Where to note what can't be used.

    Raises:
        ImportError: For addresses, without what reads them.
        ValueError: For what is in none of them; for photos or a video without poses it says how to find these; for several that share scenes.
        OSError: For addresses that can't be read.
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
    """The chunks or shards at an address, by their index."""
    folder = RemoteFolder(url)
    index = folder.read_json(INDEX)

    if index is None:
        fail('data', f'must have an {INDEX} of chunks or shards', url, 'Write shards with `lvsm pack`, and upload all that it writes; or download the data. Is it the folder above, or below?')

    return Shards(folder, problems) if is_shard_index(index) else Chunks(folder, problems)


def find_dataset(path: Path, problems: Problems) -> Dataset | None:
    """As `open_dataset`, with None for what is no dataset."""
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
    """Folders, or files, of one scene each.

    Args:
        formats: Of them, by path.
        names: Of the scenes, by path.
    """
    readers = [partial(READERS[format], path, problems, names[path]) for path, format in formats.items()]
    return Scenes(', '.join(dict.fromkeys(formats.values())), readers, problems, [names[path] for path in formats], [str(path) for path in formats])


def format_of(path: Path) -> str | None:
    """The files in a folder tell its format. A folder is listed once, and a file is read where its name does not say what it is."""
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
    """Whether the index beside tar files is that of shards. One that can't be parsed is: whoever reads the shards says what is wrong with it."""
    try:
        return is_shard_index(LocalFolder(path).read_json(INDEX))
    except BadView:
        return True


def recognised(path: Path, problems: Problems) -> Dataset | None:
    """The dataset of a folder, or of a file. A scene is called as its folder is."""
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
    """Names of scenes by number, which only their files say."""

    def __init__(self, files: Sequence[Path]):
        self.files = files

    def __call__(self, index: int) -> str:
        return read_name(self.files[index])


def scene_folders(path: Path) -> dict[Path, str]:
    """Formats of the folders of scenes below a folder, sorted: DL3DV has its scenes two below. Those below a scene, and other copies of its photos, are left out."""
    found: dict[Path, str] = {}
    places: set[tuple[int, int]] = set()  # where they are, links followed
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
    """Names of folders, and where several have one, their paths below the root."""
    count = Counter(folder.name for folder in folders)
    return [folder.name if count[folder.name] == 1 else folder.relative_to(root).as_posix() for folder in folders]


def split_dataset(path: Location | Sequence[Location], problems: Problems | None = None) -> Split:
    """Scenes to train with, and those held out: of a folder with `train` and `test`, these; else every eighth scene; up to 64.

    Of several datasets each is split by itself (`split_each`).

    Raises:
        ValueError: For what is no dataset, and for one with fewer than two scenes.
    """
    problems = Problems() if problems is None else problems

    if not isinstance(path, str | Path):
        splits = split_each(path, problems)
        return Split(joined({each: split.training for each, split in splits.items()}, problems), joined({each: split.held_out for each, split in splits.items()}, problems))

    return split_test(path, problems) if has_split(path) else split_scenes(open_dataset(path, problems))


def split_each(paths: Sequence[Location], problems: Problems) -> dict[Location, Split]:
    """Splits of several datasets, which hold out up to 64 scenes together. Lone scenes are split as one dataset, or trained with where others hold scenes out.

    Raises:
        ValueError: As `open_dataset`, and for a lone scene in all.
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
    """Of a folder with `train` and `test`."""
    test = open_dataset(inside(path, 'test'), problems)
    return Split(open_dataset(inside(path, 'train'), problems), Subset(test, range(0, len(test), max(len(test) // most, 1))[:most]))


def open_test(path: Location | Sequence[Location], problems: Problems | None = None) -> Dataset:
    """What there is to test with: of a folder with `train` and `test`, the latter; else all.

    Raises:
        ValueError: As `open_dataset`.
    """
    problems = Problems() if problems is None else problems

    if not isinstance(path, str | Path):
        return joined({each: open_test(each, problems) for each in separate(path)}, problems)

    return open_dataset(inside(path, 'test') if has_split(path) else path, problems)


def inside(path: Location, name: str) -> Location:
    """A folder in a folder, which may be remote."""
    url = remote_url(path)
    return Path(path).expanduser() / name if url is None else f'{url.rstrip("/")}/{name}'


def has_split(path: Location) -> bool:
    """Whether a folder is one of `train` and `test`."""
    url = remote_url(path)

    if url is not None:
        return RemoteFolder(url).read_json(INDEX) is None and all(RemoteFolder(f'{url.rstrip("/")}/{part}').read_json(INDEX) is not None for part in ('train', 'test'))

    path = Path(path).expanduser()
    return (path / 'train').is_dir() and (path / 'test').is_dir() and recognised(path, Problems()) is None


