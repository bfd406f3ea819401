"""Cameras: pure functions from camera matrices to Plücker rays, and what one does to cameras on the way.

Axes are OpenCV's (x right, y down, z forward), pixel centres lie at +0.5, sizes are (height, width), and every
function takes any leading dimensions, is differentiable, and computes in float32 (or float64) whatever autocast says.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from einops import einsum, rearrange, repeat
from torch import Tensor

from lvsm_pytorch.checks import check_floating, check_shape, values_are_free
from lvsm_pytorch.errors import fail
from lvsm_pytorch.precision import in_float32


class Cameras(NamedTuple):
    """Pinhole cameras, as they travel beside their rays.

    camera_to_world: (... 4 4), OpenCV axes, in the world frame of the rays.
    intrinsics: (... 3 3), in pixels of the image at hand.
    """
    camera_to_world: Tensor
    intrinsics: Tensor


class NormalizedPoses(NamedTuple):
    """inputs: (... v 4 4). further: (... t 4 4), or None where none were given. Both in the normalised frame."""
    inputs: Tensor
    further: Tensor | None


# cameras to rays

def pixel_grid(image_size: tuple[int, int], *, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
    """Homogeneous coordinates (x, y, 1) of all pixel centres, at +0.5: (3 h w), in pixels.

    image_size: (height, width).
    """
    height, width = checked_size(image_size = image_size)
    y = torch.arange(height, device = device, dtype = dtype) + 0.5
    x = torch.arange(width, device = device, dtype = dtype) + 0.5
    y, x = torch.meshgrid(y, x, indexing = 'ij')
    return torch.stack((x, y, torch.ones_like(x)))


@in_float32
def plucker_rays(camera_to_world: Tensor, intrinsics: Tensor, image_size: tuple[int, int]) -> Tensor:
    """The Plücker ray (d, m) through every pixel centre: unit direction d, then moment m = o × d.

    camera_to_world: (... 4 4), OpenCV axes; its rotation turns camera directions into world directions.
    intrinsics: (... 3 3), in pixels of an image of `image_size`.
    image_size: (height, width).
    Returns (... 6 h w), in the frame and unit of length of the world.

    o is the camera centre, d = R K⁻¹ (x, y, 1)ᵀ / |·| (Hartley & Zisserman, "Multiple View Geometry", 6.2).
    Errors: ValueError for wrong shapes or intrinsics that can't be inverted.
    """
    check_floating(camera_to_world = camera_to_world, intrinsics = intrinsics)
    check_shape('... 4 4', camera_to_world = camera_to_world)
    check_shape('... 3 3', intrinsics = intrinsics)
    points = pixel_grid(image_size, device = intrinsics.device, dtype = intrinsics.dtype)
    return rays_through(camera_to_world[..., :3, 3], camera_to_world[..., :3, :3], inverse_intrinsics(intrinsics = intrinsics), points)


@in_float32
def to_plucker_rays(intrinsic_rotation: Tensor, extrinsic_rotation: Tensor, translation: Tensor, uniform_points: Tensor) -> Tensor:
    """The Plücker ray (d, m) through every given pixel coordinate, from world-to-camera R and t.

    intrinsic_rotation: (... 3 3), the intrinsics K, in pixels.
    extrinsic_rotation: (... 3 3), R of world to camera: x_camera = R x_world + t. Its inverse is taken to be its transpose.
    translation: (... 3), t of world to camera.
    uniform_points: (... 3 h w), homogeneous pixel coordinates, for example `pixel_grid`.
    Returns (... 6 h w): unit direction d = Rᵀ K⁻¹ p / |·|, then moment o × d with o = -Rᵀ t
    (Zhang et al. 2024, "Cameras as Rays", equation 3 and figure 2).

    Errors: ValueError for wrong shapes or a K that can't be inverted.
    """
    check_floating(intrinsic_rotation = intrinsic_rotation, extrinsic_rotation = extrinsic_rotation, translation = translation, uniform_points = uniform_points)
    check_shape('... 3 3', intrinsic_rotation = intrinsic_rotation)
    check_shape('... 3 3', extrinsic_rotation = extrinsic_rotation)
    check_shape('... 3', translation = translation)
    check_shape('... 3 h w', uniform_points = uniform_points)

    rotation = extrinsic_rotation.mT
    origin = -einsum(rotation, translation, '... i j, ... j -> ... i')
    return rays_through(origin, rotation, inverse_intrinsics(intrinsic_rotation = intrinsic_rotation), uniform_points)


def rays_through(origin: Tensor, rotation: Tensor, inverse: Tensor, points: Tensor) -> Tensor:
    """(... 6 h w) from the centre (... 3), the camera-to-world rotation (... 3 3), K⁻¹ (... 3 3) and pixels (... 3 h w)."""
    direction = einsum(rotation, inverse, points, '... i j, ... j k, ... k h w -> ... i h w')
    # four times as fast as torch's norm along this axis. Not sqrt: on CPUs, MKL's is now and then off by 3e-4 when several
    # threads call it for the first time in a process

    direction = direction * direction.square().sum(dim = -3, keepdim = True).clamp(min = 1e-24).rsqrt()

    # o × d, written out: nine times as fast as torch's along this axis

    (ox, oy, oz), (dx, dy, dz) = rearrange(origin, '... i -> i ... 1 1'), direction.unbind(dim = -3)
    moment = torch.stack((oy * dz - oz * dy, oz * dx - ox * dz, ox * dy - oy * dx), dim = -3)
    return torch.cat((direction, moment), dim = -3)


def inverse_intrinsics(**named: Tensor) -> Tensor:
    """K⁻¹ (... 3 3) of the one named K (... 3 3); ValueError where there is none, if looking at values is free."""
    (name, intrinsics), = named.items()
    inverse, zero_pivot = torch.linalg.inv_ex(intrinsics)

    if values_are_free(intrinsics):
        bad = (zero_pivot != 0) | ~inverse.isfinite().flatten(-2).all(dim = -1)

        if bad.any():
            fail(name, 'must be invertible matrices', f'one that is not, at index {bad.nonzero()[0].tolist()}', 'Intrinsics are [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] in pixels.')

    return inverse


def checked_size(**named: tuple[int, int]) -> tuple[int, int]:
    (name, size), = named.items()

    if len(size) != 2 or min(size) < 1:
        fail(name, 'must be (height, width), both at least 1', tuple(size), 'Pass for example (256, 256).')

    return size


# conventions

def opengl_to_opencv(camera_to_world: Tensor) -> Tensor:
    """Camera to world (... 4 4) from OpenGL axes (x right, y up, z back; also Blender's and nerfstudio's) to OpenCV's."""
    check_shape('... 4 4', camera_to_world = camera_to_world)
    return camera_to_world * camera_to_world.new_tensor([1., -1., -1., 1.])


def opencv_to_opengl(camera_to_world: Tensor) -> Tensor:
    """Camera to world (... 4 4) from OpenCV axes to OpenGL's (also Blender's and nerfstudio's); inverse of `opengl_to_opencv`."""
    return opengl_to_opencv(camera_to_world)  # two axes flip their signs: the same in both directions


@in_float32
def colmap_to_opencv(quaternion: Tensor, translation: Tensor) -> Tensor:
    """Camera to world (... 4 4) from COLMAP's world to camera: `quaternion` (... 4) as w x y z, of any length but 0, and `translation` (... 3)."""
    check_shape('... 4', quaternion = quaternion)
    check_shape('... 3', translation = translation)
    rotation = quaternion_to_rotation(quaternion).mT
    return pose(rotation, -einsum(rotation, translation, '... i j, ... j -> ... i'))


@in_float32
def opencv_to_colmap(camera_to_world: Tensor) -> tuple[Tensor, Tensor]:
    """COLMAP's world to camera, quaternion (... 4) as w x y z with w >= 0 and translation (... 3), from camera to world (... 4 4)."""
    check_shape('... 4 4', camera_to_world = camera_to_world)
    rotation = camera_to_world[..., :3, :3].mT
    return rotation_to_quaternion(rotation), -einsum(rotation, camera_to_world[..., :3, 3], '... i j, ... j -> ... i')


def quaternion_to_rotation(quaternion: Tensor) -> Tensor:
    """Rotation matrix (... 3 3) of a quaternion (... 4), w x y z, of any length but 0."""
    w, x, y, z = F.normalize(quaternion, dim = -1).unbind(dim = -1)
    return torch.stack((
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ), dim = -1).unflatten(-1, (3, 3))


def rotation_to_quaternion(rotation: Tensor) -> Tensor:
    """Quaternion (... 4), w x y z, w >= 0, of a rotation matrix (... 3 3).

    The outer product 4 q qᵀ is linear in the entries of the matrix; its row with the largest diagonal entry, normalised,
    is q without cancellation (Shepperd 1978, "Quaternion from rotation matrix").
    """
    r = rotation
    xx, yy, zz = r[..., 0, 0], r[..., 1, 1], r[..., 2, 2]
    wx, wy, wz = r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]
    xy, xz, yz = r[..., 0, 1] + r[..., 1, 0], r[..., 0, 2] + r[..., 2, 0], r[..., 1, 2] + r[..., 2, 1]

    outer = torch.stack((
        1 + xx + yy + zz, wx, wy, wz,
        wx, 1 + xx - yy - zz, xy, xz,
        wy, xy, 1 - xx + yy - zz, yz,
        wz, xz, yz, 1 - xx - yy + zz,
    ), dim = -1).unflatten(-1, (4, 4))

    largest = outer.diagonal(dim1 = -2, dim2 = -1).argmax(dim = -1)
    row = outer.gather(-2, repeat(largest, '... -> ... 1 four', four = 4)).squeeze(-2)
    quaternion = F.normalize(row, dim = -1)
    return torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)


def pose(rotation: Tensor, centre: Tensor) -> Tensor:
    """Camera to world (... 4 4) of a camera-to-world rotation (... 3 3) and a camera centre (... 3)."""
    top = torch.cat((rotation, rearrange(centre, '... i -> ... i 1')), dim = -1)
    bottom = top.new_tensor([0., 0., 0., 1.]).expand(*top.shape[:-2], 1, 4)
    return torch.cat((top, bottom), dim = -2)


# images that change their size

def scale_intrinsics(intrinsics: Tensor, from_size: tuple[int, int], to_size: tuple[int, int]) -> Tensor:
    """Intrinsics (... 3 3) of an image resized from `from_size` to `to_size`, both (height, width). Pixel centres lie at +0.5, so all of x scales alike."""
    check_shape('... 3 3', intrinsics = intrinsics)
    (from_height, from_width), (to_height, to_width) = checked_size(from_size = from_size), checked_size(to_size = to_size)
    scale = intrinsics.new_tensor([to_width / from_width, to_height / from_height, 1.])
    return intrinsics * rearrange(scale, 'i -> i 1')


def crop_intrinsics(intrinsics: Tensor, top: float, left: float) -> Tensor:
    """Intrinsics (... 3 3) of an image that lost `top` rows above and `left` columns on the left (negative: gained), in pixels."""
    check_shape('... 3 3', intrinsics = intrinsics)
    shift = intrinsics.new_tensor([[0., 0., left], [0., 0., top], [0., 0., 0.]])
    return intrinsics - shift


# pose normalisation

@in_float32
def normalize_poses(inputs: Tensor, further: Tensor | None = None, *, protocol: str = 'inputs', unit: float | None = None) -> NormalizedPoses:
    """Moves the world so that the mean input camera is the identity and the scene has about unit size.

    inputs: camera to world (... v 4 4) of the input views, OpenCV axes.
    further: camera to world (... t 4 4) of any further views, taken along.
    protocol: 'inputs', where the input cameras alone define the frame, so that what is asked for never changes what is
        seen; or 'inputs_and_further', where all do, as in the LVSM authors' evaluation.
    unit: the length in world units that becomes 1, where lengths of the world mean something. Left out, it is
        1.35 × the largest absolute coordinate of the defining centres, in the frame of the mean camera.

    Mean camera, as in the LVSM authors' protocol: centre = mean of centres, forward = normalised mean of z axes,
    right = normalised (mean of y axes × forward), down = forward × right. Then translations are divided by the unit.

    Degenerate sets stay finite. Cameras all in one place (a single one too) keep their unit of length. Where z axes
    cancel out, the first camera's z axis is forward; where the mean y axis gives no right, the first camera's y axis,
    and if that is parallel to forward too, the first camera's x axis is right.
    """
    protocols = ('inputs', 'inputs_and_further')
    check_floating(inputs = inputs)
    check_shape('... v 4 4', inputs = inputs)

    if inputs.shape[-3] == 0:
        fail('inputs', 'must have at least one camera', 'none', 'Pass the cameras of the input views.')

    if further is not None:
        check_floating(further = further)
        check_shape('... t 4 4', further = further)

    if unit is not None and not unit > 0:
        fail('unit', 'must be a length above 0', unit, 'Leave it out to take it from the cameras.')

    if protocol not in protocols:
        fail('protocol', f'must be one of {protocols}', repr(protocol), 'Use the default unless you reproduce the authors\' figures.')

    from_all = protocol == 'inputs_and_further' and further is not None
    defining = torch.cat((inputs, further), dim = -3) if from_all and further is not None else inputs

    centres = defining[..., :3, 3]
    centre = centres.mean(dim = -2)
    rotation = mean_rotation(defining[..., :3, :3])
    scale = centres.new_full((), unit) if unit is not None else 1.35 * largest_offset(centres, centre, rotation)

    def normalized(camera_to_world: Tensor) -> Tensor:
        turned = einsum(rotation, camera_to_world[..., :3, :3], '... j i, ... v j k -> ... v i k')
        moved = einsum(rotation, camera_to_world[..., :3, 3] - centre.unsqueeze(-2), '... j i, ... v j -> ... v i')
        return pose(turned, moved / scale[..., None, None])

    return NormalizedPoses(normalized(inputs), None if further is None else normalized(further))


def move_poses(similarity: Tensor, camera_to_world: Tensor) -> Tensor:
    """Poses (... 4 4) in a world that is turned, scaled and shifted by (4 4): its upper left 3 × 3 is a rotation times a scale. Axes stay of length 1."""
    check_shape('4 4', similarity = similarity)
    check_shape('... 4 4', camera_to_world = camera_to_world)
    moved = einsum(similarity, camera_to_world, 'i j, ... j k -> ... i k')
    scale = similarity[:3, :3].norm(dim = 0).mean()
    return pose(moved[..., :3, :3] / scale, moved[..., :3, 3])


def normalization(inputs: Tensor, **options: Any) -> Tensor:
    """What `normalize_poses` does to a world, as a similarity (4 4) for `move_poses`. inputs: (v 4 4); options: protocol and unit."""
    probes = torch.eye(4, dtype = inputs.dtype, device = inputs.device).repeat(2, 1, 1)
    probes[1, 0, 3] = 1.
    _, moved = normalize_poses(inputs, probes, **options)
    assert moved is not None
    scale = (moved[1, :3, 3] - moved[0, :3, 3]).norm()
    return pose(moved[0, :3, :3] * scale, moved[0, :3, 3])


def largest_offset(centres: Tensor, centre: Tensor, rotation: Tensor) -> Tensor:
    """Largest absolute coordinate (...) of centres (... v 3) in a frame, where they are not all in one place; else 1 / 1.35."""
    offsets = einsum(rotation, centres - centre.unsqueeze(-2), '... j i, ... v j -> ... v i')
    largest = offsets.abs().amax(dim = (-2, -1))

    # centres that differ by rounding errors alone are in one place
    rounding = 1e-5 * centres.abs().amax(dim = (-2, -1)) + 1e-8
    return torch.where(largest > rounding, largest, 1 / 1.35)


def mean_rotation(rotations: Tensor) -> Tensor:
    """The rotation (... 3 3) whose axes are the mean of the cameras' (... v 3 3), as `normalize_poses` says it."""
    first_x, first_y, first_z = rotations[..., 0, :, :].unbind(dim = -1)
    mean_y, mean_z = rotations[..., 1].mean(dim = -2), rotations[..., 2].mean(dim = -2)

    forward = F.normalize(first_of(mean_z, first_z), dim = -1)
    across = first_of(torch.linalg.cross(mean_y, forward), torch.linalg.cross(first_y, forward), first_x)
    right = F.normalize(across, dim = -1)
    return torch.stack((right, torch.linalg.cross(forward, right), forward), dim = -1)


def first_of(*candidates: Tensor) -> Tensor:
    """The first of the vectors (... 3) that is not (almost) zero, for each leading index."""
    *others, chosen = candidates

    for candidate in reversed(others):
        chosen = torch.where(candidate.norm(dim = -1, keepdim = True) > 1e-4, candidate, chosen)

    return chosen


# trajectories

@in_float32
def look_at(eye: Tensor, target: Tensor, up: Tensor) -> Tensor:
    """Camera to world (... 4 4) of a camera at `eye` (... 3) that looks at `target` (... 3), with `up` (... 3) upwards in its image.

    A direction of view parallel to `up` gets some right-hand axis that is perpendicular to it.
    """
    eye, target, up = torch.broadcast_tensors(eye, target, up)
    forward = F.normalize(target - eye, dim = -1)
    some_axis = torch.eye(3, dtype = eye.dtype, device = eye.device)[forward.abs().argmin(dim = -1)]
    right = F.normalize(first_of(torch.linalg.cross(forward, up), torch.linalg.cross(forward, some_axis)), dim = -1)
    return pose(torch.stack((right, torch.linalg.cross(forward, right), forward), dim = -1), eye)


@in_float32
def orbit_poses(num_frames: int, *, target: Tensor, radius: float, up: Tensor, elevation: float = 20.) -> Tensor:
    """Cameras on a circle around `target` that all look at it: camera to world (... num_frames 4 4), one full turn without its last frame.

    target: (... 3), in world coordinates. up: (... 3), the direction that is up in the world (in OpenCV's world often (0, -1, 0)).
    radius: distance of the cameras to the target. elevation: degrees above the plane through target that up is normal to.
    """
    if num_frames < 1 or radius <= 0:
        fail('num_frames, radius', 'must be at least 1 and above 0', (num_frames, radius), 'An orbit of 60 frames is a smooth turn.')

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
    """A smooth path (... num_frames 4 4) through the given cameras (... n 4 4), from the first to the last, each leg in equal time.

    Centres and unit quaternions (of one sign each with its neighbour, normalised afterwards) run along Catmull-Rom splines
    (Catmull & Rom 1974), so the path passes through every camera and its velocity has no jumps. A single camera is
    repeated. Neighbours whose rotations differ by 180 degrees have no shortest way between them: one is chosen.
    """
    check_shape('... n 4 4', camera_to_world = camera_to_world)
    num_cameras = camera_to_world.shape[-3]

    if num_frames < 1 or num_cameras < 1:
        fail('camera_to_world, num_frames', 'must be at least one camera and one frame', (num_cameras, num_frames), 'Pass two or more cameras and say 60 frames.')

    rotation, centre = camera_to_world[..., :3, :3], camera_to_world[..., :3, 3]
    quaternion = rotation_to_quaternion(rotation)

    # q and -q are the same rotation: each takes the sign that is nearer to the one before it
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
