from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import known_cameras, random_rotation
from einops import einsum, rearrange

from lvsm_pytorch import geometry as cams
from lvsm_pytorch.geometry.cameras import Cameras, crop_intrinsics, move_poses, pose, scale_intrinsics
from lvsm_pytorch.geometry.conventions import colmap_to_opencv, opencv_to_colmap, opencv_to_opengl, opengl_to_opencv
from lvsm_pytorch.geometry.normalization import normalize_poses
from lvsm_pytorch.geometry.rays import pixel_grid, plucker_rays, to_plucker_rays
from lvsm_pytorch.geometry.trajectories import interpolate_poses, look_at, orbit_poses

SIZE = (16, 24)


def project(points, cameras: Cameras):
    """World points (... n 3) to pixels (... n 2) and depth (... n), by the book."""
    world_to_camera = torch.linalg.inv(cameras.camera_to_world)
    local = einsum(world_to_camera[..., :3, :3], points, '... i j, ... n j -> ... n i') + world_to_camera[..., None, :3, 3]
    pixel = einsum(cameras.intrinsics, local, '... i j, ... n j -> ... n i')
    return pixel[..., :2] / pixel[..., 2:], local[..., 2]


def moved(camera_to_world, rotation, shift, scale = 1.):
    """The same cameras in another world frame: x -> scale * rotation x + shift."""
    centre = scale * camera_to_world[..., :3, 3] @ rotation.mT + shift
    return pose(rotation @ camera_to_world[..., :3, :3], centre)


# rays

def test_a_ray_is_a_unit_direction_and_a_perpendicular_moment():
    rays = plucker_rays(*known_cameras(2, 3, size = SIZE), SIZE)
    d, m = rays.split(3, dim = -3)
    assert rays.shape == (2, 3, 6, *SIZE)
    assert torch.allclose(d.norm(dim = -3), torch.ones(2, 3, *SIZE), atol = 1e-6)
    assert (d * m).sum(dim = -3).abs().max() < 1e-5


def test_a_ray_passes_through_its_camera_centre():
    cameras = known_cameras(5, size = SIZE)
    d, m = plucker_rays(*cameras, image_size = SIZE).split(3, dim = -3)
    centre = rearrange(cameras.camera_to_world[..., :3, 3], 'n i -> n i 1 1').expand_as(d)
    assert torch.allclose(torch.linalg.cross(centre, d, dim = -3), m, atol = 1e-5)


def test_a_ray_passes_through_every_point_that_projects_to_its_pixel():
    cameras = known_cameras(4, size = SIZE)
    d, m = plucker_rays(*cameras, image_size = SIZE).split(3, dim = -3)
    depth = 0.5 + 5 * torch.rand(4, 1, *SIZE)
    points = rearrange(cameras.camera_to_world[..., :3, 3], 'n i -> n i 1 1') + depth * d

    pixel, in_front = project(rearrange(points, 'n i h w -> n (h w) i'), cameras)
    expected = rearrange(pixel_grid(SIZE)[:2], 'i h w -> (h w) i')
    assert torch.allclose(pixel, expected.expand_as(pixel), atol = 1e-3)
    assert (in_front > 0).all()
    assert torch.allclose(torch.linalg.cross(points, d, dim = -3), m, atol = 1e-4)


def test_pixel_centres_lie_at_a_half():
    grid = pixel_grid((2, 3))
    assert grid.shape == (3, 2, 3)
    assert grid[:, 1, 2].tolist() == [2.5, 1.5, 1.]


def test_the_middle_of_the_image_looks_along_the_z_axis():
    intrinsics = torch.tensor([[20., 0., 1.5], [0., 20., 1.5], [0., 0., 1.]])
    ray = plucker_rays(torch.eye(4), intrinsics, (3, 3))[:, 1, 1]
    assert torch.allclose(ray, torch.tensor([0., 0., 1., 0., 0., 0.]))


def test_moving_the_world_moves_rays_as_it_must():
    cameras = known_cameras(3, size = SIZE)
    rotation, shift, scale = random_rotation(), torch.randn(3), 2.5
    d, m = plucker_rays(*cameras, image_size = SIZE).split(3, dim = -3)
    new_d, new_m = plucker_rays(moved(cameras.camera_to_world, rotation, shift, scale), cameras.intrinsics, SIZE).split(3, dim = -3)

    turned_d = einsum(rotation, d, 'i j, n j h w -> n i h w')
    turned_m = scale * einsum(rotation, m, 'i j, n j h w -> n i h w') + torch.linalg.cross(shift.view(3, 1, 1).expand_as(turned_d), turned_d, dim = -3)
    assert torch.allclose(new_d, turned_d, atol = 1e-5)
    assert torch.allclose(new_m, turned_m, atol = 1e-4)


def test_world_to_camera_gives_the_same_rays():
    cameras = known_cameras(2, 3, size = SIZE)
    world_to_camera = torch.linalg.inv(cameras.camera_to_world)
    grid = pixel_grid(SIZE).expand(2, 3, -1, -1, -1)
    rays = to_plucker_rays(cameras.intrinsics, world_to_camera[..., :3, :3], world_to_camera[..., :3, 3], grid)
    assert torch.allclose(rays, plucker_rays(*cameras, image_size = SIZE), atol = 1e-5)


def test_homogeneous_points_may_have_any_scale():
    k, r, t = torch.eye(3), random_rotation(), torch.randn(3)
    points = torch.rand(3, 4, 5) + 0.5
    assert torch.allclose(to_plucker_rays(k, r, t, points), to_plucker_rays(k, r, t, 3 * points), atol = 1e-5)


def test_rays_stay_float32_under_autocast_and_from_half_precision():
    camera_to_world, intrinsics = known_cameras(2, size = SIZE)
    exact = plucker_rays(camera_to_world, intrinsics, SIZE)

    with torch.autocast('cpu', torch.bfloat16):
        rays = plucker_rays(camera_to_world, intrinsics, SIZE)
    assert rays.dtype == torch.float32
    assert torch.equal(rays, exact)

    halved = plucker_rays(camera_to_world.bfloat16(), intrinsics.bfloat16(), SIZE)
    assert halved.dtype == torch.float32
    assert torch.equal(halved, plucker_rays(camera_to_world.bfloat16().float(), intrinsics.bfloat16().float(), SIZE))


def test_rays_are_differentiable():
    camera_to_world, intrinsics = (t.double().requires_grad_() for t in known_cameras(2, size = (3, 4)))
    assert torch.autograd.gradcheck(lambda c, k: plucker_rays(c, k, (3, 4)), (camera_to_world, intrinsics))


def test_intrinsics_that_cannot_be_inverted_are_named():
    camera_to_world, intrinsics = known_cameras(3, size = SIZE)
    for bad in (torch.zeros(3, 3), torch.full((3, 3), torch.nan), torch.tensor([[1., 0., 0.], [0., 0., 0.], [0., 0., 1.]])):
        broken = intrinsics.clone()
        broken[1] = bad
        with pytest.raises(ValueError, match = r'intrinsics: .*invertible.*index \[1\]'):
            plucker_rays(camera_to_world, broken, SIZE)


@pytest.mark.parametrize('change, message', [
    (dict(camera_to_world = torch.eye(3)), r'camera_to_world: .*\(\.\.\. 4 4\)'),
    (dict(intrinsics = torch.eye(4)), r'intrinsics: .*\(\.\.\. 3 3\)'),
    (dict(camera_to_world = torch.eye(4).long()), 'camera_to_world: .*floating point'),
    (dict(intrinsics = [[1.]]), 'intrinsics: .*torch.Tensor'),
    (dict(image_size = (0, 4)), 'image_size: .*height, width'),
])
def test_wrong_cameras_are_named(change, message):
    with pytest.raises(ValueError, match = message):
        plucker_rays(**{**dict(camera_to_world = torch.eye(4), intrinsics = torch.eye(3), image_size = (4, 4)), **change})


# conventions

def test_opengl_axes_point_up_and_back():
    camera = look_at(torch.tensor([0., -3., 1.]), torch.zeros(3), torch.tensor([0., 0., 1.]))
    gl = opencv_to_opengl(camera)
    x, y, z, centre = gl[:3].unbind(dim = -1)
    assert y[2] > 0.9  # up
    assert torch.allclose(z, torch.tensor([0., -3., 1.]) / 10 ** 0.5, atol = 1e-6)  # away from what is looked at
    assert torch.allclose(torch.linalg.cross(x, y), z, atol = 1e-6)
    assert torch.equal(centre, camera[:3, 3])


def test_opengl_round_trip():
    cameras = known_cameras(7).camera_to_world
    assert torch.equal(opengl_to_opencv(opencv_to_opengl(cameras)), cameras)


def test_colmap_against_a_known_library():
    transform = pytest.importorskip('scipy.spatial.transform')
    rotation, translation = random_rotation(200, dtype = torch.float64), torch.randn(200, 3, dtype = torch.float64)
    xyzw = torch.from_numpy(transform.Rotation.from_matrix(rotation.numpy()).as_quat())
    camera_to_world = colmap_to_opencv(xyzw[:, [3, 0, 1, 2]], translation)

    world_to_camera = torch.linalg.inv(camera_to_world)
    assert torch.allclose(world_to_camera[:, :3, :3], rotation, atol = 1e-12)
    assert torch.allclose(world_to_camera[:, :3, 3], translation, atol = 1e-12)


def test_colmap_round_trip_at_every_kind_of_rotation():
    half_turns = torch.diag_embed(torch.tensor([[1., 1., 1.], [1., -1., -1.], [-1., 1., -1.], [-1., -1., 1.]]))
    rotation = torch.cat((half_turns, random_rotation(500)))
    cameras = pose(rotation, torch.randn(504, 3))
    quaternion, translation = opencv_to_colmap(cameras)
    assert (quaternion[:, 0] >= 0).all()
    assert torch.allclose(quaternion.norm(dim = -1), torch.ones(504))
    assert torch.allclose(colmap_to_opencv(quaternion, translation), cameras, atol = 1e-5)


# images that change their size

def test_scaled_and_cropped_intrinsics_see_the_same_points():
    cameras = known_cameras(2, size = SIZE)
    points = torch.randn(2, 10, 3) * 0.3
    pixel, _ = project(points, cameras)

    scaled = scale_intrinsics(cameras.intrinsics, SIZE, (48, 36))
    assert torch.allclose(project(points, replace(cameras, intrinsics = scaled))[0], pixel * torch.tensor([36 / 24, 48 / 16]), atol = 1e-4)

    cropped = crop_intrinsics(cameras.intrinsics, top = 3, left = 5)
    assert torch.allclose(project(points, replace(cameras, intrinsics = cropped))[0], pixel - torch.tensor([5., 3.]), atol = 1e-4)


def test_rays_of_a_crop_are_a_crop_of_the_rays():
    camera_to_world, intrinsics = known_cameras(2, size = SIZE)
    whole = plucker_rays(camera_to_world, intrinsics, SIZE)
    part = plucker_rays(camera_to_world, crop_intrinsics(intrinsics, top = 4, left = 7), (8, 10))
    assert torch.allclose(whole[..., 4:12, 7:17], part, atol = 1e-5)


# pose normalisation

def test_the_mean_input_camera_becomes_the_identity():
    inputs = normalize_poses(known_cameras(3, 5).camera_to_world).inputs
    centres, y, z = inputs[..., :3, 3], inputs[..., :3, 1].mean(dim = 1), inputs[..., :3, 2].mean(dim = 1)
    assert centres.mean(dim = 1).abs().max() < 1e-6
    assert torch.allclose(z / z.norm(dim = -1, keepdim = True), torch.tensor([0., 0., 1.]).expand(3, 3), atol = 1e-5)
    assert y[:, 0].abs().max() < 1e-5  # no roll
    assert (y[:, 1] > 0).all()
    assert torch.allclose(centres.abs().amax(dim = (1, 2)), torch.full((3,), 1 / 1.35), atol = 1e-5)


def test_normalised_poses_do_not_depend_on_the_world():
    cameras = known_cameras(6).camera_to_world
    other = moved(cameras, random_rotation(), torch.randn(3) * 10, 7.)
    for protocol in ('inputs', 'inputs_and_further'):
        here = normalize_poses(cameras[:4], cameras[4:], protocol = protocol)
        there = normalize_poses(other[:4], other[4:], protocol = protocol)
        assert torch.allclose(here.inputs, there.inputs, atol = 1e-4)
        assert torch.allclose(here.further, there.further, atol = 1e-4)


def test_normalisation_keeps_relative_cameras():
    cameras = known_cameras(6).camera_to_world
    inputs, further, _ = normalize_poses(cameras[:4], cameras[4:])
    before = torch.linalg.inv(cameras[0]) @ cameras[5]
    after = torch.linalg.inv(inputs[0]) @ further[1]
    assert torch.allclose(before[:3, :3], after[:3, :3], atol = 1e-5)
    scale = after[:3, 3].norm() / before[:3, 3].norm()
    assert torch.allclose(before[:3, 3] * scale, after[:3, 3], atol = 1e-5)


def test_targets_change_inputs_in_the_authors_protocol_alone():
    cameras = known_cameras(6).camera_to_world
    a, b = cameras[3:5], cameras[4:6] + torch.tensor([0., 0., 0., 9.])
    assert torch.equal(normalize_poses(cameras[:3], a).inputs, normalize_poses(cameras[:3], b).inputs)

    joint = 'inputs_and_further'
    assert not torch.allclose(normalize_poses(cameras[:3], a, protocol = joint).inputs, normalize_poses(cameras[:3], b, protocol = joint).inputs)
    together = torch.cat(normalize_poses(cameras[:3], cameras[3:], protocol = joint)[:2])
    assert torch.allclose(together, normalize_poses(cameras).inputs, atol = 1e-6)


def test_degenerate_sets_of_cameras():
    one = known_cameras(1).camera_to_world
    assert torch.allclose(normalize_poses(one).inputs[0], torch.eye(4), atol = 1e-5)

    # all in one place, far from the origin: the unit of length stays, and rounding errors are not blown up
    turned = pose(random_rotation(4), torch.tensor([1000., 2000., -500.]) + 1e-3 * torch.rand(4, 3))
    further = turned[:1].clone()
    further[:, 0, 3] += 3
    inputs, further, _ = normalize_poses(turned, further)
    assert inputs[:, :3, 3].abs().max() < 1e-2
    assert torch.isclose(further[0, :3, 3].norm(), torch.tensor(3.), atol = 1e-2)

    # opposite directions: the first camera says what is forward
    back = torch.diag(torch.tensor([-1., 1., -1., 1.]))
    inputs = normalize_poses(torch.stack((torch.eye(4), back))).inputs
    assert torch.allclose(inputs, torch.stack((torch.eye(4), back)), atol = 1e-6)

    # opposite in every way
    upside_down = torch.diag(torch.tensor([1., -1., -1., 1.]))
    inputs = normalize_poses(torch.stack((torch.eye(4), upside_down))).inputs
    assert torch.allclose(inputs, torch.stack((torch.eye(4), upside_down)), atol = 1e-6)

    # mean y along forward, and so is the first y
    rolled = torch.stack((torch.eye(4), upside_down, back))
    assert normalize_poses(rolled).inputs.isfinite().all()
    for cameras in (rolled, torch.stack((torch.eye(4), back))):
        leaf = cameras.clone().requires_grad_()
        normalize_poses(leaf).inputs.sum().backward()
        assert leaf.grad.isfinite().all()


def test_normalised_rotations_are_rotations():
    inputs = normalize_poses(pose(random_rotation(50, 3), torch.randn(50, 3, 3))).inputs[..., :3, :3]
    assert torch.allclose(inputs @ inputs.mT, torch.eye(3).expand_as(inputs), atol = 1e-5)
    assert torch.allclose(torch.linalg.det(inputs), torch.ones(50, 3), atol = 1e-5)


def test_an_unknown_protocol_is_named():
    with pytest.raises(ValueError, match = 'protocol: .*inputs_and_further'):
        normalize_poses(torch.eye(4)[None], protocol = 'all')
    with pytest.raises(ValueError, match = 'inputs: .*at least one'):
        normalize_poses(torch.zeros(0, 4, 4))


# trajectories

def test_look_at_puts_its_target_in_the_middle_and_up_upwards():
    eye, target, up = torch.randn(10, 3), torch.randn(10, 3), torch.tensor([0., 0., 1.])
    cameras = Cameras(look_at(eye, target, up), torch.eye(3).expand(10, 3, 3))
    pixel, depth = project(target.unsqueeze(1), cameras)
    assert pixel.abs().max() < 1e-4
    assert torch.allclose(depth[:, 0], (target - eye).norm(dim = -1), atol = 1e-4)
    assert (cameras.camera_to_world[:, 2, 1] < 0).all()  # image y runs down
    assert cameras.camera_to_world[:, 2, 0].abs().max() < 1e-6  # no roll

    from_above = look_at(torch.tensor([0., 0., 2.]), torch.zeros(3), up)[:3, :3]
    assert torch.allclose(from_above @ from_above.mT, torch.eye(3), atol = 1e-6)


def test_an_orbit_looks_at_its_target_from_one_distance_and_height():
    target, up = torch.tensor([1., 2., 3.]), torch.tensor([0., 3., 4.])
    orbit = orbit_poses(12, target = target, radius = 2., up = up, elevation = 30.)
    offset = orbit[:, :3, 3] - target
    assert orbit.shape == (12, 4, 4)
    assert torch.allclose(offset.norm(dim = -1), torch.full((12,), 2.), atol = 1e-5)
    assert torch.allclose(offset @ up / 5, torch.full((12,), 1.), atol = 1e-5)
    assert torch.allclose(orbit[:, :3, 2], -offset / 2, atol = 1e-5)
    steps = (offset - offset.roll(1, 0)).norm(dim = -1)
    assert torch.allclose(steps, steps[:1].expand(12), atol = 1e-5)  # closed, and evenly
    assert orbit_poses(4, target = torch.randn(2, 5, 3), radius = 1., up = up).shape == (2, 5, 4, 4, 4)


def test_a_path_passes_through_its_cameras():
    cameras = known_cameras(2, 4).camera_to_world
    path = interpolate_poses(cameras, 3 * 5 + 1)
    assert path.shape == (2, 16, 4, 4)
    assert torch.allclose(path[:, ::5], cameras, atol = 1e-4)


def test_a_path_is_smooth_and_made_of_rigid_cameras():
    cameras = pose(random_rotation(5, dtype = torch.float64), torch.randn(5, 3, dtype = torch.float64))
    path = interpolate_poses(cameras, 40001)
    rotation = path[:, :3, :3]
    assert torch.allclose(rotation @ rotation.mT, torch.eye(3, dtype = torch.float64).expand_as(rotation), atol = 1e-9)
    velocity = path.diff(dim = 0)
    assert velocity.diff(dim = 0).norm(dim = (-2, -1)).max() < 0.01 * velocity.norm(dim = (-2, -1)).max()


def test_a_path_moves_with_the_world():
    cameras = known_cameras(4).camera_to_world
    rotation, shift = random_rotation(), torch.randn(3)
    assert torch.allclose(interpolate_poses(moved(cameras, rotation, shift), 20), moved(interpolate_poses(cameras, 20), rotation, shift), atol = 1e-4)


def test_paths_of_one_and_two_cameras():
    cameras = known_cameras(2).camera_to_world
    assert torch.allclose(interpolate_poses(cameras[:1], 3), cameras[:1].expand(3, 4, 4), atol = 1e-5)
    middle = interpolate_poses(cameras, 3)[1]
    assert torch.allclose(middle[:3, 3], cameras[:, :3, 3].mean(dim = 0), atol = 1e-5)
    with pytest.raises(ValueError, match = 'num_frames'):
        interpolate_poses(cameras, 0)


@pytest.mark.parametrize('name', ['plucker_rays', 'to_plucker_rays', 'normalize_poses', 'interpolate_poses', 'orbit_poses', 'look_at', 'colmap_to_opencv', 'opencv_to_colmap'])
def test_all_camera_maths_ignores_autocast(name):
    cameras = known_cameras(2, 3, size = SIZE)
    arguments = dict(
        plucker_rays = (*cameras, SIZE),
        to_plucker_rays = (cameras.intrinsics, cameras.camera_to_world[..., :3, :3], torch.randn(2, 3, 3), pixel_grid(SIZE).expand(2, 3, -1, -1, -1)),
        normalize_poses = (cameras.camera_to_world,),
        interpolate_poses = (cameras.camera_to_world, 7),
        orbit_poses = (5,),
        look_at = (torch.randn(2, 3), torch.randn(2, 3), torch.randn(3)),
        colmap_to_opencv = (torch.randn(2, 4), torch.randn(2, 3)),
        opencv_to_colmap = (cameras.camera_to_world,),
    )[name]
    options = dict(target = torch.randn(3), radius = 2., up = torch.randn(3)) if name == 'orbit_poses' else {}

    function = getattr(cams, name)
    expected = function(*arguments, **options)
    with torch.autocast('cpu', torch.bfloat16):
        result = function(*arguments, **options)

    for a, b in zip((expected,) if torch.is_tensor(expected) else expected, (result,) if torch.is_tensor(result) else result, strict = True):
        assert b is None if a is None else torch.equal(a, b)


def test_normalization_as_a_similarity():
    poses, further = known_cameras(5).camera_to_world, known_cameras(3).camera_to_world
    for options in (dict(), dict(unit = 7.)):
        expected, moved, _ = normalize_poses(poses, further, **options)
        similarity = normalize_poses(poses, **options).similarity
        assert torch.allclose(move_poses(similarity, poses), expected, atol = 1e-5)
        assert torch.allclose(move_poses(similarity, further), moved, atol = 1e-5)
