"""Camera paths: interpolation between cameras, and orbits."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import einsum
from torch import Tensor

from lvsm_pytorch.checks import check_shape
from lvsm_pytorch.errors import fail
from lvsm_pytorch.geometry.cameras import first_of, pose
from lvsm_pytorch.geometry.conventions import quaternion_to_rotation, rotation_to_quaternion
from lvsm_pytorch.precision import in_float32

# cameras surround the scene if the largest gap of their azimuths is at most this, in radians

WIDEST_GAP = math.radians(120)

# for almost parallel cameras, distance of the point that they look at, as a multiple of their spread

FAR = 4.
PARALLEL = 1e-3


def looked_at(camera_to_world: Tensor) -> Tensor:
    """Returns the point (3) nearest to the optical axes of cameras (n 4 4); a point in front of them if they are parallel."""
    centres, forward = camera_to_world[:, :3, 3].double(), camera_to_world[:, :3, 2].double()
    middle, ahead = centres.mean(dim = 0), forward.mean(dim = 0)
    spread = (centres - middle).norm(dim = -1).max().clamp(min = 1e-6)
    fallback = middle + FAR * spread * ahead / ahead.norm().clamp(min = 1e-6)
    across = torch.eye(3, dtype = torch.float64) - forward.unsqueeze(-1) * forward.unsqueeze(-2)
    system = across.sum(dim = 0) + PARALLEL * len(centres) * torch.eye(3, dtype = torch.float64)
    point = torch.linalg.solve(system, (across @ centres.unsqueeze(-1)).sum(dim = 0).squeeze(-1) + PARALLEL * len(centres) * fallback)
    return (point if (point - middle) @ ahead > 0 else fallback).to(camera_to_world)


def up_of(camera_to_world: Tensor) -> Tensor:
    """Returns the unit up direction (3) of level cameras (n 4 4): perpendicular to their x axes, and near to their negative y axes if these leave it undetermined."""
    right, up = camera_to_world[:, :3, 0].double(), -camera_to_world[:, :3, 1].double().mean(dim = 0)
    system = right.mT @ right / len(right) + PARALLEL * torch.eye(3, dtype = torch.float64)
    across = torch.linalg.solve(system, PARALLEL * up)
    return (across / across.norm().clamp(min = 1e-12)).to(camera_to_world)


def orbit(camera_to_world: Tensor, num_frames: int) -> Tensor:
    """Returns an orbit (num_frames 4 4) around the point that cameras (n 4 4) look at, at their median distance and elevation.

    It is a full turn if the cameras surround the point, otherwise it covers their range of azimuths back and forth. The up direction is `up_of`.
    """
    target = looked_at(camera_to_world)
    offset = camera_to_world[:, :3, 3] - target
    up = up_of(camera_to_world)
    x = offset.mean(dim = 0)
    some_axis = torch.eye(3, dtype = up.dtype)[up.abs().argmin()]
    x = torch.linalg.cross(up, torch.linalg.cross(x if x.norm() > 1e-6 else some_axis, up))
    x = x if x.norm() > 1e-6 else torch.linalg.cross(up, some_axis)
    x = x / x.norm()
    y = torch.linalg.cross(up, x)

    azimuth = torch.atan2(offset @ y, offset @ x)
    radius, elevation = offset.norm(dim = -1), torch.asin((offset @ up / offset.norm(dim = -1).clamp(min = 1e-12)).clamp(-1, 1))
    turn = torch.arange(num_frames, dtype = up.dtype) * (2 * math.pi / num_frames)
    first, last = arc(azimuth)
    around = turn if last - first >= 2 * math.pi else (first + last) / 2 + (last - first) / 2 * turn.sin()
    height, distance = elevation.median(), radius.median()
    eye = target + distance * (height.cos() * (around.cos().unsqueeze(-1) * x + around.sin().unsqueeze(-1) * y) + height.sin() * up)
    return look_at(eye, target, up)


def arc(azimuth: Tensor) -> tuple[float, float]:
    """Returns the range of azimuths (n) in radians; a full turn if they have no wide gap."""
    ordered = azimuth.sort().values
    gaps = torch.cat((ordered.diff(), ordered[:1] + 2 * math.pi - ordered[-1:]))
    widest = int(gaps.argmax())

    if gaps[widest] < WIDEST_GAP:
        return 0., 2 * math.pi

    first = float(ordered[(widest + 1) % len(ordered)])
    return first, first + 2 * math.pi - float(gaps[widest])


def interpolation(camera_to_world: Tensor, num_frames: int) -> Tensor:
    """Returns a path (num_frames 4 4) through all cameras (n 4 4), which always continues to the nearest remaining one."""
    left, way = list(range(1, len(camera_to_world))), [0]
    centres = camera_to_world[:, :3, 3]

    while left:
        nearest = min(left, key = lambda index: float((centres[index] - centres[way[-1]]).norm()))
        left.remove(nearest)
        way.append(nearest)

    return interpolate_poses(camera_to_world[way], num_frames)


# trajectories

@in_float32
def look_at(eye: Tensor, target: Tensor, up: Tensor) -> Tensor:
    """Returns the camera-to-world pose (... 4 4) of a camera at `eye` (... 3) that looks at `target` (... 3), with `up` (... 3) upwards in its image.

    If the viewing direction is parallel to `up`, the x axis is any perpendicular direction.
    """
    eye, target, up = torch.broadcast_tensors(eye, target, up)
    forward = F.normalize(target - eye, dim = -1)
    some_axis = torch.eye(3, dtype = eye.dtype, device = eye.device)[forward.abs().argmin(dim = -1)]
    right = F.normalize(first_of(torch.linalg.cross(forward, up), torch.linalg.cross(forward, some_axis)), dim = -1)
    return pose(torch.stack((right, torch.linalg.cross(forward, right), forward), dim = -1), eye)


@in_float32
def orbit_poses(num_frames: int, *, target: Tensor, radius: float, up: Tensor, elevation: float = 20.) -> Tensor:
    """Returns camera-to-world poses (... num_frames 4 4) on a circle around `target` that look at it: a full turn without repeating the first frame.

    Args:
        num_frames: Number of poses.
        target: (... 3), in world coordinates.
        up: (... 3), up direction of the world, for OpenCV often (0, -1, 0).
        radius: Distance of the cameras to the target.
        elevation: Elevation of the cameras in degrees.
    """
    if num_frames < 1 or radius <= 0:
        fail('num_frames, radius', 'must be at least 1 and above 0', (num_frames, radius), 'Use for example 60 frames.')

    target, up = torch.broadcast_tensors(target, up)
    up = F.normalize(up, dim = -1)
    some_axis = torch.eye(3, dtype = up.dtype, device = up.device)[up.abs().argmin(dim = -1)]
    x = F.normalize(torch.linalg.cross(up, some_axis), dim = -1)
    y = torch.linalg.cross(up, x)

    turn = torch.arange(num_frames, dtype = up.dtype, device = up.device) * (2 * torch.pi / num_frames)
    height = torch.deg2rad(torch.as_tensor(elevation, dtype = up.dtype, device = up.device))
    around = einsum(turn.cos(), x, 'n, ... i -> ... n i') + einsum(turn.sin(), y, 'n, ... i -> ... n i')
    eye = target.unsqueeze(-2) + radius * (height.cos() * around + height.sin() * up.unsqueeze(-2))
    return look_at(eye, target.unsqueeze(-2), up.unsqueeze(-2))


@in_float32
def interpolate_poses(camera_to_world: Tensor, num_frames: int) -> Tensor:
    """Returns a smooth path (... num_frames 4 4) through cameras (... n 4 4) in their order, with the same number of frames between each two.

    Centres and unit quaternions (with consistent signs, normalised afterwards) follow Catmull-Rom splines (Catmull & Rom
    1974): the path passes through every camera with continuous velocity. A single camera is repeated. Between rotations
    that differ by 180 degrees, the direction is arbitrary.
    """
    check_shape('... n 4 4', camera_to_world = camera_to_world)
    num_cameras = camera_to_world.shape[-3]

    if num_frames < 1 or num_cameras < 1:
        fail('camera_to_world, num_frames', 'must be at least one camera and one frame', (num_cameras, num_frames), 'Pass two or more cameras and for example 60 frames.')

    rotation, centre = camera_to_world[..., :3, :3], camera_to_world[..., :3, 3]
    quaternion = rotation_to_quaternion(rotation)

    # q and -q are the same rotation: the sign nearer to the previous one is used
    agreement = (quaternion[..., 1:, :] * quaternion[..., :-1, :]).sum(dim = -1, keepdim = True)
    sign = torch.where(agreement < 0, -1., 1.).cumprod(dim = -2)
    quaternion = torch.cat((quaternion[..., :1, :], quaternion[..., 1:, :] * sign), dim = -2)

    knots = torch.cat((quaternion, centre), dim = -1)
    knots = torch.cat((2 * knots[..., :1, :] - knots[..., 1:2, :], knots, 2 * knots[..., -1:, :] - knots[..., -2:-1, :]), dim = -2) if num_cameras > 1 else knots.expand(*knots.shape[:-2], 4, 7)

    time = torch.linspace(0, max(num_cameras - 1, 1), num_frames, dtype = knots.dtype, device = knots.device)
    leg = time.long().clamp(max = max(num_cameras - 2, 0))
    s = (time - leg).unsqueeze(-1)

    before, start, end, after = (knots[..., leg + i, :] for i in range(4))
    path = 0.5 * (2 * start + s * (end - before) + s ** 2 * (2 * before - 5 * start + 4 * end - after) + s ** 3 * (3 * start - before - 3 * end + after))
    return pose(quaternion_to_rotation(path[..., :4]), path[..., 4:])
