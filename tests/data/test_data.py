from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from conftest import full_disk, known_cameras
from PIL import Image

from lvsm_pytorch import plucker_rays
from lvsm_pytorch.data import Batch, Problems, Scene, SceneSource, SyntheticSource, View, hold_out, read_scene, read_transforms, synthetic_scene, synthetic_scenes, write_transforms
from lvsm_pytorch.data.images import load_image, resize_and_crop, save_image
from lvsm_pytorch.geometry.cameras import pose
from lvsm_pytorch.geometry.conventions import opencv_to_opengl
from lvsm_pytorch.geometry.view_selection import camera_distance, spacings
from lvsm_pytorch.lvsm.losses import psnr

SIZE = (12, 16)


def photo_folder(folder, num_views = 3, size = SIZE, **shared):
    """A transforms.json folder of random photos, and its JSON."""
    cameras = known_cameras(num_views, size = size)
    frames = []
    for index, camera_to_world in enumerate(cameras.camera_to_world):
        save_image(torch.rand(3, *size), folder / f'{index}.png')
        frames.append(dict(file_path = f'{index}.png', transform_matrix = opencv_to_opengl(camera_to_world).tolist()))
    content = dict(fl_x = 20., fl_y = 21., cx = 8., cy = 6., w = size[1], h = size[0], frames = frames, **shared)
    write_json(folder, content)
    return content, cameras


def write_json(folder, content):
    (folder / 'transforms.json').write_text(json.dumps(content))


# images

def test_images_round_trip(tmp_path):
    image = torch.rand(3, *SIZE)
    save_image(image, tmp_path / 'a.png')
    assert (load_image(tmp_path / 'a.png') - image).abs().max() <= 0.5 / 255 + 1e-6
    assert [p.name for p in tmp_path.iterdir()] == ['a.png']


def test_a_failed_write_leaves_the_old_file(tmp_path):
    save_image(torch.zeros(3, *SIZE), tmp_path / 'a.png')
    with full_disk(40), pytest.raises(OSError, match = 'a.png: must be written completely'):
        save_image(torch.ones(3, *SIZE), tmp_path / 'a.png')
    assert load_image(tmp_path / 'a.png').max() == 0
    assert not list(tmp_path.glob('.*'))


def test_transparency_is_white(tmp_path):
    Image.new('RGBA', (2, 2), (255, 0, 0, 0)).save(tmp_path / 'clear.png')
    Image.new('RGBA', (2, 2), (255, 0, 0, 51)).save(tmp_path / 'tinted.png')
    assert load_image(tmp_path / 'clear.png').min() == 1
    assert torch.allclose(load_image(tmp_path / 'tinted.png')[:, 0, 0], torch.tensor([1., 0.8, 0.8]), atol = 0.01)

    palette = Image.new('P', (2, 2))
    palette.putpalette([0, 0, 0])
    palette.save(tmp_path / 'palette.png', transparency = 0)
    assert load_image(tmp_path / 'palette.png').min() == 1


def test_grey_becomes_colour(tmp_path):
    Image.new('L', (4, 3), 128).save(tmp_path / 'grey.jpg')
    assert load_image(tmp_path / 'grey.jpg').shape == (3, 3, 4)


def test_broken_images_are_named(tmp_path):
    (tmp_path / 'text.png').write_text('no image')
    save_image(torch.rand(3, 64, 64), tmp_path / 'cut.png')
    (tmp_path / 'cut.png').write_bytes((tmp_path / 'cut.png').read_bytes()[:500])
    Image.new('I;16', (2, 2)).save(tmp_path / 'deep.png')
    for name in ('missing.png', 'text.png', 'cut.png', 'deep.png'):
        with pytest.raises(ValueError, match = f'image: .*{name}'):
            load_image(tmp_path / name)


@pytest.mark.parametrize('from_size, size', [((64, 96), (16, 16)), ((96, 64), (16, 16)), ((64, 64), (16, 32)), ((20, 30), (40, 40)), ((50, 77), (24, 24))])
def test_a_resized_crop_keeps_its_rays(from_size, size):
    """The image holds its own coordinates: after resizing, what a pixel shows must be where its ray was before."""
    height, width = from_size
    y, x = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing = 'ij')
    cameras = known_cameras(size = from_size)
    image, intrinsics = resize_and_crop(torch.stack((x, y, x)), cameras.intrinsics, size)
    assert image.shape == (3, *size)

    inside = (..., slice(3, -3), slice(3, -3))  # away from the borders, where the filter is cut off
    shown = torch.stack((image[0] * width, image[1] * height, torch.ones(size)))[inside]
    direction = torch.einsum('ij,jhw->ihw', torch.linalg.inv(cameras.intrinsics), shown)
    rays = plucker_rays(torch.eye(4), intrinsics, size)[:3][inside]
    assert torch.allclose(direction / direction.norm(dim = 0), rays, atol = 2e-3)


def test_an_image_that_fits_stays_as_it_is():
    image, intrinsics = torch.rand(3, *SIZE), torch.eye(3)
    same, same_intrinsics = resize_and_crop(image, intrinsics, SIZE)
    assert torch.equal(same, image)
    assert torch.equal(same_intrinsics, intrinsics)


# transforms.json

def test_transforms_round_trip(tmp_path):
    scene = synthetic_scene(3, num_views = 4, image_size = 16)
    write_transforms(scene, tmp_path / 'new' / 'folder')
    other = read_scene(tmp_path / 'new' / 'folder')
    assert other.name == 'folder'
    for a, b in zip(scene.views, other.views, strict = True):
        assert (a.load() - b.load()).abs().max() <= 0.5 / 255 + 1e-6
        assert torch.allclose(plucker_rays(a.camera_to_world, a.intrinsics, (16, 16)), plucker_rays(b.camera_to_world.float(), b.intrinsics, (16, 16)), atol = 1e-5)
    with pytest.raises(ValueError, match = 'folder: must have no transforms.json'):
        write_transforms(scene, tmp_path / 'new' / 'folder')
    write_transforms(scene, tmp_path / 'new' / 'folder', overwrite = True)


def test_cameras_are_read_in_opencv_axes(tmp_path):
    _, cameras = photo_folder(tmp_path)
    scene = read_scene(tmp_path)
    for view, camera_to_world in zip(scene.views, cameras.camera_to_world, strict = True):
        assert torch.allclose(view.camera_to_world.float(), camera_to_world, atol = 1e-6)
        assert view.intrinsics.tolist() == [[20., 0., 8.], [0., 21., 6.], [0., 0., 1.]]
    assert read_scene(tmp_path / 'transforms.json').name == scene.name


def test_intrinsics_of_a_frame_come_before_shared_ones(tmp_path):
    content, _ = photo_folder(tmp_path)
    content['frames'][1].update(fl_x = 33., cx = 7.)
    write_json(tmp_path, content)
    first, second, _ = read_scene(tmp_path).views
    assert (first.intrinsics[0, 0], first.intrinsics[0, 2]) == (20, 8)
    assert (second.intrinsics[0, 0], second.intrinsics[0, 2]) == (33, 7)
    assert second.intrinsics[1, 1] == 21


def test_blender_has_an_angle_and_no_endings(tmp_path):
    content, _ = photo_folder(tmp_path)
    frames = [dict(frame, file_path = './' + frame['file_path'].removesuffix('.png')) for frame in content['frames']]
    write_json(tmp_path, dict(camera_angle_x = 2 * math.atan(0.5), frames = frames))
    view = read_scene(tmp_path).views[0]
    assert torch.allclose(view.intrinsics, torch.tensor([[16., 0., 8.], [0., 16., 6.], [0., 0., 1.]]))
    assert view.load().shape == (3, *SIZE)


def test_intrinsics_stated_for_a_larger_image_are_scaled(tmp_path):
    content, _ = photo_folder(tmp_path)
    write_json(tmp_path, dict(content, w = 32, h = 24, fl_x = 40., fl_y = 42., cx = 16., cy = 12.))
    assert torch.allclose(read_scene(tmp_path).views[0].intrinsics, torch.tensor([[20., 0., 8.], [0., 21., 6.], [0., 0., 1.]]))


@pytest.mark.parametrize('change, message', [
    (dict(camera_model = 'EQUIRECTANGULAR'), 'must have a pinhole.*EQUIRECTANGULAR'),
    (dict(k7 = 0.1), "must have a pinhole.*'k7': 0.1"),
    (dict(is_fisheye = True, p1 = 0.1), "must have a pinhole.*'p1': 0.1"),
    (dict(k1 = 'much'), "finite number as k1, but got 'much'"),
    (dict(fl_x = 'wide'), "finite number as fl_x, but got 'wide'"),
    (dict(fl_x = math.nan), 'finite number as fl_x'),
    (dict(fl_x = -3.), 'above 0'),
    (dict(w = 12, h = 16), 'swapped'),
    (dict(frames = []), 'list `frames`'),
    (dict(frames = [3]), 'list `frames`'),
])
def test_what_cannot_be_trusted_is_refused(tmp_path, change, message):
    content, _ = photo_folder(tmp_path)
    write_json(tmp_path, {**content, **change})
    with pytest.raises(ValueError, match = rf'transforms.json.*{message}'):
        read_scene(tmp_path)


@pytest.mark.parametrize('path', ['../secret.png', '/etc/passwd', 'images/../../secret.png', '..\\secret.png'])
def test_a_path_out_of_the_dataset_costs_that_photo(tmp_path, path):
    (tmp_path / 'data').mkdir()
    content, _ = photo_folder(tmp_path / 'data')
    save_image(torch.rand(3, *SIZE), tmp_path / 'secret.png')
    content['frames'][1]['file_path'] = path
    write_json(tmp_path / 'data', content)
    with pytest.warns(UserWarning, match = 'frame 1: must have its image inside the folder'):
        assert [view.name for view in read_scene(tmp_path / 'data').views] == ['0.png', '2.png']


@pytest.mark.parametrize('change, message', [
    (dict(file_path = 'missing.png'), 'image that exists'),
    (dict(file_path = None), 'file_path'),
    (dict(transform_matrix = None), 'transform_matrix'),
    (dict(transform_matrix = [[1., 2.]]), 'transform_matrix'),
    (dict(transform_matrix = [[math.nan] * 4] * 4), 'finite numbers'),
    (dict(transform_matrix = (2 * torch.eye(4)).tolist()), r'rotation and a translation, but got axes of lengths \[2.0, 2.0, 2.0\]'),
    (dict(transform_matrix = torch.diag(torch.tensor([1., 1., -1., 1.])).tolist()), 'determinant -1'),
])
def test_a_bad_frame_is_skipped_and_named(tmp_path, change, message):
    content, _ = photo_folder(tmp_path)
    content['frames'][1].update(change)
    write_json(tmp_path, content)
    problems = Problems()
    with pytest.warns(UserWarning, match = f'skipped .*transforms.json, frame 1: .*{message}'):
        scene = read_transforms(tmp_path, problems)
    assert [view.name for view in scene.views] == ['0.png', '2.png']
    assert '1 skipped:' in problems.summary()

    # named once, and where nothing is left it is an error

    read_transforms(tmp_path, problems)
    content['frames'] = content['frames'][1:2]
    write_json(tmp_path, content)
    with pytest.raises(ValueError, match = f'at least one frame that can be used, but got none of 1.*{message}'):
        read_transforms(tmp_path, problems)


def test_pinholes_by_other_names_are_taken(tmp_path):
    content, _ = photo_folder(tmp_path)
    write_json(tmp_path, dict(content, camera_model = 'OPENCV', k1 = 0., k2 = 0., p1 = 0))
    assert len(read_scene(tmp_path).views) == 3


def test_a_frame_that_is_there_twice_counts_once(tmp_path):
    content, _ = photo_folder(tmp_path)
    write_json(tmp_path, dict(content, frames = [*content['frames'], dict(content['frames'][0], file_path = './0.png')]))
    assert [view.name for view in read_scene(tmp_path).views] == ['0.png', '1.png', '2.png']
    moved = dict(content['frames'][0], transform_matrix = torch.eye(4).tolist())
    write_json(tmp_path, dict(content, frames = [*content['frames'], moved]))
    with pytest.warns(UserWarning, match = 'frame 3: 0.png is listed twice with different poses'):
        scene = read_scene(tmp_path)
    assert not torch.allclose(scene.views[0].camera_to_world.float(), torch.diag(torch.tensor([1., -1., -1., 1.])))


def test_broken_files_are_named(tmp_path):
    photo_folder(tmp_path)
    (tmp_path / 'transforms.json').write_text('{')
    with pytest.raises(ValueError, match = 'readable JSON'):
        read_scene(tmp_path)
    for missing in (tmp_path / 'nowhere', tmp_path / '0.png'):
        with pytest.raises(ValueError, match = 'data: must be a transforms.json'):
            read_scene(missing)


def test_real_scenes_are_read(shared):
    folders = sorted(path for path in (shared / 'scenes').iterdir() if path.is_dir())
    scenes = [read_scene(folder) for folder in folders]
    assert sum(len(scene.views) for scene in scenes) >= 382
    for scene in scenes:
        image = scene.views[0].load()
        assert min(image.shape[1:]) == 256
        assert abs(scene.views[0].intrinsics[0, 2] - image.shape[2] / 2) < 0.1 * image.shape[2]
        square, _ = resize_and_crop(image, scene.views[0].intrinsics, (64, 64))
        assert square.shape == (3, 64, 64)


# synthetic scenes

def test_a_scene_is_a_function_of_its_seed():
    images, cameras = synthetic_scenes([5, 6], num_views = 2, image_size = 16)
    again, _ = synthetic_scenes([6], num_views = 3, image_size = 16)
    assert torch.allclose(images[1], again[0, :2], atol = 1e-5)
    assert not torch.allclose(images[0], images[1], atol = 0.1)
    scene = synthetic_scene(5, num_views = 2, image_size = 16)
    assert torch.allclose(scene.views[1].load(), images[0, 1], atol = 1e-5)
    torch.testing.assert_close(scene.views[1].camera_to_world, cameras.camera_to_world[0, 1])
    assert images.min() >= 0
    assert images.max() <= 1


def test_what_two_views_show_agrees():
    """A point of the ground that one view sees, and that nothing hides from the other, has one colour."""
    from lvsm_pytorch.data import synthetic as s

    world, cameras = s.worlds_and_cameras(range(8), num_views = 2, image_size = 64)
    empty = world._replace(half_sizes = world.half_sizes * 1e-4)
    points = torch.cat((torch.rand(8, 200, 2) * 4 - 2, torch.zeros(8, 200, 1)), dim = -1)
    seen = []
    for view in range(2):
        eye = cameras.camera_to_world[:, view, :3, 3]
        to_point = points - eye.unsqueeze(1)
        distance = to_point.norm(dim = -1, keepdim = True)
        color = s.shade(empty, eye.unsqueeze(1), (to_point / distance).unsqueeze(1))[:, 0]
        haze = torch.exp(-0.006 * distance ** 2)
        seen.append((color - (1 - haze) * empty.sky[:, :1]) / haze)
    assert torch.allclose(*seen, atol = 1e-3)
    assert seen[0].std() > 0.1


def test_solids_hide_each_other_and_the_ground():
    from lvsm_pytorch.data import synthetic as s

    sphere = s.hit_spheres(torch.tensor([0., 0., -5.]), torch.tensor([0., 0., 1.]), torch.tensor(2.))
    assert sphere == 3
    box = s.hit_boxes(torch.tensor([0., 0., -5.]), torch.tensor([0., 0., 1.]), torch.tensor([1., 1., 0.5]))
    assert box == 4.5
    assert s.hit_spheres(torch.tensor([3., 0., -5.]), torch.tensor([0., 0., 1.]), torch.tensor(2.)).isinf()
    assert s.hit_boxes(torch.tensor([3., 0., -5.]), torch.tensor([0., 0., 1.]), torch.ones(3)).isinf()
    assert s.hit_spheres(torch.tensor([0., 0., 5.]), torch.tensor([0., 0., 1.]), torch.tensor(2.)).isinf()  # behind


def test_synthetic_scenes_are_hard_but_not_too_hard():
    images, _ = synthetic_scenes(range(64), num_views = 3, image_size = 64)
    copied = torch.maximum(psnr(images[:, 0], images[:, 2]), psnr(images[:, 1], images[:, 2])).mean()
    assert 15 < copied < 18


def test_a_summary_of_many_problems_can_be_short():
    problems = Problems()
    problems.found.update({f'scene {index}': 'is broken' for index in range(9)})
    assert len(problems.summary().splitlines()) == 10
    assert problems.summary(most = 2).splitlines() == ['9 skipped:', '  scene 0: is broken', '  scene 1: is broken', '  and 7 more']
    assert Problems().summary() == ''


# sampling

def test_every_eighth_view_by_name_is_held_out():
    views = [View(f'{index:02d}', torch.eye(4), torch.eye(3), lambda: torch.rand(3, 8, 8)) for index in range(18)]
    training, held_out = hold_out(Scene('s', tuple(reversed(views))))
    assert [view.name for view in held_out.views] == ['00', '08', '16']
    assert len(training.views) == 15
    with pytest.raises(ValueError, match = 'scene: must have at least three'):
        hold_out(Scene('s', tuple(views[:3])))


def line_of_views(num_views):
    """Views along a line; the image of each is filled with its own number."""
    centres = torch.tensor([[float(index), 0., 0.] for index in range(num_views)])
    cameras = pose(torch.eye(3).expand(num_views, 3, 3), centres)
    intrinsics = torch.tensor([[8., 0., 4.], [0., 8., 4.], [0., 0., 1.]])
    return Scene('line', tuple(View(f'{index:02d}', cameras[index], intrinsics, lambda index = index: torch.full((3, 8, 8), index / 100)) for index in range(num_views)))


def numbers(images):
    return (images[..., 0, 0, 0] * 100).round().long()


def test_held_out_views_have_their_nearest_neighbours_as_inputs_and_are_never_trained_on():
    source = SceneSource(line_of_views(20), num_inputs = 2, num_targets = 3, image_size = 8)
    held_out = source.held_out()
    assert held_out.names == ['00', '08', '16']
    assert numbers(held_out.target_images).flatten().tolist() == [0, 8, 16]
    assert [sorted(row) for row in numbers(held_out.input_images).tolist()] == [[1, 2], [7, 9], [15, 17]]

    for step in range(20):
        batch = source.training_batch(step, 8)
        inputs, targets = numbers(batch.input_images), numbers(batch.target_images)
        assert inputs.shape == (8, 2)
        assert targets.shape == (8, 3)
        assert not torch.isin(torch.cat((inputs, targets), dim = 1), torch.tensor([0, 8, 16])).any()
        assert not (inputs.unsqueeze(2) == targets.unsqueeze(1)).any()
        assert (inputs - targets[:, :1]).abs().max() <= 10


def test_some_samples_of_a_batch_are_all_of_theirs():
    whole = Batch(torch.rand(4, 3, 3, 8, 8), known_cameras(4, 3, size = (8, 8)), list('abcd'), 2, torch.rand(4, 2), torch.rand(4, 3, 8, 8))
    some = whole.samples(slice(1, 3))
    assert some.names == ['b', 'c']
    assert torch.equal(some.target_images, whole.images[1:3, 2:])
    assert torch.equal(some.target_distances, whole.distances[1:3, 2:])
    arguments, of_all = some.arguments(), whole.arguments()
    assert torch.equal(arguments['cameras'].camera_to_world, whole.cameras.camera_to_world[1:3])
    for name in ('input_images', 'input_rays', 'target_rays', 'depth_range'):
        torch.testing.assert_close(arguments[name], of_all[name][1:3])
    torch.testing.assert_close(torch.cat((of_all['input_rays'], of_all['target_rays']), dim = 1), plucker_rays(*whole.cameras, (8, 8)))


def test_a_batch_is_a_function_of_its_step():
    for source in (SceneSource(line_of_views(20), num_inputs = 2, num_targets = 1, image_size = 8), SyntheticSource(num_inputs = 2, num_targets = 1, image_size = 8)):
        a, b, c = source.training_batch(3, 4), source.training_batch(3, 4), source.training_batch(4, 4)
        assert torch.equal(a.input_rays, b.input_rays)
        assert torch.equal(a.target_images, b.target_images)
        assert not torch.allclose(a.input_rays, c.input_rays, atol = 1e-3)


def rays_of(source, views):
    return source.collate([source.views(views, 2)])


def test_targets_do_not_move_the_inputs():
    source = SceneSource(line_of_views(20), num_inputs = 2, num_targets = 1, image_size = 8, frame = 'inputs')
    a, b = (rays_of(source, views) for views in ([0, 1, 5], [0, 1, 9]))
    assert torch.equal(a.input_rays, b.input_rays)
    assert not torch.allclose(a.target_rays, b.target_rays, atol = 1e-3)


def test_the_frame_of_the_rays():
    """In the frame of the inputs a sample looks the same wherever it lies in the scene, and in that of the scene it doesn't."""
    for frame, same in (('inputs', True), ('scene', False)):
        source = SceneSource(line_of_views(20), num_inputs = 2, num_targets = 1, image_size = 8, frame = frame)
        a, b = (rays_of(source, views) for views in ([0, 1, 3], [2, 3, 5]))
        assert torch.allclose(a.input_rays, b.input_rays, atol = 1e-5) == same
        assert torch.allclose(a.target_rays, b.target_rays, atol = 1e-5) == same

    # and a scene keeps its unit of length, however near its inputs are

    source = SceneSource(line_of_views(20), num_inputs = 2, num_targets = 1, image_size = 8, frame = 'inputs')
    near, far = (rays_of(source, views) for views in ([0, 1, 5], [0, 3, 5]))
    gap_of_near, gap_of_far = ((views.input_rays[0, 0, 3:] - views.input_rays[0, 1, 3:]).norm(dim = 0).max() for views in (near, far))
    assert gap_of_far / gap_of_near == pytest.approx(3, rel = 1e-3)


def test_a_scene_far_from_the_origin_of_its_world_is_the_same():
    near = line_of_views(20)
    far = replace(near, views = tuple(replace(view, camera_to_world = view.camera_to_world + torch.tensor([0., 0., 0., 4096.]).expand(4, 4) * torch.tensor([[1.], [1.], [1.], [0.]])) for view in near.views))
    a, b = (SceneSource(scene, num_inputs = 2, num_targets = 1, image_size = 8).held_out() for scene in (near, far))
    assert torch.allclose(a.input_rays, b.input_rays, atol = 1e-5)


def test_held_out_synthetic_scenes_are_never_trained_on():
    source = SyntheticSource(num_inputs = 2, num_targets = 2, image_size = 8)
    held_out = set(source.held_out().names)
    trained = {name for step in range(0, 200, 10) for name in source.training_batch(step, 8).names}
    assert len(held_out) == 64
    assert not held_out & trained
    assert source.training_batch(0, 4).target_images.shape == (4, 2, 3, 8, 8)


def test_synthetic_cameras_are_about_one_unit_from_what_they_see():
    _, cameras = SyntheticSource(num_inputs = 2, num_targets = 1, image_size = 8).scene(5)
    distance = cameras.camera_to_world[:, :3, 3].norm(dim = -1)
    assert ((distance > 1) & (distance < 1.5)).all()


def test_too_many_inputs_are_named():
    with pytest.raises(ValueError, match = 'num_inputs: must be below'):
        SceneSource(line_of_views(5), num_inputs = 4, num_targets = 1, image_size = 8)


def test_which_cameras_are_near_does_not_depend_on_where_the_world_is():
    """Georeferenced: a kilometre from the origin, and a third of a metre apart, in more views than matrices would be used for."""
    poses = pose(torch.eye(3).expand(60, 3, 3), torch.arange(60.)[:, None] * torch.tensor([0.3, 0., 0.]))
    far = poses.clone()
    far[:, :3, 3] += 1000.
    assert torch.allclose(camera_distance(far), camera_distance(poses), atol = 1e-2)
    assert torch.allclose(spacings(far[:, :3, 3]), torch.full((60,), 0.3), atol = 1e-3)


def test_some_views_keep_their_numbers():
    views = tuple(View(f'{index:02d}', torch.eye(4), torch.eye(3), lambda: torch.rand(3, 8, 8)) for index in range(10))
    scene = Scene('s', views, numbers = tuple(range(5, 15)))
    training, held_out = hold_out(scene.only(reversed(range(10))))
    assert {number: view.name for number, view in held_out.numbered().items()} == {5: '00', 13: '08'}
    assert list(training.numbered()) == [6, 7, 8, 9, 10, 11, 12, 14]
