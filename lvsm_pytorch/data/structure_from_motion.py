"""Structure from motion by pycolmap on the CPU, in stages: features, matches, reconstruction, and undistortion to pinhole cameras.

Every stage can be resumed: features and matches are in COLMAP's database, other results in folders that are renamed when they are complete.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from lvsm_pytorch.data.formats.colmap import pycolmap

# camera model with one focal length and one coefficient of radial distortion, which a few photos can determine

CAMERA_MODEL = 'SIMPLE_RADIAL'

# sequential matching: number of following frames that a frame is matched with, besides frames 2, 4, 8, .. later; and interval of the frames that are all
# matched with each other, for loop closure

OVERLAP = 10
LOOP_EVERY = 5

# number of pairs in a call, and number of photos in a block of pairs, whose features are loaded once

PAIRS_AT_ONCE = 64
BLOCK = 8

JPEG_QUALITY = 95


class Group(NamedTuple):
    """Photos of one camera.

    Attributes:
        size: (height, width) in pixels.
        focal: Focal length in pixels; None if it is unknown.
    """
    names: tuple[str, ...]
    size: tuple[int, int]
    focal: float | None


class Effort(NamedTuple):
    """Settings of feature detection and matching.

    Attributes:
        num_features: Maximum number of features of a photo.
        thorough: For few photos with wide baselines. Uses weaker features with affine shapes, guided matching along epipolar lines, and fewer inliers to register a photo. It takes several
            times as long, and is wrong more often.
    """
    num_features: int
    thorough: bool = False


class Found(NamedTuple):
    """A reconstructed model.

    Attributes:
        names: Names of the registered photos.
        num_points: Number of triangulated points.
        error: Mean reprojection error in pixels.
        focals: Focal lengths of the cameras in pixels.
    """
    names: tuple[str, ...]
    num_points: int
    error: float
    focals: tuple[float, ...]


@contextmanager
def quiet() -> Iterator[Any]:
    """Context manager that returns pycolmap with logging turned off. Failures are exceptions or missing results."""
    colmap = pycolmap()
    before = colmap.logging.minloglevel
    colmap.logging.minloglevel = 3

    try:
        yield colmap
    finally:
        colmap.logging.minloglevel = before


def add_photos(database: Path, photos: Path, groups: Sequence[Group]) -> None:
    """Creates the database with photos and cameras in a fixed order, for reproducible numbers."""
    with quiet() as colmap:
        partial = database.with_suffix('.new')
        partial.unlink(missing_ok = True)
        colmap.Database.open(partial).close()

        for group in groups:
            options = colmap.ImageReaderOptions()
            options.camera_model = CAMERA_MODEL

            if group.focal is not None:
                height, width = group.size
                options.camera_params = f'{group.focal},{width / 2},{height / 2},0'

            colmap.import_images(partial, photos, camera_mode = colmap.CameraMode.SINGLE, image_names = list(group.names), options = options)

        partial.rename(database)


def find_features(database: Path, photos: Path, names: Sequence[str], effort: Effort, *, threads: int, progress: Any) -> None:
    """Detects features of the photos that have none in the database."""
    with quiet() as colmap:
        options = colmap.FeatureExtractionOptions()
        options.num_threads = threads
        options.use_gpu = False
        options.sift.max_num_features = effort.num_features
        options.sift.peak_threshold = 0.001 if effort.thorough else 0.0033  # COLMAP's 0.0067 finds too few
        options.sift.estimate_affine_shape = effort.thorough

        with colmap.Database.open(database) as opened:
            numbers = {name: opened.read_image_with_name(name).image_id for name in names}
            missing = [name for name in names if not (opened.exists_keypoints(numbers[name]) and opened.exists_descriptors(numbers[name]))]

        progress.update(len(names) - len(missing))

        for start in range(0, len(missing), 2 * threads):
            some = missing[start:start + 2 * threads]
            colmap.extract_features(database, photos, image_names = some, extraction_options = options, device = colmap.Device.cpu)
            progress.update(len(some))


def exhaustive_pairs(count: int) -> list[tuple[int, int]]:
    """Returns all pairs of photos, in blocks."""
    return sorted(combinations(range(count), 2), key = lambda pair: (pair[0] // BLOCK, pair[1] // BLOCK, pair))


def sequential_pairs(count: int) -> list[tuple[int, int]]:
    """Returns pairs of consecutive photos, sparser pairs of more distant ones, and pairs for loop closure."""
    steps = {*range(1, OVERLAP + 1), *(2 ** power for power in range(count.bit_length()))}
    near = {(first, first + step) for first in range(count) for step in steps if first + step < count}
    return sorted(near | set(combinations(range(0, count, LOOP_EVERY), 2)))


def match(database: Path, names: Sequence[str], pairs: Sequence[tuple[int, int]], effort: Effort, *, seed: int, threads: int, progress: Any) -> None:
    """Matches those pairs (indices of `names`) that have no matches in the database, and verifies them geometrically."""
    with quiet() as colmap:
        matching, pairing, verification = colmap.FeatureMatchingOptions(), colmap.ImportedPairingOptions(), colmap.TwoViewGeometryOptions()
        matching.num_threads = threads
        matching.use_gpu = False
        matching.guided_matching = effort.thorough
        matching.sift.max_ratio = 0.85 if effort.thorough else 0.8
        verification.ransac.random_seed = seed
        pairing.match_list_path = database.with_suffix('.pairs')

        with colmap.Database.open(database) as opened:
            numbers = [opened.read_image_with_name(name).image_id for name in names]
            missing = [(first, second) for first, second in pairs if not opened.exists_two_view_geometry(numbers[first], numbers[second])]

        progress.update(len(pairs) - len(missing))

        for start in range(0, len(missing), PAIRS_AT_ONCE):
            some = missing[start:start + PAIRS_AT_ONCE]
            pairing.match_list_path.write_text(''.join(f'{names[first]} {names[second]}\n' for first, second in some), encoding = 'utf-8')
            colmap.match_image_pairs(database, matching_options = matching, pairing_options = pairing, verification_options = verification, device = colmap.Device.cpu)
            progress.update(len(some))


def reconstruct(database: Path, photos: Path, model: Path, effort: Effort, *, seed: int, placed: Callable[[int], object]) -> None:
    """Reconstructs a model, and writes the largest one to the folder `model`, which stays empty without one. It uses one thread, so that the same seed gives the same model.

    Args:
        database: COLMAP database with features and matches.
        photos: Folder of the photos.
        model: Folder to write.
        effort: Settings of feature detection and matching.
        seed: Random seed.
        placed: Called with the number of newly registered photos.
    """
    with quiet() as colmap:
        options = colmap.IncrementalPipelineOptions()
        options.num_threads = 1
        options.random_seed = seed
        options.min_model_size = 3
        options.max_num_models = 10

        if effort.thorough:
            options.mapper.init_min_num_inliers = 50
            options.mapper.abs_pose_min_num_inliers = 15

        work, partial = model.with_name(f'{model.name}-all'), model.with_name(f'{model.name}-new')

        for folder in (work, partial):
            shutil.rmtree(folder, ignore_errors = True)
            folder.mkdir()

        found = colmap.incremental_mapping(
            database, photos, work, options = options, initial_image_pair_callback = lambda: placed(2), next_image_callback = lambda: placed(1),
        )
        largest = max(found.values(), key = lambda each: (each.num_reg_images(), each.num_points3D()), default = None)

        if largest is not None:
            largest.write(partial)

        shutil.rmtree(work)
        partial.rename(model)


def read_model(model: Path) -> Found | None:
    """Reads the model of `reconstruct`; returns None without one."""
    if not any(model.iterdir()):
        return None

    with quiet() as colmap:
        found = colmap.Reconstruction(model)
        names = tuple(sorted(image.name for image in found.images.values() if image.has_pose))
        return Found(names, found.num_points3D(), found.compute_mean_reprojection_error(), tuple(float(camera.params[0]) for camera in found.cameras.values()))


def undistort(model: Path, photos: Path, out: Path, *, threads: int) -> None:
    """Undistorts a model to pinhole cameras, into the folder `out`: `images`, and the model in `sparse`."""
    with quiet() as colmap:
        partial = out.with_name(f'{out.name}-new')
        shutil.rmtree(partial, ignore_errors = True)
        partial.mkdir()
        colmap.undistort_images(partial, model, photos, output_type = 'COLMAP', jpeg_quality = JPEG_QUALITY, num_threads = threads)
        partial.rename(out)
