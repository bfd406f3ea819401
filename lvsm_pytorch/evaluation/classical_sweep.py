"""A classical baseline without learning: a plane sweep over the input views, which places each pixel at the depth where their colours agree best.

Planes parallel to the target's image are swept through the scene (Collins 1996, "A space-sweep approach to true multi-image matching"). The cost
of a pixel on a plane is the variance of the colours of the input views, averaged over a window. The view is the mean colour of the input views,
weighted by a soft minimum of the cost over the planes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from lvsm_pytorch.checks import check_floating, check_shape
from lvsm_pytorch.errors import fail
from lvsm_pytorch.geometry.cameras import Cameras
from lvsm_pytorch.geometry.rays import pixel_grid
from lvsm_pytorch.lvsm.losses import psnr

NUM_PLANES = 64
WINDOW = 7

# temperature of the soft minimum over variances; variance for pixels visible in fewer than two views

TEMPERATURE = 8e-4
UNKNOWN_VARIANCE = 0.05

# depth ranges to try: nearest plane in units of the mean distance from the target camera to the input cameras, farthest plane in units of the nearest

NEAREST = 0.8, 1.6, 3.2
FARTHEST = 40.

# points with a smaller depth in an input view, relative to their depth in the target view, count as behind its camera

MIN_DEPTH = 1e-6


@torch.no_grad()
def plane_sweep(images: Tensor, cameras: Cameras, target_camera: Cameras, depth_range: tuple[float, float], *, num_planes: int = NUM_PLANES) -> Tensor:
    """Renders the view of the target camera, (3 h w) in [0, 1], at the size of the images. Pixels that no input view covers have the mean colour of the images.

    Args:
        images: (v 3 h w) in [0, 1].
        cameras: Cameras of the images: camera_to_world (v 4 4), OpenCV axes, in any world; intrinsics (v 3 3) in pixels.
        target_camera: camera_to_world (4 4) in the same world, intrinsics (3 3) in pixels of the same size.
        depth_range: Depths of the nearest and the farthest plane along the target's optical axis, in units of the world.
        num_planes: Number of planes, evenly spaced in inverse depth.

    Raises:
        ValueError: If shapes are wrong, the depth range is invalid, or there are fewer than two planes.
    """
    check_floating(images = images)
    sizes = check_shape('v 3 h w', images = images)
    check_shape('v 4 4', sizes, camera_to_world = cameras.camera_to_world)
    check_shape('v 3 3', sizes, intrinsics = cameras.intrinsics)
    check_shape('4 4', {}, target_camera_to_world = target_camera.camera_to_world)
    check_shape('3 3', {}, target_intrinsics = target_camera.intrinsics)
    near, far = depth_range

    if not 0 < near < far:
        fail('depth_range', 'must be the nearest and the farthest depth, both above 0', depth_range, 'Take 1 and 40 times the distance to the nearest surface.')

    if num_planes < 2:
        fail('num_planes', 'must be at least 2', num_planes, 'Left out, there are 64.')

    height, width = sizes['h'], sizes['w']
    inverse_depths = torch.linspace(1 / far, 1 / near, num_planes, dtype = torch.float64, device = images.device).view(-1, 1, 1)

    # float64 for small tensors, since scenes may be far from the origin of the world

    poses, intrinsics = cameras.camera_to_world.to(inverse_depths), cameras.intrinsics.to(inverse_depths)
    target_pose, target_intrinsics = (t.to(inverse_depths) for t in target_camera)
    pixels = pixel_grid((height, width), dtype = torch.float64).to(images.device).flatten(1)
    directions = target_pose[:3, :3] @ torch.linalg.inv(target_intrinsics) @ pixels
    to_grid = images.new_tensor([[2 / width, 0, -1], [0, 2 / height, -1], [0, 0, 1]], dtype = torch.float64)    # pixels to the coordinates of grid_sample

    count, total, squares = images.new_zeros(num_planes, height, width), images.new_zeros(3, num_planes, height, width), images.new_zeros(num_planes, height, width)

    for image, pose, camera in zip(images, poses, intrinsics, strict = True):
        # the point o + z d is at the pixel K Rᵀ (d + (o − c) / z) of the view

        project = to_grid @ camera @ pose[:3, :3].mT
        point = (project @ directions).float() + inverse_depths.float() * (project @ (target_pose[:3, 3] - pose[:3, 3])).float().view(3, 1)
        place = point[:, :2] / point[:, 2:].clamp(min = MIN_DEPTH)
        is_visible = (point[:, 2] > MIN_DEPTH) & (place.abs().amax(dim = 1) <= 1)
        is_visible = rearrange(is_visible, 'e (h w) -> e h w', h = height)

        grid = rearrange(place, 'e two (h w) -> 1 (e h) w two', h = height)
        colors = F.grid_sample(image.float().unsqueeze(0), grid, padding_mode = 'border', align_corners = False)
        colors = rearrange(colors, '1 c (e h) w -> c e h w', h = height) * is_visible
        count += is_visible
        total += colors
        squares += colors.square_().sum(dim = 0)

    mean = total / count.clamp(min = 1)
    variance = (squares / count.clamp(min = 1) - mean.square().sum(dim = 0)).clamp(min = 0) / 3
    variance = torch.where(count >= 2, variance, UNKNOWN_VARIANCE)
    padded = F.pad(variance.unsqueeze(1), (WINDOW // 2,) * 4, mode = 'replicate')
    cost = F.avg_pool2d(F.avg_pool2d(padded, (WINDOW, 1), stride = 1), (1, WINDOW), stride = 1).squeeze(1)

    is_anywhere = (count > 0).any(dim = 0)
    weights = torch.where(count > 0, -cost / TEMPERATURE, -torch.inf).masked_fill(~is_anywhere, 0).softmax(dim = 0)
    return torch.where(is_anywhere, (weights * mean).sum(dim = 1), images.float().mean(dim = (0, 2, 3)).view(3, 1, 1)).to(images.dtype)


def best_plane_sweep(images: Tensor, cameras: Cameras, target_camera: Cameras, truth: Tensor) -> Tensor:
    """Returns the best view of `plane_sweep` over several depth ranges, by PSNR to the ground truth (3 h w), which favours this baseline. Other arguments are those of `plane_sweep`."""
    baseline = float((cameras.camera_to_world[:, :3, 3].double() - target_camera.camera_to_world[:3, 3].double()).norm(dim = -1).mean()) or 1.    # cameras in one place give the same view for all planes
    views = [plane_sweep(images, cameras, target_camera, (baseline * near, baseline * near * FARTHEST)) for near in NEAREST]
    return max(views, key = lambda view: float(psnr(view, truth)))
