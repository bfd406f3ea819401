"""Photos of lenses that bend straight lines, made those of a pinhole, by OpenCV."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor


class Distortion(NamedTuple):
    """OpenCV's models. opencv: k1 k2 p1 p2 k3 k4 k5 k6 (Brown-Conrady, rational), of which the last ones may be left out as OpenCV allows. fisheye: k1 k2 k3 k4 (Kannala-Brandt)."""
    model: Literal['opencv', 'fisheye']
    coefficients: tuple[float, ...]


def opencv():
    try:
        import cv2
    except ImportError as error:
        raise ImportError('undistorting photos and matching their features need OpenCV: pip install "lvsm-pytorch[opencv]"') from error

    return cv2


def to_opencv(intrinsics: Tensor):
    """As a float64 array. OpenCV has pixel centres at whole numbers, we have them at +0.5."""
    matrix = intrinsics.double().numpy().copy()
    matrix[:2, 2] -= 0.5
    return matrix


def undistorted_intrinsics(intrinsics: Tensor, distortion: Distortion, size: tuple[int, int]) -> Tensor:
    """Those (3 3) of the pinhole photo of the same `size` (height, width) that shows nothing beyond the distorted one."""
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
    """The photo (3 h w) in [0, 1] with `intrinsics` as one with those of `pinhole`."""
    import numpy as np

    cv2 = opencv()
    size = image.shape[2], image.shape[1]
    make_maps = cv2.fisheye.initUndistortRectifyMap if distortion.model == 'fisheye' else cv2.initUndistortRectifyMap
    maps = make_maps(to_opencv(intrinsics), np.array(distortion.coefficients), np.eye(3), to_opencv(pinhole), size, cv2.CV_32FC1)
    pixels = cv2.remap(image.permute(1, 2, 0).numpy(), *maps, interpolation = cv2.INTER_LINEAR, borderMode = cv2.BORDER_REPLICATE)
    return torch.from_numpy(pixels).permute(2, 0, 1)
