"""`lvsm render`: renders a camera path to frames and a video, or held-out views beside the ground truth."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from lvsm_pytorch.configs.render import RenderConfig
from lvsm_pytorch.data import Scene, View, cameras_of
from lvsm_pytorch.data.images import resized_intrinsics, save_image
from lvsm_pytorch.data.posing import with_poses
from lvsm_pytorch.evaluation.metrics import baselines, figures, render_batch, score, table
from lvsm_pytorch.evaluation.pictures import save_comparison
from lvsm_pytorch.execution import pick_device
from lvsm_pytorch.files import check_free
from lvsm_pytorch.geometry.cameras import Cameras
from lvsm_pytorch.geometry.trajectories import interpolation, orbit
from lvsm_pytorch.inference.large_views import input_size_for, render_view, what_to_expect
from lvsm_pytorch.inference.nearest import NearestPhotos
from lvsm_pytorch.inference.paths import Path3D, read_path
from lvsm_pytorch.inference.pipeline import EncodedPhotos, encode_photos
from lvsm_pytorch.inference.scenes import FittedViews, data_of, inputs_of, scene_of, scenes_of, unit_for
from lvsm_pytorch.inference.video import write_video
from lvsm_pytorch.lvsm.model import LVSM
from lvsm_pytorch.lvsm.pretrained import default_size, hash_of_weights, num_inputs_of
from lvsm_pytorch.output_dir import SETTINGS, beside, prepare_output_dir
from lvsm_pytorch.packaged import folder_for
from lvsm_pytorch.training.runs import load_run, source_of

FRAMES, HELD_OUT = 'frames', 'held-out'


class Film(NamedTuple):
    """A rendered camera path.

    Attributes:
        frames: Image files, in order.
        fps: Frames per second of the path's file; None if it has none.
        inputs: The input views.
    """
    frames: list[Path]
    fps: float | None
    inputs: list[View]


def render(config: RenderConfig) -> list[Path]:
    """Writes frames and videos, or held-out views, and returns the files. Existing frames are not rendered again.

    Raises:
        ValueError: If the folder is not a model, data or a path can't be read, or the output folder has frames of other settings.
    """
    config = with_poses(config)

    if config.path == HELD_OUT:
        return render_held_out(config)

    film = render_frames(config, config.out)
    out = film.frames[0].parent.parent
    endings = dict(mp4 = ['mp4'], gif = ['gif'], both = ['mp4', 'gif'], none = [])[config.video]
    files = [out / f'{Path(config.path).stem}.{ending}' for ending in endings]

    for file in files:
        write_video(film.frames, file, film.fps or config.fps)

    print(f'{len(film.frames)} frames are in {out / FRAMES}' + ''.join(f'; video: {file}' for file in files))
    return files + film.frames


def render_frames(config: RenderConfig, out: Path | None) -> Film:
    """Renders the frames of a path into a folder. Existing frames are not rendered again.

    Args:
        config: Options of the command.
        out: Output folder. None for the default of the model, or a new one beside it if that has other frames.
    """
    config.check()
    model = LVSM.from_pretrained(config.model)
    input_size = default_size(model)
    data = data_of(config.model, config.data)
    scenes = scenes_of(data, input_size[0])
    scene = scene_of(scenes, config.scene)
    photos = FittedViews(scene, input_size, scenes.problems)
    numbers = inputs_of(config, model, photos)
    inputs = [scene.views[number] for number in numbers]
    path = build_path(config, scene, inputs[0], cameras_of(inputs), input_size, None if isinstance(data, tuple) else data)
    uses_nearest = data is not None and config.inputs is None
    settings = dict(
        weights = hash_of_weights(model), data = None if config.data is None else str(config.data), scene = scene.name,
        inputs = f'{config.num_inputs or num_inputs_of(model)} nearest' if uses_nearest else list(numbers),
        path = config.path, size = list(path.size), cameras = hash_of(path.cameras),
    )
    out = output_dir_of(config, out, FRAMES, settings)
    files = [out / FRAMES / f'{number:05}.png' for number in range(len(path.cameras.camera_to_world))]

    if not all(map(is_written, files)):
        model = model.to(pick_device(config.device))
        left = [number for number, file in enumerate(files) if not is_written(file)]
        unit = unit_for(model, scene)
        expected = what_to_expect(model, path.size)

        if expected is not None:
            print(expected, flush = True)
            input_size = input_size_for(model, path.size)
            photos = FittedViews(scene, input_size, scenes.problems)

        if uses_nearest:
            views = NearestPhotos(model, photos, config.num_inputs or num_inputs_of(model), unit = unit).render(path.cameras, path.size, left)
        else:
            views = frames_from(partial(encode_photos, model, *photos.of(numbers), input_size = input_size, unit = unit), path.cameras[left], path.size, config.chunk_size)

        write_frames(views, left, files)

    return Film(files, path.fps, inputs)


def frames_from(encode: Callable[[], EncodedPhotos], cameras: Cameras, size: tuple[int, int], chunk_size: int) -> Iterator[Tensor]:
    """Yields the views (c h w) of all cameras from the same photos, which are encoded once. Views larger than in training are rendered one at a time."""
    encoded = encode()

    if what_to_expect(encoded.model, size) is None:
        for chunk in encoded.render(cameras, size, chunk_size = chunk_size):
            yield from chunk
    else:
        for number in range(len(cameras)):
            yield render_view(encoded, cameras[number], size)


def is_written(frame: Path) -> bool:
    """Returns whether a frame exists and is not empty. A power failure may leave empty files."""
    return frame.is_file() and frame.stat().st_size > 0


def output_dir_of(config: RenderConfig, out: Path | None, parts: str | None, settings: dict[str, Any]) -> Path:
    """Creates the output folder. By default another video of the same model gets a new folder beside the first, unless `overwrite` is set."""
    usual = folder_for('render', config.model)
    out = out or (usual if config.overwrite else beside(usual, settings))
    prepare_output_dir(out, parts, settings, overwrite = config.overwrite)
    return out


def hash_of(cameras: Cameras) -> str:
    return hashlib.sha256(b''.join(t.contiguous().numpy().tobytes() for t in cameras)).hexdigest()[:12]


def build_path(config: RenderConfig, scene: Scene, first: View, photos: Cameras, input_size: tuple[int, int], data: Path | None) -> Path3D:
    """Returns the camera path of the config in the world of the photos.

    Args:
        config: Options of the command.
        scene: Scene, whose cameras an orbit goes around.
        first: Input view whose intrinsics the frames have by default.
        photos: Cameras of the input views, between which the path interpolates.
        input_size: Default (height, width) of the frames.
        data: Dataset of the photos, for paths of nerfstudio.
    """
    size = input_size if config.height is None or config.width is None else (config.height, config.width)
    intrinsics = resized_intrinsics(first.intrinsics, first.size, size)

    if config.path in ('interpolate', 'orbit'):
        make_path = {'interpolate': interpolation, 'orbit': orbit}[config.path]
        poses = make_path(photos.camera_to_world if config.path == 'interpolate' else cameras_of(scene.views).camera_to_world, config.frames)
        return Path3D(Cameras(poses, intrinsics.expand(len(poses), 3, 3)), size)

    return read_path(Path(config.path), size, intrinsics, data)


def write_frames(views: Iterable[Tensor], left: list[int], files: list[Path]) -> None:
    """Writes views (3 h w) as frames with a progress bar.

    Args:
        views: Views of the frames in `left`.
        left: Numbers of the frames that are not yet written.
        files: Files of all frames.
    """
    from tqdm import tqdm

    with tqdm(total = len(files), initial = len(files) - len(left), unit = 'frame', desc = 'render') as bar:
        for number, view in zip(left, views, strict = True):
            save_image(view, files[number], durable = False)
            bar.update()


def unique_files(names: list[str]) -> list[str]:
    """Returns unique PNG file names for views, without the suffixes of the photos where possible."""
    stems = [Path(name).with_suffix('').as_posix().replace('/', '_') for name in names]
    whole = [name.replace('/', '_') for name in names]
    return [f'{stem if stems.count(stem) == 1 else name}.png' for stem, name in zip(stems, whole, strict = True)]


def render_held_out(config: RenderConfig) -> list[Path]:
    """Writes each held-out view as a PNG, and comparison.png."""
    from tqdm import tqdm

    trained, model = load_run(config.model)
    data = data_of(config.model, config.data)
    held_out = source_of(replace(trained, data = data)).held_out()
    settings = dict(weights = hash_of_weights(model), data = None if config.data is None else str(config.data), path = HELD_OUT, views = held_out.names)
    out = config.out or (folder_for('render', config.model) if config.overwrite else beside(folder_for('render', config.model), settings))
    files = [out / name for name in unique_files(held_out.names)]

    if not (out / SETTINGS).is_file():
        check_free([out / 'comparison.png', *files])

    prepare_output_dir(out, None, settings, overwrite = config.overwrite)
    pred = render_batch(model.to(pick_device(config.device)), held_out)

    for file, views in tqdm(list(zip(files, pred, strict = True)), unit = 'view'):
        save_image(views[0], file, durable = False)

    save_comparison(out / 'comparison.png', held_out, pred)
    print(table(figures(model = score(pred, held_out.target_images), **baselines(held_out)._asdict())))
    print(f'{len(pred)} views are in {out}')
    return [out / 'comparison.png', *files]
