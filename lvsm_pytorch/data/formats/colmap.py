"""COLMAP sparse models, through pycolmap: binary and text, with and without rigs and frames.

Poses are world to camera, OpenCV axes; pixel centres lie at +0.5, as in this library. Images with lens distortion are undistorted by COLMAP.
"""

from __future__ import annotations

import warnings
from codecs import BOM_UTF8
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lvsm_pytorch.data.formats.common import check_intrinsics, check_resolution, looked_for, path_inside, usable
from lvsm_pytorch.data.images import in_unit, load_image, save_image, to_pixels
from lvsm_pytorch.data.lazy_images import ImageFile, StoredSizes
from lvsm_pytorch.data.problems import BadView, Problems
from lvsm_pytorch.data.scene import Scene, View, check_pose, file_names
from lvsm_pytorch.errors import fail
from lvsm_pytorch.files import check_free
from lvsm_pytorch.geometry.cameras import pose as pose_of
from lvsm_pytorch.geometry.conventions import quaternion_to_rotation, rotation_to_quaternion

# folders that may have a model, relative to that of the dataset

MODELS = ('', 'sparse', 'colmap/sparse')

# tolerance for the corners of the pinhole image, as a fraction of the sides of the photo: COLMAP determines them in steps

AT_EDGE = 0.05


def pycolmap():
    try:
        import pycolmap
    except ImportError as error:
        raise ImportError('COLMAP models need pycolmap: pip install "lvsm-pytorch[colmap]"') from error

    return pycolmap


def model_folder(folder: Path) -> Path | None:
    """Returns the folder of the COLMAP model of a dataset, or of the one with most images if there are several. None without a model."""
    for name in MODELS:
        models = models_in(folder / name)

        if models:
            return max(models, key = lambda model: (models[model], is_model(folder / name), model.name))

    return None


def models_in(folder: Path) -> dict[Path, int]:
    """Returns the models in a folder and, if it is `sparse`, in its numbered subfolders (`sparse/0`, `sparse/1`, ..), with their numbers of images."""
    numbered = sorted(each for each in folder.iterdir() if each.name.isdigit() and each.is_dir()) if folder.name == 'sparse' and folder.is_dir() else []
    return {each: num_images(each) for each in (folder, *numbered) if is_model(each)}


def is_model(folder: Path) -> bool:
    return any((folder / f'cameras.{ending}').is_file() and (folder / f'images.{ending}').is_file() for ending in ('bin', 'txt'))


def num_images(model: Path) -> int:
    """Returns the number of registered images in the file of a model; 0 for a broken file."""
    try:
        if (model / 'images.bin').is_file():
            with open(model / 'images.bin', 'rb') as file:
                return int.from_bytes(file.read(8), 'little')

        with open(model / 'images.txt', encoding = 'utf-8-sig') as file:
            return (sum(not line.startswith('#') for line in file) + 1) // 2  # two lines per image
    except (OSError, ValueError):
        return 0


def read_colmap(folder: Path, problems: Problems | None = None, name: str | None = None) -> Scene:
    """Reads a scene from a folder with a model, in it or in `sparse`, and `images`. Images are decoded and undistorted when loaded.

    Unregistered images are not used. Missing and broken images are skipped and recorded in `problems`. Of several models the largest is read,
    with a warning that lists the others.

    Args:
        folder: The folder.
        problems: Records skipped images.
        name: Name of the scene. By default that of the folder.

    Raises:
        ValueError: For a folder without a model.
        BadView: For a broken model, and if no view is valid.
    """
    problems = Problems() if problems is None else problems
    model = model_folder(folder)

    if model is None:
        fail('data', 'must be a folder with a COLMAP model', folder, 'A model is cameras, images and points3D, as .bin or .txt, in the folder or in sparse/0.')

    others = {each: count for each, count in models_in(model.parent if model.name.isdigit() else model).items() if each != model}

    if others:
        named = ', '.join(f'{each} with {count}' for each, count in others.items())
        warnings.warn(f'{model} with {num_images(model)} images is read; not read: {named}', stacklevel = 2)

    reconstruction = read_model(model)
    sizes = StoredSizes()
    named = {f'{model}, image {image.name}': image for image in reconstruction.images.values() if image.has_pose}
    views = usable(str(model), problems, {where: partial(read_image, where, folder, model, image, sizes) for where, image in named.items()})
    ordered = sorted(views.values(), key = lambda view: view.name)
    check_resolution(str(model), torch.stack([view.intrinsics for view in ordered]), [view.size for view in ordered])
    return Scene(name or folder.resolve().name, tuple(ordered))


def read_model(model: Path):
    """Reads a pycolmap.Reconstruction.

    Raises:
        BadView: For a broken model.
    """
    texts = [] if any(model.glob('*.bin')) else [path for path in model.glob('*.txt') if path.read_bytes().startswith(BOM_UTF8)]

    if texts:  # editors write byte order marks, which COLMAP can't parse
        with TemporaryDirectory() as copy:
            for path in model.glob('*.txt'):
                (Path(copy) / path.name).write_bytes(path.read_bytes().removeprefix(BOM_UTF8))

            return read_model(Path(copy))

    try:
        return pycolmap().Reconstruction(str(model))
    except (RuntimeError, ValueError, OSError, IndexError) as error:
        raise BadView(f'{model}: must be a COLMAP model, but got {error}. Write it again.') from error


def read_image(where: str, folder: Path, model: Path, image, sizes: StoredSizes) -> View:
    path = image_path(where, folder, model, image.name)
    height, width = sizes.of(path, image.camera_id)
    camera = pycolmap().Camera(image.camera.todict())

    if abs(camera.height * width / camera.width - height) > 1.5:
        fail(where, f'must have the proportions of its camera, {camera.width} × {camera.height}', f'{width} × {height}', 'Is it another image, or turned by its EXIF orientation?', BadView)

    camera.rescale(width, height)
    pose = torch.eye(4, dtype = torch.float64)
    pose[:3] = torch.from_numpy(image.cam_from_world().matrix())
    load = ImageFile(path, (height, width), where)

    if camera.model_name not in ('PINHOLE', 'SIMPLE_PINHOLE'):
        pinhole = undistorted(where, camera)
        load, camera = ColmapUndistorted(path, (height, width), where, camera, pinhole), pinhole

    intrinsics = check_intrinsics(where, torch.from_numpy(camera.calibration_matrix()).float(), load.size)
    return View(image.name, torch.linalg.inv(check_pose(where, pose)), intrinsics, load)


def undistorted(where: str, camera):
    """Returns the pinhole camera of the undistorted image.

    Raises:
        BadView: If no pinhole camera can represent the camera: pixels without a ray, or with a ray that does not point forward.
    """
    try:
        pinhole = pycolmap().undistort_camera(pycolmap().UndistortCameraOptions(), camera)
    except (RuntimeError, ValueError) as error:
        raise BadView(f'{where}: must have a camera that COLMAP can undistort, but got {camera.model_name}: {error}. Crop pinhole views out of it first.') from error

    check_unfolds(where, camera, pinhole)
    return pinhole


def check_unfolds(where: str, camera, pinhole) -> None:
    """Checks that distortion is monotonic, from the principal point to the middles of the edges, and that the pinhole image lies on the photo.

    Raises:
        BadView: If not.
    """
    import numpy as np

    size, middle = np.array([camera.width, camera.height]), np.array([camera.principal_point_x, camera.principal_point_y])
    edges = np.array([[0, middle[1]], [size[0], middle[1]], [middle[0], 0], [middle[0], size[1]]])
    along = middle + (edges[:, None] - middle) * np.linspace(0, 1, 65)[1:, None]
    distance = np.linalg.norm(np.asarray(camera.cam_from_img(np.ascontiguousarray(along.reshape(-1, 2)))), axis = 1).reshape(4, -1)
    corners = np.array([[0., 0.], [0., pinhole.height], [pinhole.width, 0.], [pinhole.width, pinhole.height]])
    rays = np.asarray(pinhole.cam_from_img(corners))
    on_photo = np.asarray(camera.img_from_cam(np.concatenate((rays, np.ones((4, 1))), axis = 1)))

    if not ((np.diff(distance, axis = 1) > 0).all() and (on_photo > -AT_EDGE * size).all() and (on_photo < (1 + AT_EDGE) * size).all()):
        fail(where, 'must have distortion that is monotonic over its image, and less than 180 degrees', f'{camera.model_name} with {camera.params_to_string()} in an image of {camera.width} × {camera.height}',
             'Calibrate the camera again, or crop pinhole views out of the images first.', BadView)


def load_undistorted(path: Path, camera) -> Tensor:
    return undistorted_by_colmap(load_image(path), camera)


def undistorted_by_colmap(image: Tensor, camera) -> Tensor:
    import numpy as np

    bitmap, _ = pycolmap().undistort_image(pycolmap().UndistortCameraOptions(), pycolmap().Bitmap.from_array(to_pixels(image)), camera)
    return torch.from_numpy(np.array(bitmap.to_array())).permute(2, 0, 1).float() / 255


@dataclass(frozen = True)
class ColmapUndistorted(ImageFile):
    """An image file that is undistorted when loaded. `camera` and `pinhole` are cameras of pycolmap at the full size."""
    camera: Any = None
    pinhole: Any = None

    @property
    def size(self) -> tuple[int, int]:
        return self.pinhole.height, self.pinhole.width

    def __call__(self) -> Tensor:
        return undistorted_by_colmap(super().__call__(), self.camera)

    def reduced(self, intrinsics: Tensor, at_least: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Undistorts a downscaled image by COLMAP's method: each pixel of the pinhole image is sampled bilinearly where the camera projects its ray."""
        import numpy as np

        image, smaller = super().reduced(torch.eye(3), at_least)
        scale = smaller[:2].diagonal().double()
        width, height = (max(round(length * float(each)), 1) for length, each in zip((self.pinhole.width, self.pinhole.height), scale, strict = True))
        y, x = torch.meshgrid((torch.arange(height) + 0.5) / scale[1], (torch.arange(width) + 0.5) / scale[0], indexing = 'ij')
        rays = self.pinhole.cam_from_img(torch.stack((x, y), dim = -1).reshape(-1, 2).double().numpy())
        projected = torch.from_numpy(np.asarray(self.camera.img_from_cam(np.concatenate((rays, np.ones((len(rays), 1))), axis = 1)))).reshape(height, width, 2)
        grid = projected * scale / torch.tensor([image.shape[2], image.shape[1]]) * 2 - 1
        pixels = F.grid_sample(in_unit(image).unsqueeze(0), grid.float().unsqueeze(0), padding_mode = 'border', align_corners = False)[0]
        return pixels, intrinsics * torch.cat((scale, scale.new_ones(1))).unsqueeze(1).float()


def image_path(where: str, folder: Path, model: Path, name: str) -> Path:
    """Returns the path of an image: in `images` of the folder, in a downscaled copy of it, or beside the model."""
    roots = dict.fromkeys((folder, model, *model.parents[:2]))
    folders = [root / images for root in roots for images in ('images', 'images_2', 'images_4', 'images_8', 'input')]
    paths = [path_inside(images, name) for images in folders]

    if any(path is None for path in paths):
        fail(where, 'must have its image inside the folder of images', name, 'Move the image there, and make its name relative to that folder.', BadView)

    first, *_ = inside = [path for path in paths if path is not None]
    found = next((path for path in inside if path.is_file()), None)

    if found is None:
        fail(where, 'must name an image that exists', name, f'{looked_for(first)} Nor is it beside the model.', BadView)

    return found


def rigid_inverse(camera_to_world: Tensor) -> Tensor:
    """Returns the world-to-camera pose (4 4), float64, for the rotation as rounded by COLMAP's quaternion. Far from the origin of the world this rounding amounts to metres."""
    rotation = quaternion_to_rotation(rotation_to_quaternion(camera_to_world[:3, :3])).mT
    return pose_of(rotation, -rotation @ camera_to_world[:3, 3])


def write_colmap(scene: Scene, folder: Path) -> None:
    """Writes a scene as PNG images and a binary model in `sparse/0`, with a PINHOLE camera for each view and no points.

    Raises:
        ValueError: If the folder has a model, or if images would be replaced.
    """
    import numpy as np

    if model_folder(folder) is not None:
        fail('folder', 'must have no COLMAP model yet', folder, 'Choose another folder.')

    names = file_names(scene)
    check_free(folder / 'images' / name for name in names)
    colmap = pycolmap()
    reconstruction = colmap.Reconstruction()
    (folder / 'images').mkdir(parents = True, exist_ok = True)

    for index, (view, name) in enumerate(zip(scene.views, names, strict = True), start = 1):
        pixels = view.load()
        save_image(pixels, folder / 'images' / name)

        (fx, _, cx), (_, fy, cy), _ = view.intrinsics.double().tolist()
        world_to_camera = rigid_inverse(view.camera_to_world.double())[:3].numpy()
        camera = colmap.Camera(camera_id = index, model = 'PINHOLE', width = pixels.shape[2], height = pixels.shape[1], params = [fx, fy, cx, cy])
        reconstruction.add_camera_with_trivial_rig(camera)
        reconstruction.add_image_with_trivial_frame(colmap.Image(image_id = index, name = name, camera_id = index), colmap.Rigid3d(np.ascontiguousarray(world_to_camera)))

    (folder / 'sparse' / '0').mkdir(parents = True)
    reconstruction.write(str(folder / 'sparse' / '0'))
