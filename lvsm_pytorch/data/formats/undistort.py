"""Undistortion of photos with OpenCV."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from lvsm_pytorch.data.images import in_unit
from lvsm_pytorch.data.lazy_images import ImageFile
from lvsm_pytorch.data.problems import BadView
from lvsm_pytorch.errors import fail


class Distortion(NamedTuple):
    """A distortion model of OpenCV. opencv: k1 k2 p1 p2 k3 k4 k5 k6 (Brown-Conrady, rational); trailing coefficients are optional. fisheye: k1 k2 k3 k4 (Kannala-Brandt)."""
    model: Literal['opencv', 'fisheye']
    coefficients: tuple[float, ...]


# tolerance for the corners of the pinhole image, as a fraction of the sides of the photo: the check ignores tangential distortion

AT_EDGE = 0.05

# maximum angle from the optical axis in radians, which a pinhole image must stay below

WIDEST_FISHEYE = torch.pi / 2 - 0.04


def opencv():
    try:
        import cv2
    except ImportError as error:
        raise ImportError('undistorting photos and matching their features need OpenCV: pip install "lvsm-pytorch[opencv]"') from error

    return cv2


def to_opencv(intrinsics: Tensor):
    """Converts intrinsics to a float64 array with the pixel centres of OpenCV, which lie at integers instead of +0.5."""
    matrix = intrinsics.double().numpy().copy()
    matrix[:2, 2] -= 0.5
    return matrix


def check_distortion(where: str, intrinsics: Tensor, distortion: Distortion, size: tuple[int, int], pinhole: Tensor) -> None:
    """Checks that distortion is monotonic, and that the pinhole image lies on the photo of `size` (height, width).

    Raises:
        BadView: If the image folds over, as with a calibration fitted to its centre only, or for fisheyes of 180° and more.
    """
    is_fisheye = distortion.model == 'fisheye'
    radial = _radial_fisheye if is_fisheye else _radial_opencv
    height, width = size
    focal, centre = intrinsics[:2].double().diagonal(), intrinsics[:2, 2].double()
    length = torch.tensor([width, height], dtype = torch.float64)
    middles = float((torch.maximum(centre, length - centre) / focal).max())  # middles of the edges, in focal lengths from the centre

    if is_fisheye and float(radial(torch.tensor([WIDEST_FISHEYE], dtype = torch.float64), distortion.coefficients)) <= middles:
        fail(where, 'must have a fisheye of less than 180 degrees', f'a wider one in an image of {width} × {height}', 'A pinhole image can not cover this angle: crop pinhole views out of it first.', BadView)

    # distorted radius as a function of the undistorted one, up to the first decrease

    steps = torch.linspace(0, torch.pi / 2 if is_fisheye else 8., 8001, dtype = torch.float64)
    falls = radial(steps, distortion.coefficients)
    comes_back = (falls.diff() <= 0).nonzero().flatten()
    last = int(comes_back[0]) if len(comes_back) > 0 else len(steps) - 1

    corners = torch.tensor([[0, 0], [0, height], [width, 0], [width, height]], dtype = torch.float64)
    rays = (corners - pinhole[:2, 2].double()) / pinhole[:2].double().diagonal()
    distance = rays.norm(dim = 1)
    steps_of = torch.atan(distance) if is_fisheye else distance
    on_photo = rays * (radial(steps_of, distortion.coefficients) / distance.clamp(min = 1e-12)).unsqueeze(1) * focal + centre
    is_on_photo = ((on_photo > -AT_EDGE * length) & (on_photo < (1 + AT_EDGE) * length)).all()

    if float(falls[last]) < middles or float(steps_of.max()) > float(steps[last]) or not is_on_photo or (pinhole[:2].diagonal() <= 0).any():
        fail(where, 'must have distortion that is monotonic over its image', f'{distortion.model} {distortion.coefficients} with {focal.tolist()} in an image of {width} × {height}',
             'Are the coefficients in the right order, and of this camera? Calibrate it again, or undistort the images first.', BadView)


def _radial_opencv(r: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    k1, k2, _, _, k3, k4, k5, k6 = (*coefficients, *[0.] * (8 - len(coefficients)))
    r2 = r ** 2
    return r * (1 + k1 * r2 + k2 * r2 ** 2 + k3 * r2 ** 3) / (1 + k4 * r2 + k5 * r2 ** 2 + k6 * r2 ** 3)


def _radial_fisheye(angle: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    k1, k2, k3, k4 = (*coefficients, *[0.] * (4 - len(coefficients)))
    return angle * (1 + k1 * angle ** 2 + k2 * angle ** 4 + k3 * angle ** 6 + k4 * angle ** 8)


def undistorted_intrinsics(intrinsics: Tensor, distortion: Distortion, size: tuple[int, int]) -> Tensor:
    """Returns the intrinsics (3 3) of the largest pinhole image of `size` (height, width) without pixels from outside the photo."""
    import numpy as np

    cv2 = opencv()
    matrix, coefficients, width_height = to_opencv(intrinsics), np.array(distortion.coefficients), size[::-1]

    if distortion.model == 'fisheye':
        pinhole = cv2.fisheye.estimateNewCameraMatrixForUndistortRectify(matrix, coefficients, width_height, np.eye(3), balance = 0.)
    else:
        pinhole, _ = cv2.getOptimalNewCameraMatrix(matrix, coefficients, width_height, 0)

    pinhole[:2, 2] += 0.5
    return torch.from_numpy(pinhole).float()


def undistort(image: Tensor, intrinsics: Tensor, distortion: Distortion, pinhole: Tensor) -> Tensor:
    """Resamples a photo (3 h w) in [0, 1] with `intrinsics` and `distortion` to the intrinsics `pinhole`."""
    import numpy as np

    cv2 = opencv()
    size = image.shape[2], image.shape[1]
    make_maps = cv2.fisheye.initUndistortRectifyMap if distortion.model == 'fisheye' else cv2.initUndistortRectifyMap
    maps = make_maps(to_opencv(intrinsics), np.array(distortion.coefficients), np.eye(3), to_opencv(pinhole), size, cv2.CV_32FC1)
    pixels = cv2.remap(image.permute(1, 2, 0).numpy(), *maps, interpolation = cv2.INTER_LINEAR, borderMode = cv2.BORDER_REPLICATE)
    return torch.from_numpy(pixels).permute(2, 0, 1)


@dataclass(frozen = True)
class UndistortedFile(ImageFile):
    """An image file that is undistorted when loaded.

    Args:
        intrinsics: (3 3), of the stored image.
        distortion: Distortion of the lens.
        pinhole: (3 3), of the undistorted image, which has the same size.
    """
    intrinsics: Tensor = field(kw_only = True)
    distortion: Distortion = field(kw_only = True)
    pinhole: Tensor = field(kw_only = True)

    def __call__(self) -> Tensor:
        return undistort(super().__call__(), self.intrinsics, self.distortion, self.pinhole)

    def reduced(self, intrinsics: Tensor, at_least: tuple[int, int]) -> tuple[Tensor, Tensor]:
        image, smaller = super().reduced(self.intrinsics, at_least)
        scale = smaller[:2].double().diagonal() / self.intrinsics[:2].double().diagonal()
        pinhole = self.pinhole * torch.cat((scale, scale.new_ones(1))).unsqueeze(1).float()
        return undistort(in_unit(image), smaller, self.distortion, pinhole), pinhole
