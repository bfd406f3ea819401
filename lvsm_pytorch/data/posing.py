"""Pose estimation for loose photos or a video, which writes a COLMAP model of pinhole cameras that every command reads."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from lvsm_pytorch.configs.evaluate import EvaluateConfig
from lvsm_pytorch.configs.pose import PoseConfig
from lvsm_pytorch.configs.render import RenderConfig
from lvsm_pytorch.configs.train import TrainConfig
from lvsm_pytorch.configs.view import ViewConfig
from lvsm_pytorch.data import structure_from_motion as sfm
from lvsm_pytorch.data.discovery import find_dataset
from lvsm_pytorch.data.images import image_size
from lvsm_pytorch.data.photo_files import VIDEOS, list_photos, list_videos, posed_folder, prepare_photo
from lvsm_pytorch.data.pose_folder import ADVICE, RESULT, UNDISTORTED, WORK, Posed, check_place, claim, one_at_a_time, read_result
from lvsm_pytorch.data.problems import Problems
from lvsm_pytorch.data.storage import remote_url
from lvsm_pytorch.data.video_frames import extract_frames
from lvsm_pytorch.errors import fail
from lvsm_pytorch.files import make_folder, read_json, write_json
from lvsm_pytorch.text import counted

Config = TypeVar('Config', TrainConfig, EvaluateConfig, RenderConfig, ViewConfig)

# minimum number of photos in a scene

FEWEST = 3

# below this fraction of registered photos, and up to this number of photos, features are detected and matched again with more effort

ENOUGH, MOST_TWICE = 0.9, 60

# above this number, photos are assumed to be in order, and each is matched with its neighbours by name

MOST_EXHAUSTIVE = 200


class Photo(NamedTuple):
    """A photo in the work folder.

    Attributes:
        source: The user's file.
        size: (height, width) in pixels.
        lens: Name of the lens from EXIF.
        focal: Focal length in pixels; None if it is unknown.
    """
    name: str
    source: str
    size: tuple[int, int]
    lens: str = ''
    focal: float | None = None


def find_poses(photos: str | Path, out: str | Path, config: PoseConfig | None = None) -> Posed:
    """Estimates the poses of photos, or of frames of a video, and writes them with undistorted photos as a COLMAP model.

    The folder of the photos is not changed. An existing result of the same call is reused, and an interrupted call is resumed.

    Args:
        photos: A folder of photos, or a video.
        out: A new or empty folder, or one that this function wrote: `images`, `sparse/0`, pose.json, and the stages in `work`.
        config: Options; by default their defaults.

    Raises:
        ImportError: Without pycolmap, Pillow, or for videos PyAV.
        ValueError: If there are no photos, the output folder has other files, or fewer than three photos are registered.
    """
    photos, out, config = Path(photos).expanduser(), Path(out).expanduser(), config or PoseConfig()
    config.check()
    sfm.pycolmap()
    files = find_files(photos)
    settings = settings_of(photos, files, config)
    check_place(photos, out)
    make_folder(out)

    with one_at_a_time(out):
        claim(photos, out, settings, overwrite = config.overwrite)

        if not (out / RESULT).is_file():
            run_stages(files, out, out / WORK, settings, config)

    return read_result(out)


def run_stages(files: Sequence[Path], out: Path, work: Path, settings: dict[str, Any], config: PoseConfig) -> None:
    photos, skipped = frames_of(files[0], work, config) if is_video(files) else prepare(files, work, config)
    best = largest_model(photos, work, is_sequential(files, photos, config), config)
    unplaced = [photo.source for photo in photos if best is None or photo.name not in best[1].names]

    if best is None or len(best[1].names) < FEWEST:
        placed = 0 if best is None else len(best[1].names)
        problems = ''.join(f' {name} was skipped: {why}.' for name, why in skipped.items())
        fail('photos', f'must be at least {FEWEST} that can be placed', f'{placed} of {len(photos)} from {files[0] if is_video(files) else files[0].parent}', ADVICE + problems)

    model, found = best
    content = dict(
        settings = settings, placed = {photo.name: photo.source for photo in photos if photo.name in found.names}, unplaced = unplaced, skipped = skipped,
        num_points = found.num_points, error = found.error, focals = list(found.focals),
    )
    write_json(work / RESULT, content)
    publish(model, out, work, threads_of(config))
    write_json(out / RESULT, content)
    shutil.rmtree(work / UNDISTORTED, ignore_errors = True)


# input

def find_files(photos: Path) -> list[Path]:
    """Returns the photos of a folder, or one video.

    Raises:
        ValueError: If there are neither, or several videos.
    """
    if photos.is_file() and photos.suffix.lower() in VIDEOS:
        return [photos]

    if not photos.is_dir():
        fail('photos', 'must be a folder of photos or a video', f'{photos}, which {"is a file of another kind" if photos.exists() else "does not exist"}', 'One photo alone has no pose.')

    files, videos = list_photos(photos), list_videos(photos)

    if not files and len(videos) == 1:
        return videos

    if not files:
        found = f'{len(videos)} videos' if videos else 'none'
        fail('photos', 'must be a folder of photos or a video', f'{found} in {photos}', 'Name one of the videos.' if videos else 'JPEG, PNG, HEIC, WebP, TIFF and BMP files are photos.')

    return files


def is_video(files: Sequence[Path]) -> bool:
    return files[0].suffix.lower() in VIDEOS


def settings_of(photos: Path, files: Sequence[Path], config: PoseConfig) -> dict[str, Any]:
    """Returns all settings that the poses depend on."""
    options = {name: value for name, value in asdict(config).items() if name not in ('threads', 'overwrite')}

    if not is_video(files):
        del options['frames']

    return dict(photos = fingerprint(photos, files), **options)


def fingerprint(photos: Path, files: Sequence[Path]) -> str:
    """Returns a hash of the names and sizes of files, with their number; it does not depend on the location of the folder."""
    root = photos if photos.is_dir() else photos.parent
    content = [(file.relative_to(root).as_posix(), file.stat().st_size) for file in files]
    return f'{counted(len(files), "file")} ({hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]})'


def is_sequential(files: Sequence[Path], photos: Sequence[Photo], config: PoseConfig) -> bool:
    return is_video(files) or len(photos) > MOST_EXHAUSTIVE if config.matching == 'auto' else config.matching == 'sequential'


def threads_of(config: PoseConfig) -> int:
    available = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    return config.threads or available


# stages

def bar(total: int, unit: str, what: str) -> Any:
    from tqdm import tqdm

    return tqdm(total = total, unit = unit, desc = what)


def prepare(files: Sequence[Path], work: Path, config: PoseConfig) -> tuple[list[Photo], dict[str, str]]:
    """Writes upright, downscaled copies of photos to the work folder. Returns them, and the reasons of skipped files."""
    notes = work / 'photos.json'
    known = read_json(notes) if notes.is_file() else {}
    problems = Problems()
    photos: list[Photo] = []
    names = unique_names(files)

    with bar(len(files), 'photo', 'read') as progress:
        for number, (file, name) in enumerate(zip(files, names, strict = True)):
            prepared = known.get(name)

            if prepared is None or not (work / 'photos' / name).is_file():
                prepared = problems.attempt(file.name, lambda file = file, name = name: prepare_photo(file, work / 'photos' / name, config.image_size))

            if prepared is not None:
                known[name] = prepared
                (height, width), lens, focal = prepared
                photos.append(Photo(name, file.name, (height, width), lens, focal))

            if number % 20 == 19 or number == len(files) - 1:
                write_json(notes, known)

            progress.update()

    if len(photos) < FEWEST:
        fail('photos', f'must be at least {FEWEST} that can be read', f'{len(photos)} in {files[0].parent}', problems.summary() or ADVICE)

    return photos, problems.found


def unique_names(files: Sequence[Path]) -> list[str]:
    """Returns unique names for JPEGs: those of the files without characters that COLMAP's lists don't support, and numbered if they repeat."""
    names: list[str] = []

    for file in files:
        stem = re.sub(r'\s+', '_', file.stem)
        taken = {name.lower() for name in names}
        endings = ('.jpg', *(f'-{number}.jpg' for number in range(2, len(files) + 2)))
        names.append(next(name for ending in endings if (name := stem + ending).lower() not in taken))

    return names


def frames_of(video: Path, work: Path, config: PoseConfig) -> tuple[list[Photo], dict[str, str]]:
    """Extracts sharp frames of a video to the work folder. Returns them, and the reasons of skipped files."""
    with bar(config.frames, 'frame', 'frames') as progress:
        names = extract_frames(video, work / 'photos', num_frames = config.frames, max_size = config.image_size, progress = progress)

    return [Photo(name, name, image_size(work / 'photos' / name)) for name in names], {}


def groups_of(photos: Sequence[Photo], cameras: str) -> list[sfm.Group]:
    """Groups photos that share a camera: those of the same size, lens and focal length, if it is known."""
    groups: dict[Any, list[Photo]] = {}

    for photo in photos:
        key = dict(auto = (photo.size, photo.lens, photo.focal), one = photo.size, each = photo.name)[cameras]
        groups.setdefault(key, []).append(photo)

    def focal_of(group: list[Photo]) -> float | None:
        known = sorted(photo.focal for photo in group if photo.focal is not None)
        return known[len(known) // 2] if known else None

    return [sfm.Group(tuple(photo.name for photo in group), group[0].size, focal_of(group)) for group in groups.values()]


def largest_model(photos: Sequence[Photo], work: Path, sequential: bool, config: PoseConfig) -> tuple[Path, sfm.Found] | None:
    """Returns the model with most photos: that of the first attempt, or if it leaves many photos unregistered, the better of two."""
    first = attempt('plain', sfm.Effort(config.features), photos, work, sequential, config)
    is_enough = first is not None and len(first[1].names) >= ENOUGH * len(photos)

    if is_enough or len(photos) > MOST_TWICE:
        return first

    print(f'{0 if first is None else len(first[1].names)} of {len(photos)} photos placed; once more, with more effort')
    second = attempt('thorough', sfm.Effort(2 * config.features, thorough = True), photos, work, sequential, config)
    return max(filter(None, (first, second)), key = lambda each: len(each[1].names), default = None)


def attempt(name: str, effort: sfm.Effort, photos: Sequence[Photo], work: Path, sequential: bool, config: PoseConfig) -> tuple[Path, sfm.Found] | None:
    """Detects features, matches them, and reconstructs a model. Existing results are kept."""
    model, database, folder = work / f'model-{name}', work / f'{name}.db', work / 'photos'
    names, threads = [photo.name for photo in photos], threads_of(config)

    if not model.is_dir():
        pairs = sfm.sequential_pairs(len(names)) if sequential else sfm.exhaustive_pairs(len(names))

        if not database.is_file():
            sfm.add_photos(database, folder, groups_of(photos, config.cameras))

        with bar(len(names), 'photo', 'features') as progress:
            sfm.find_features(database, folder, names, effort, threads = threads, progress = progress)

        with bar(len(pairs), 'pair', 'match') as progress:
            sfm.match(database, names, pairs, effort, seed = config.seed, threads = threads, progress = progress)

        with bar(len(names), 'photo', 'place') as progress:
            sfm.reconstruct(database, folder, model, effort, seed = config.seed, placed = lambda count: progress.update(min(count, len(names) - progress.n)))

    found = sfm.read_model(model)
    return None if found is None else (model, found)


def publish(model: Path, out: Path, work: Path, threads: int) -> None:
    """Undistorts photos and their model, and moves them to the output folder."""
    undistorted = work / UNDISTORTED

    if not undistorted.is_dir():
        sfm.undistort(model, work / 'photos', undistorted, threads = threads)

    (out / 'sparse').mkdir(exist_ok = True)

    for source, target in ((undistorted / 'images', out / 'images'), (undistorted / 'sparse', out / 'sparse' / '0')):
        if source.is_dir():
            source.rename(target)


# in other commands

def with_poses(config: Config) -> Config:
    """Returns the config of a command with posed data. With the option `pose`, loose photos or a video are replaced by the result of `find_poses`.

    The result is in a new folder beside the photos, and is reused.

    Raises:
        ValueError: As `find_poses`.
    """
    if not config.pose:
        return config

    data = tuple(map(posed_data, config.data)) if isinstance(config.data, tuple) else posed_data(config.data)
    return replace(config, data = data, pose = False)


def posed_data(data: Path | None) -> Path:
    """Returns data that have poses unchanged; for loose photos or a video, estimates the poses, and returns the folder of `find_poses`.

    Raises:
        ValueError: If there are no photos; as `find_poses`.
    """
    if data is None:
        fail('pose', 'must come with data', 'none', 'Name the photos or the video by --data.')

    data = data.expanduser()

    if remote_url(data) is not None or find_dataset(data, Problems()) is not None:
        return data

    out = posed_folder(data)

    if (out / RESULT).is_file() and read_json(out / RESULT)['settings']['photos'] == fingerprint(data, find_files(data)):
        print(f'{data}: its poses are in {out}')
        return out

    print(f'{data} has no poses: they are found, and written to {out}')
    print(find_poses(data, out).report())
    return out
