from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import PAPER, counted_passes, known_cameras, random_rotation, tiny_model

from lvsm_pytorch import LVSM, Cameras, encode_photos, plucker_rays, synthesize
from lvsm_pytorch.configs.train import TrainConfig
from lvsm_pytorch.data import cameras_of, read_scene, synthetic_scene, write_transforms
from lvsm_pytorch.geometry.cameras import crop_intrinsics, scale_intrinsics
from lvsm_pytorch.geometry.normalization import normalize_poses
from lvsm_pytorch.lvsm.pretrained import TrainedFor
from lvsm_pytorch.training.loop import train
from lvsm_pytorch.training.runs import model_of as model_as_configured
from lvsm_pytorch.training.runs import source_of

V, T, SIZE = 3, 5, (16, 24)
MODES = [True, False]


def photos(size = SIZE):
    return torch.rand(V, 3, *size), known_cameras(V, size = size), known_cameras(T, size = SIZE)


def model_of(**changes):
    model = tiny_model(**changes).eval()
    model.trained_for = TrainedFor('inputs', SIZE, V)
    return model


@pytest.mark.parametrize('mode', MODES)
def test_photos_that_fit_are_rendered_as_by_forward(mode):
    model = model_of(input_attends_target = mode)
    images, cameras, targets = photos()
    poses, target_poses, _ = normalize_poses(cameras.camera_to_world, targets.camera_to_world)
    expected = model(images[None], plucker_rays(poses, cameras.intrinsics, SIZE)[None], plucker_rays(target_poses, targets.intrinsics, SIZE)[None])[0]

    views = synthesize(model, images, cameras, targets, SIZE)
    assert views.shape == (T, 3, *SIZE)
    assert not views.requires_grad
    assert (views - expected).abs().max() < 1e-5

    for chunk_size in (1, 2, 99):
        assert (synthesize(model, list(images), cameras, targets, SIZE, chunk_size = chunk_size) - expected).abs().max() < 1e-5

    single = synthesize(model, images, cameras, Cameras(*(t[1] for t in targets)), SIZE, progress = True)
    assert (single - expected[1]).abs().max() < 1e-5


def test_chunks_bound_how_many_views_are_rendered_at_a_time():
    images, cameras, targets = photos()
    parts = encode_photos(model_of(), images, cameras).render(targets, SIZE, chunk_size = 2)

    with counted_passes() as first:
        assert len(next(parts)) == 2
    with counted_passes() as others:
        assert [len(part) for part in parts] == [2, 1]
    assert len(others) == 2 * len(first)    # nothing is rendered before it is taken


def test_where_the_world_is_and_how_it_is_measured_changes_nothing():
    model = model_of()
    images, cameras, targets = photos()
    expected = synthesize(model, images, cameras, targets, SIZE)
    rotation, shift, scale = random_rotation(), torch.randn(3), 7.

    def moved(cameras):
        poses = cameras.camera_to_world.clone()
        poses[:, :3, :3] = rotation @ poses[:, :3, :3]
        poses[:, :3, 3] = scale * (poses[:, :3, 3] @ rotation.T + shift)
        return replace(cameras, camera_to_world = poses)

    assert (synthesize(model, images, moved(cameras), moved(targets), SIZE) - expected).abs().max() < 1e-4

    # as it is, the world matters; with a unit, its scale does

    given = synthesize(model, images, cameras, targets, SIZE, pose_frame = 'given')
    assert (synthesize(model, images, moved(cameras), moved(targets), SIZE, pose_frame = 'given') - given).abs().max() > 1e-2
    by_unit = synthesize(model, images, cameras, targets, SIZE, unit = 2.)
    assert (by_unit - expected).abs().max() > 1e-3
    assert (synthesize(model, images, moved(cameras), moved(targets), SIZE, unit = 2. * scale) - by_unit).abs().max() < 1e-4


def test_the_unit_is_that_of_training():
    model = model_of()
    images, cameras, targets = photos()
    by_unit = synthesize(model, images, cameras, targets, SIZE, unit = 2.)
    model.trained_for = TrainedFor('inputs', SIZE, V, unit = 2.)
    assert torch.equal(synthesize(model, images, cameras, targets, SIZE), by_unit)
    assert not torch.allclose(synthesize(model, images, cameras, targets, SIZE, unit = 3.), by_unit, atol = 1e-4)


def test_a_model_of_synthetic_scenes_renders_as_in_training():
    """By photos of another size, cut from the middle, at the cameras of a training batch: the same views."""
    config = TrainConfig(**PAPER, image_size = 32, dim = 32, depth = 1, dim_head = 16, pose_frame = 'inputs')
    source = source_of(config)
    model = model_as_configured(config, source)
    batch = source.held_out()
    scene = synthetic_scene(0, num_views = 6, image_size = 32)
    inputs, asked = scene.views[:2], scene.views[2:3]
    view = synthesize(model, [view.load() for view in inputs], cameras_of(inputs), cameras_of(asked), (32, 32))
    expected = model.eval()(batch.input_images[:1], batch.input_rays[:1], batch.target_rays[:1])
    assert torch.allclose(view, expected[0], atol = 1e-4)


def test_a_model_of_one_scene_renders_in_the_world_of_its_dataset(tmp_path):
    write_transforms(synthetic_scene(1, num_views = 12, image_size = 24), tmp_path / 'photos')
    tiny = dict(**PAPER, image_size = 16, dim = 32, depth = 1, dim_head = 16, steps = 2, batch_size = 2, num_targets = 1, tensorboard = False, device = 'cpu')
    config = TrainConfig(data = tmp_path / 'photos', out = tmp_path / 'run', **tiny)
    train(config)
    model = LVSM.from_pretrained(tmp_path / 'run')
    batch = source_of(config).held_out()
    expected = model(batch.input_images, batch.input_rays, batch.target_rays)
    scene = {view.name: view for view in read_scene(tmp_path / 'photos').views}
    source = source_of(config)
    for index, name in enumerate(batch.names):
        inputs = [scene[source.names[number]] for number in source.nearest(source.names.index(name))]
        asked = cameras_of([scene[name]])
        asked = replace(asked, intrinsics = scale_intrinsics(asked.intrinsics, (24, 24), (16, 16)))
        view = synthesize(model, [view.load() for view in inputs], cameras_of(inputs), asked, (16, 16))
        assert torch.allclose(view, expected[index], atol = 1e-4)


def test_asking_for_more_changes_nothing():
    model = model_of()
    images, cameras, targets = photos()
    views = synthesize(model, images, cameras, targets, SIZE)
    fewer = synthesize(model, images, cameras, Cameras(*(t[:2] for t in targets)), SIZE)
    assert (views[:2] - fewer).abs().max() < 1e-6


def test_photos_of_any_size_see_the_same():
    """A smooth photo twice as large and cut differently at top and bottom, with cameras accordingly, is the same photo."""
    model = model_of()
    cameras, targets = known_cameras(V), known_cameras(T)
    y, x = torch.meshgrid((torch.arange(SIZE[0]) + 0.5) / SIZE[0], (torch.arange(SIZE[1]) + 0.5) / SIZE[1], indexing = 'ij')
    small = torch.stack((x, y, (x + y) / 2)).expand(V, -1, -1, -1)
    large_size = (2 * SIZE[0], 2 * SIZE[1])
    large = torch.nn.functional.interpolate(small, large_size, mode = 'bilinear')
    intrinsics = scale_intrinsics(cameras.intrinsics, SIZE, large_size)

    # of one photo there is more above and below

    taller = torch.nn.functional.pad(large[1], (0, 0, 6, 6))
    intrinsics[1, 1, 2] += 6

    expected = synthesize(model, small, cameras, targets, SIZE)
    views = synthesize(model, [large[0], taller, large[2]], replace(cameras, intrinsics = intrinsics), targets, SIZE)
    assert (views - expected).abs().max() < 0.02

    wrong = synthesize(model, [large[0], taller, large[2]], cameras, targets, SIZE)
    assert (wrong - expected).abs().max() > 0.1


@pytest.mark.parametrize('mode', MODES)
def test_a_size_that_is_no_multiple_of_patches_is_the_middle_of_one_that_is(mode):
    model = model_of(input_attends_target = mode)
    images, cameras, targets = photos()
    whole = synthesize(model, images, cameras, targets, (24, 32))
    middle = Cameras(targets.camera_to_world, crop_intrinsics(targets.intrinsics, 2, 3))
    part = synthesize(model, images, cameras, middle, (19, 25))
    assert part.shape == (T, 3, 19, 25)
    assert (part - whole[..., 2:21, 3:28]).abs().max() < 1e-4


def test_the_input_size_is_that_of_training():
    model = model_of()
    images, cameras, targets = photos((32, 32))
    default = synthesize(model, images, cameras, targets, SIZE)
    assert torch.equal(default, synthesize(model, images, cameras, targets, SIZE, input_size = SIZE))
    assert not torch.allclose(default, synthesize(model, images, cameras, targets, SIZE, input_size = (32, 32)))
    model.trained_for = None
    assert torch.equal(synthesize(model, images, cameras, targets, SIZE), synthesize(model, images, cameras, targets, SIZE, input_size = (32, 32)))


def test_the_model_is_left_as_it_was():
    model = model_of(decoder_kwargs = dict(ff_dropout = 0.5)).train()
    images, cameras, targets = photos()
    views = synthesize(model, images, cameras, targets, SIZE)
    assert model.training
    assert torch.equal(views, synthesize(model.eval(), images, cameras, targets, SIZE))
    assert not model.training
    assert all(p.grad is None for p in model.parameters())


def with_nan(t):
    t = t.clone()
    t[0, 0, 0] = torch.nan
    return t


@pytest.mark.parametrize('change, message', [
    (lambda a: dict(images = []), 'images: must have at least one photo'),
    (lambda a: dict(images = [(image * 255).byte() for image in a['images']]), r'images\[0\]: must be floating point.*Divide it by 255'),
    (lambda a: dict(images = [image.movedim(0, -1) for image in a['images']]), r'images\[0\]: .*channels seem to come last'),
    (lambda a: dict(images = a['images'][:2]), 'camera_to_world: .*It needs a camera for each photo'),
    (lambda a: dict(cameras = replace(a['cameras'], intrinsics = a['cameras'].intrinsics[:2])), 'intrinsics: .*It needs a camera for each photo'),
    (lambda a: dict(cameras = replace(a['cameras'], camera_to_world = with_nan(a['cameras'].camera_to_world))), 'camera_to_world: must be finite'),
    (lambda a: dict(cameras = replace(a['cameras'], intrinsics = a['cameras'].intrinsics / 50)), r'intrinsics: must be in pixels of images of 16 × 24.*fractions of the image'),
    (lambda a: dict(target_cameras = replace(a['target_cameras'], intrinsics = a['target_cameras'].intrinsics / 50)), r'target_intrinsics: must be in pixels'),
    (lambda a: dict(target_cameras = replace(a['target_cameras'], intrinsics = a['target_cameras'].intrinsics[:1])), 'target_intrinsics: must have shape'),
    (lambda a: dict(target_cameras = replace(a['target_cameras'], camera_to_world = a['target_cameras'].camera_to_world[None])), 'target_camera_to_world: must have shape'),
    (lambda a: dict(size = (16, 0)), r'size: must be \(height, width\)'),
    (lambda a: dict(size = (16.5, 8)), r'size: must be \(height, width\)'),
    (lambda a: dict(input_size = (12, 24)), r'input_size: must be multiples of patch_size 8.*For example \(16, 24\)'),
    (lambda a: dict(chunk_size = 0), 'chunk_size: must be at least 1'),
    (lambda a: dict(pose_frame = 'targets'), 'pose_frame: must be inputs or given'),
])
def test_mistakes_are_named(change, message):
    images, cameras, targets = photos()
    arguments = dict(images = images, cameras = cameras, target_cameras = targets, size = SIZE)
    with pytest.raises(ValueError, match = message):
        synthesize(model_of(), **{**arguments, **change(arguments)})


def test_a_model_of_one_scene_needs_the_frame():
    model = model_of()
    model.trained_for = TrainedFor('scene', SIZE, V)
    images, cameras, targets = photos()
    with pytest.raises(ValueError, match = "pose_frame: must be given for a model whose frame of training is unknown, but got None, and trained_for 'scene'"):
        synthesize(model, images, cameras, targets, SIZE)
    assert synthesize(model, images, cameras, targets, SIZE, pose_frame = 'given').isfinite().all()


def test_with_camera_encoding_views_of_another_shape_are_the_middle_of_one_as_in_training():
    """Intrinsics are normalised by the image's shape, which stays that of training."""
    model = tiny_model(camera_encoding = 'prope', num_depth_planes = 2, max_image_size = 64).eval()
    model.trained_for = TrainedFor('inputs', (32, 32), 2)
    scene = synthetic_scene(2, num_views = 3, image_size = 32)
    photos, asked = scene.views[:2], scene.views[2]

    def see(size):
        height, width = size
        intrinsics = asked.intrinsics.clone()
        intrinsics[:2, 2] = torch.tensor([width / 2, height / 2])
        return synthesize(model, [view.load() for view in photos], cameras_of(photos), Cameras(asked.camera_to_world, intrinsics), size)

    assert (see((20, 32)) - see((32, 32))[:, 6:26]).abs().max() < 1e-5
    assert (see((24, 40)) - see((40, 40))[:, 8:32]).abs().max() < 1e-5
    assert see((24, 64)).shape == (3, 24, 64)

    model.trained_for = None
    assert (see((24, 32)) - see((32, 32))[:, 4:28]).abs().max() > 1e-4
