"""`lvsm pack`: conversion of any dataset to WebDataset shards, which can be read locally or from a server."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lvsm_pytorch.data.dataset import Dataset
from lvsm_pytorch.data.discovery import has_split, inside, open_dataset
from lvsm_pytorch.data.formats.scene_files import INDEX
from lvsm_pytorch.data.formats.shards import FORMAT, VERSION, add_to, read_shard, scene_files
from lvsm_pytorch.data.problems import Problems
from lvsm_pytorch.data.several import Location, joined, separate
from lvsm_pytorch.errors import check_at_least
from lvsm_pytorch.files import write_json, write_whole
from lvsm_pytorch.output_dir import prepare_output_dir


def pack(data: Location | Sequence[Location], out: Path, *, image_size: int | None = None, scenes_per_shard: int = 50, overwrite: bool = False, problems: Problems | None = None) -> dict[Path, int]:
    """Writes a dataset as shards with an index. Of a folder with `train` and `test`, both are written. The same call resumes an interrupted one.

    Args:
        data: Posed photos in any supported format, or several datasets. If some of these have `train` and `test`, all others belong to `train`.
        out: A new folder, or one of an interrupted call.
        image_size: Maximum length of the shorter side of images, in pixels. By default image files are copied unchanged.
        scenes_per_shard: Number of scenes in a shard. A shard is downloaded as a whole; some hundred megabytes are usual.
        overwrite: Delete other shards in the folder.
        problems: Record of skipped views and scenes.

    Returns:
        Number of scenes in each folder that was written.

    Raises:
        ValueError: If an argument is out of range, there is no dataset, or the folder has other files.
        OSError: If files can't be written. Shards that are already written are complete.
    """
    check_at_least(1, image_size = image_size, scenes_per_shard = scenes_per_shard)
    problems = Problems() if problems is None else problems
    is_one = isinstance(data, str | Path)
    paths = [data] if is_one else separate(data)
    divided = [path for path in paths if has_split(path)]
    settings = dict(data = str(data) if is_one else [str(path) for path in paths], image_size = image_size, scenes_per_shard = scenes_per_shard)

    def opened(part: str | None) -> Dataset:
        found = {path: open_dataset(inside(path, part) if part is not None and path in divided else path, problems) for path in paths if part != 'test' or path in divided}
        return next(iter(found.values())) if is_one else joined(found, problems)

    datasets = {out / 'train': opened('train'), out / 'test': opened('test')} if divided else {out: opened(None)}
    return {folder: pack_dataset(dataset, folder, settings, overwrite = overwrite) for folder, dataset in datasets.items()}


def pack_dataset(dataset: Dataset, out: Path, settings: dict[str, Any], *, overwrite: bool = False) -> int:
    """Writes one dataset, and returns the number of its usable scenes.

    Args:
        dataset: Dataset to write.
        out: Folder to write to.
        settings: All settings that the shards depend on: `image_size`, `scenes_per_shard`.
        overwrite: Delete other shards in the folder.
    """
    from tqdm import tqdm

    if overwrite and (out / INDEX).is_file():
        for path in out.glob('*.tar'):
            path.unlink()

        (out / INDEX).unlink()

    prepare_output_dir(out, None, settings | dict(scenes = len(dataset)), overwrite = overwrite)
    per_shard, size = settings['scenes_per_shard'], settings['image_size']
    shards = []

    for number, start in enumerate(tqdm(range(0, len(dataset), per_shard), desc = str(out), unit = 'shard')):
        path = out / f'{number:06d}.tar'

        if not path.is_file():
            write_whole(path, partial(write_shard, dataset, range(start, min(start + per_shard, len(dataset))), size))

        shards.append(dict(file = path.name, scenes = len(read_shard(path)), bytes = path.stat().st_size))

    write_json(out / INDEX, dict(format = FORMAT, version = VERSION, shards = shards))
    return sum(shard['scenes'] for shard in shards)


def write_shard(dataset: Dataset, numbers: range, image_size: int | None, path: Path) -> None:
    with tarfile.open(path, 'w', format = tarfile.USTAR_FORMAT) as archive:
        for number in numbers:
            files = dataset.problems.attempt(dataset.label(number), lambda number = number: scene_files(dataset[number], f'{number:08d}', dataset.problems, image_size = image_size))

            for name, content in files or ():
                add_to(archive, name, content)
