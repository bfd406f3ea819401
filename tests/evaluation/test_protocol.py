"""A scene as the field evaluates it, and what fixed figures don't tell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import tiny_model
from PIL import Image

from lvsm_pytorch.data import cameras_of, synthetic_scene
from lvsm_pytorch.evaluation.index import Entry
from lvsm_pytorch.evaluation.metrics import blurred_mean, copied_input, score
from lvsm_pytorch.evaluation.protocol import Protocol, evaluate_views, lpips_of
from lvsm_pytorch.evaluation.robustness import NUMBERS_OF_INPUTS, by_inputs, context_of, in_moved_worlds
from lvsm_pytorch.geometry.normalization import normalize_poses
from lvsm_pytorch.geometry.rays import plucker_rays
from lvsm_pytorch.lvsm.pretrained import TrainedFor

ENTRY = Entry((1, 8), (3, 5, 6))


def video(num_views = 10, image_size = 24):
    return replace(synthetic_scene(7, num_views = num_views, image_size = image_size), is_video = True)


def protocol(model = None, **changes):
    return Protocol(**{**dict(model = tiny_model().eval() if model is None else model.eval(), size = (16, 16), filter = 'lanczos', frame = 'inputs', chunk_size = 4), **changes})


def poses_of(scene, entry = ENTRY):
    return cameras_of([scene.views[number] for number in (*entry.context, *entry.target)]).camera_to_world.float()


def test_photos_are_cut_as_pixelsplat_cuts_them():
    """Made small by Pillow's Lanczos filter on 8 bits until they cover the square, and then the middle of them."""
    scene = video(image_size = 48)
    wide = replace(scene, views = tuple(replace(view, load = lambda load = view.load: load()[:, 8:40]) for view in scene.views))
    batch = protocol().batch(wide, ENTRY)
    pixels = (wide.views[3].load() * 255).round().byte().permute(1, 2, 0).numpy()
    small = Image.fromarray(pixels).resize((24, 16), Image.Resampling.LANCZOS)
    expected = torch.from_numpy(np.array(small)).permute(2, 0, 1).float()[:, :, 4:20] / 255
    torch.testing.assert_close(batch.target_images[0, 0], expected)
    intrinsics = wide.views[3].intrinsics
    assert torch.allclose(batch.cameras.intrinsics[0, 2], torch.tensor([[0.5, 0, -4], [0, 0.5, 0], [0, 0, 1]]) @ intrinsics)
    assert not torch.allclose(protocol(filter = 'bicubic').batch(wide, ENTRY).target_images, batch.target_images, atol = 1e-3)


def test_inputs_come_first_as_the_index_has_them():
    scene = video(image_size = 16)
    batch = protocol().batch(scene, Entry((8, 1), (5,)))
    images = [scene.views[number].load() for number in (8, 1, 5)]
    found = torch.cat((batch.input_images, batch.target_images), dim = 1)[0]
    assert torch.allclose(found, torch.stack(images))
    assert torch.allclose(batch.target_rays, plucker_rays(*(t[:, 2:] for t in batch.cameras), (16, 16)), atol = 1e-6)


def test_poses_are_normalised_by_the_name():
    scene = video()
    inputs, targets, _ = normalize_poses(poses_of(scene)[:2], poses_of(scene)[2:])
    assert torch.allclose(protocol().batch(scene, ENTRY).cameras.camera_to_world[0], torch.cat((inputs, targets)), atol = 1e-5)
    inputs, targets, _ = normalize_poses(poses_of(scene)[:2], poses_of(scene)[2:], protocol = 'inputs_and_further')
    assert torch.allclose(protocol(frame = 'inputs_and_targets').batch(scene, ENTRY).cameras.camera_to_world[0], torch.cat((inputs, targets)), atol = 1e-5)

    # the unit that a model was trained with, that of its scene, or else that of all photos of a set

    model = tiny_model()
    model.trained_for = TrainedFor('inputs', (16, 16), 2, unit = 3.)
    expected, _, _ = normalize_poses(poses_of(scene)[:2], unit = 3.)
    assert torch.allclose(protocol(model).batch(scene, ENTRY).cameras.camera_to_world[0, :2], expected, atol = 1e-5)

    world = normalize_poses(poses_of(scene)).similarity
    model.trained_for = TrainedFor('scene', (16, 16), 2, world = world.tolist())
    own, _, _ = normalize_poses(poses_of(scene))
    assert torch.allclose(protocol(model, frame = 'scene').batch(scene, ENTRY).cameras.camera_to_world[0], own, atol = 1e-5)

    photos = replace(scene, is_video = False)
    _, of_set, _ = normalize_poses(cameras_of(scene.views).camera_to_world, poses_of(scene)[:2])
    apart = protocol().batch(photos, ENTRY).cameras.camera_to_world[0, :2, :3, 3].diff(dim = 0).norm()
    assert apart == pytest.approx(float(of_set[:, :3, 3].diff(dim = 0).norm()), rel = 1e-4)


@pytest.mark.parametrize('options', [dict(), dict(input_attends_target = False), dict(camera_encoding = 'prope', num_depth_planes = 3)], ids = str)
def test_views_do_not_depend_on_how_many_are_rendered_together(options):
    model = tiny_model(**options)
    batch = protocol(model).batch(video(), ENTRY)
    expected = model(batch.input_images, batch.input_rays, batch.target_rays, cameras = batch.cameras)
    for chunk_size in (1, 2, 9):
        assert (protocol(model, chunk_size = chunk_size).render(batch) - expected).abs().max() < 1e-5


def test_scores_are_per_view():
    batch = protocol().batch(video(), ENTRY)
    pred = torch.rand_like(batch.target_images)
    found = evaluate_views(batch, pred, lambda one, other: [0.5] * len(one))
    assert found['psnr'] == score(pred, batch.target_images).psnr.tolist()
    assert found['ssim'] == score(pred, batch.target_images).ssim.tolist()
    assert found['lpips'] == [0.5] * 3
    assert found['copy_psnr'] == pytest.approx(copied_input(batch).psnr.tolist())
    assert found['copy_ssim'] == pytest.approx(copied_input(batch).ssim.tolist())
    assert found['blur_psnr'] == pytest.approx(blurred_mean(batch).psnr.tolist())
    assert found['blur_ssim'] == pytest.approx(blurred_mean(batch).ssim.tolist())
    assert 'lpips' not in evaluate_views(batch, pred)


def test_lpips_is_torchmetrics(monkeypatch):
    image_metrics = pytest.importorskip('torchmetrics.image.lpip')
    asked = []

    class Network(torch.nn.Module):
        def __init__(self, network, normalize):
            super().__init__()
            asked.append((network, normalize))

        def forward(self, one, other):
            assert one.shape == other.shape == (1, 3, 16, 16)
            return (one - other).abs().mean()

    monkeypatch.setattr(image_metrics, 'LearnedPerceptualImagePatchSimilarity', Network)
    one, other = torch.rand(3, 3, 16, 16), torch.rand(3, 3, 16, 16)
    assert lpips_of('vgg', torch.device('cpu'))(one, other) == pytest.approx((one - other).abs().mean(dim = (1, 2, 3)).tolist())
    assert asked == [('vgg', True)]


def test_where_the_world_is_matters_to_rays_and_not_to_relative_cameras():
    scene = video()
    rays, cameras = (protocol(tiny_model(**options)) for options in (dict(), dict(camera_encoding = 'prope')))
    batch = rays.batch(scene, ENTRY)
    of_rays, of_cameras = (in_moved_worlds(each, batch, each.render(batch)) for each in (rays, cameras))
    assert of_rays['change'] > 1
    assert of_cameras['change'] < 0.01
    assert of_cameras['psnr'] == pytest.approx(of_cameras['psnr_before'], abs = 1e-3)
    assert of_rays == in_moved_worlds(rays, batch, rays.render(batch))


def test_a_moved_world_keeps_its_depth_range():
    one = protocol(tiny_model(camera_encoding = 'prope', num_depth_planes = 4, plane_sweep = 'features'))
    batch = one.batch(video(), ENTRY)._replace(depth_range = torch.tensor([[1.3, 1.5]]))
    assert in_moved_worlds(one, batch, one.render(batch))['change'] < 0.01
    assert (one.render(batch._replace(depth_range = None)) - one.render(batch)).abs().mean() * 256 > 0.1


def test_other_inputs_are_the_nearest_or_the_farthest_from_each_other():
    scene = video(num_views = 24)
    entry = Entry((2, 20), (5, 7))
    contexts = {count: context_of(scene, entry, count) for count in NUMBERS_OF_INPUTS}
    assert len(contexts[1]) == 1
    assert contexts[2] == (2, 20)
    for count, context in contexts.items():
        assert len(set(context)) == count
        assert not set(context) & set(entry.target)
        assert count == 1 or {2, 20} <= set(context)
        assert all(2 <= number <= 20 for number in context)
    assert set(contexts[3]) < set(contexts[4]) < set(contexts[8])
    assert len(context_of(scene, Entry((2, 6), (4,)), 8)) == 4    # there are no more between them
    photos = replace(scene, is_video = False)
    assert len(context_of(photos, Entry((2, 6), (4,)), 8)) == 8

    one = protocol()
    found = by_inputs(one, scene, entry)
    assert list(found) == list(NUMBERS_OF_INPUTS)
    batch = one.batch(scene, entry)
    assert found[2] == pytest.approx(float(score(one.render(batch), batch.target_images).psnr.mean()))
