"""COLMAP sparse models, through pycolmap: binary and text, with and without rigs and frames.

Poses are world to camera, OpenCV axes; pixel centres lie at +0.5, as here. A camera that distorts is made a pinhole by COLMAP's own
undistortion.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from lvsm_pytorch.data.images import image_size, load_image, save_image, to_pixels
from lvsm_pytorch.data.problems import BadView, Problems
from lvsm_pytorch.data.scene import Scene, View, check_pose, file_name
from lvsm_pytorch.errors import fail

# where a model may be in a folder, and its images beside it

MODELS = ('', 'sparse/0', 'sparse', 'colmap/sparse/0', 'colmap/sparse')


def pycolmap():
    try:
        import pycolmap
    except ImportError as error:
        raise ImportError('COLMAP models need pycolmap: pip install "lvsm-pytorch[colmap]"') from error

    return pycolmap


def model_folder(folder: Path) -> Path | None:
    """Where the model of a folder is, if there is one."""
    for name in MODELS:
        if any((folder / name / f'cameras.{ending}').is_file() and (folder / name / f'images.{ending}').is_file() for ending in ('bin', 'txt')):
            return folder / name

    return None


def read_colmap(folder: Path, problems: Problems | None = None) -> Scene:
    """The scene of a folder with a model in it or in `sparse/0`, and `images`. Images are decoded, and undistorted, when they are loaded.

    Images that were not registered are left out; those that are missing or broken are skipped, and noted in `problems`.
    Errors: ValueError for a model that can't be read, for cameras that can't be undistorted, and where no view is left.
    """
    problems = Problems() if problems is None else problems
    model = model_folder(folder)

    if model is None:
        fail('data', 'must be a folder with a COLMAP model', folder, 'It has cameras, images and points3D, as .bin or .txt, in it or in sparse/0.')

    try:
        reconstruction = pycolmap().Reconstruction(str(model))
    except (RuntimeError, ValueError, OSError) as error:
        raise ValueError(f'{model}: must be a COLMAP model, but got {error}. Write it anew.') from error

    views = []

    for image in reconstruction.images.values():
        where = f'{model}, image {image.name}'

        view = problems.attempt(where, partial(read_image, where, folder, model, image))

        if view is not None:
            views.append(view)

    if not views:
        fail(str(model), 'must have at least one registered image that can be used', f'none of {len(reconstruction.images)}', 'Are the images in `images` beside it?', BadView)

    return Scene(folder.resolve().name, tuple(sorted(views, key = lambda view: view.name)))


def read_image(where: str, folder: Path, model: Path, image) -> View:
    path = image_path(where, folder, model, image.name)
    height, width = image_size(path)
    camera = pycolmap().Camera(image.camera.todict())

    if abs(camera.height * width / camera.width - height) > 1.5:
        fail(where, f'must have the proportions of its camera, {camera.width} × {camera.height}', f'{width} × {height}', 'Is it another image, or turned by its EXIF orientation?', BadView)

    camera.rescale(width, height)
    pose = torch.eye(4, dtype = torch.float64)
    pose[:3] = torch.from_numpy(image.cam_from_world().matrix())
    load = partial(load_image, path)

    if camera.model_name not in ('PINHOLE', 'SIMPLE_PINHOLE'):
        load = partial(load_undistorted, path, camera)
        camera = undistorted(where, camera)

    intrinsics = torch.from_numpy(camera.calibration_matrix()).float()
    return View(image.name, torch.linalg.inv(check_pose(where, pose)).float(), intrinsics, load)


def undistorted(where: str, camera):
    try:
        return pycolmap().undistort_camera(pycolmap().UndistortCameraOptions(), camera)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f'{where}: must be of a camera that COLMAP undistorts, but got {camera.model_name}: {error}. Cut pinhole views out of it first.') from error


def load_undistorted(path: Path, camera) -> Tensor:
    import numpy as np

    bitmap, _ = pycolmap().undistort_image(pycolmap().UndistortCameraOptions(), pycolmap().Bitmap.from_array(to_pixels(load_image(path))), camera)
    return torch.from_numpy(np.array(bitmap.to_array())).permute(2, 0, 1).float() / 255


def image_path(where: str, folder: Path, model: Path, name: str) -> Path:
    """In `images` of the folder, or in a smaller copy of it, or beside the model."""
    roots = [root.resolve() for root in (folder, model, *model.parents[:2])]
    folders = [root / images for root in dict.fromkeys(roots) for images in ('images', 'images_2', 'images_4', 'images_8', 'input')]

    if any(not (images / name).resolve().is_relative_to(images) for images in folders):
        fail(where, 'must have its image inside of the folder of images', name, 'Move the image there, and name it relative to that.')

    path = next((images / name for images in folders if (images / name).is_file()), None)

    if path is None:
        fail(where, 'must name an image that exists', name, f'Looked for it in {folders[0]} and beside the model.', BadView)

    return path.resolve()


def write_colmap(scene: Scene, folder: Path) -> None:
    """Writes a scene as PNG images and a binary model in `sparse/0`, with a PINHOLE camera for each view and no points.

    Errors: ValueError where there is a model already.
    """
    import numpy as np

    if model_folder(folder) is not None:
        fail('folder', 'must have no COLMAP model yet', folder, 'Choose another folder.')

    colmap = pycolmap()
    reconstruction = colmap.Reconstruction()
    (folder / 'images').mkdir(parents = True, exist_ok = True)

    for index, view in enumerate(scene.views, start = 1):
        pixels = view.load()
        name = file_name(view)
        save_image(pixels, folder / 'images' / name)

        (fx, _, cx), (_, fy, cy), _ = view.intrinsics.double().tolist()
        world_to_camera = torch.linalg.inv(view.camera_to_world.double())[:3].numpy()
        camera = colmap.Camera(camera_id = index, model = 'PINHOLE', width = pixels.shape[2], height = pixels.shape[1], params = [fx, fy, cx, cy])
        reconstruction.add_camera_with_trivial_rig(camera)
        reconstruction.add_image_with_trivial_frame(colmap.Image(image_id = index, name = name, camera_id = index), colmap.Rigid3d(np.ascontiguousarray(world_to_camera)))

    (folder / 'sparse' / '0').mkdir(parents = True)
    reconstruction.write(str(folder / 'sparse' / '0'))
