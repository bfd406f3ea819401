"""Models that see cameras, by attention or along the rays of a new view. Their judges take every pair of tokens and every point, from cameras in the world as they are."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import known_cameras, random_rotation, tiny_model
from einops import rearrange, repeat
from plain_sweep import plain_sweep_volume
from torch.nn import functional as F

from lvsm_pytorch import LVSM, MAE, CameraWrapper, synthesize
from lvsm_pytorch.geometry.cameras import Cameras, move_poses
from lvsm_pytorch.geometry.rays import plucker_rays
from lvsm_pytorch.lvsm.conditioning.plane_sweep import SweepVolume
from lvsm_pytorch.lvsm.encoded import EncodedScene
from lvsm_pytorch.lvsm.wrappers import MAECameraWrapper

B, V, T, SIZE = 2, 3, 2, (16, 24)
MODES = [True, False]

# where a test gives other cameras than those of the rays

other_cameras = pytest.mark.filterwarnings('ignore:rays are not those of the cameras')

# what is conditioned on cameras; of the first two, nothing depends on the world

MODELS = dict(prope = dict(camera_encoding = 'prope'), both = dict(camera_encoding = 'prope', num_depth_planes = 3), sweep = dict(num_depth_planes = 3))
RELATIVE = ['prope', 'both']

# near the border of an image, colours are divided by how much of a pixel is within it

ROUNDING = dict(prope = 1e-5, both = 1e-4, sweep = 1e-4)


def seeing(which, **changes):
    return tiny_model(**MODELS[which], **changes)


def batch(cameras = None):
    """Inputs of forward, and their cameras, inputs first."""
    cameras = known_cameras(B, V + T, size = SIZE) if cameras is None else cameras
    rays = plucker_rays(*cameras, image_size = SIZE)
    torch.manual_seed(1)
    return dict(input_images = torch.rand(B, V, 3, *SIZE), input_rays = rays[:, :V], target_rays = rays[:, V:], cameras = cameras)


def some(cameras, views):
    return cameras[:, views]


# the judges

def pair_matrices(cameras, model):
    """(b n n dim_head dim_head): what stands between a query of token i and a key or value of token j, for tokens of all views in order."""
    dim_head, patch_size = model.config['dim_head'], model.patch_size
    height, width = SIZE
    lifted = torch.eye(4, dtype = torch.float64).repeat(*cameras.intrinsics.shape[:2], 1, 1)
    lifted[..., :3, :3] = cameras.intrinsics.double()
    lifted[..., 0, :3] = lifted[..., 0, :3] / width - 0.5 * lifted[..., 2, :3]
    lifted[..., 1, :3] = lifted[..., 1, :3] / height - 0.5 * lifted[..., 2, :3]
    project = lifted @ torch.linalg.inv(cameras.camera_to_world.double())

    rows, columns = height // patch_size, width // patch_size
    tokens = [(view, row, column) for view in range(project.shape[1]) for row in range(rows) for column in range(columns)]
    half, quarter = dim_head // 2, dim_head // 4
    matrices = torch.zeros(len(project), len(tokens), len(tokens), dim_head, dim_head, dtype = torch.float64)

    for i, (view, row, column) in enumerate(tokens):
        for j, (other, other_row, other_column) in enumerate(tokens):
            between = project[:, view] @ torch.linalg.inv(project[:, other])
            for start in range(0, half, 4):
                matrices[:, i, j, start:start + 4, start:start + 4] = between
            for index in range(quarter):
                away = other_column - column if index < quarter // 2 else other_row - row
                angle = torch.tensor(away * 100. ** (-(index % (quarter // 2)) / (quarter // 2)), dtype = torch.float64)
                a, b = half + index, half + quarter + index
                matrices[:, i, j, a, a] = matrices[:, i, j, b, b] = angle.cos()
                matrices[:, i, j, b, a] = angle.sin()
                matrices[:, i, j, a, b] = -angle.sin()

    return matrices.float()


def queries_keys_values(attention, x):
    q, k, v = (rearrange(to(x), 'b n (h d) -> b h n d', d = attention.dim_head) for to in (attention.to_q, attention.to_k, attention.to_v))
    q, k = (F.rms_norm(t, (attention.dim_head,), norm.weight, 1e-5) for t, norm in ((q, attention.q_rmsnorm), (k, attention.k_rmsnorm)))
    return q, k, v


def attention_by_matrices(attention, x, matrices, seen):
    q, k, v = queries_keys_values(attention, x)
    scores = torch.einsum('b h i d, b i j d e, b h j e -> b h i j', q, matrices, k) * attention.dim_head ** -0.5
    weights = scores.masked_fill(~seen, -torch.inf).softmax(dim = -1)
    out = torch.einsum('b h i j, b i j d e, b h j e -> b h i d', weights, matrices, v)
    return attention.to_out(rearrange(out, 'b h n d -> b n (h d)'))


def attention_by_content(attention, x, nothing, seen):
    q, k, v = queries_keys_values(attention, x)
    return attention.to_out(rearrange(F.scaled_dot_product_attention(q, k, v, attn_mask = seen), 'b h n d -> b n (h d)'))


JUDGES = dict(prope = (pair_matrices, attention_by_matrices), plucker = (lambda cameras, model: None, attention_by_content))


def plain_views(model, input_images, input_rays, target_rays, cameras):
    """One target at a time through all tokens, with a mask where inputs don't see it."""
    def camera_frame(rays, poses):
        """Directions alone, as each camera sees them, where attention sees the rest."""
        if model.camera_encoding == 'plucker':
            return rays
        return torch.einsum('b v i j, b v j h w -> b v i h w', torch.linalg.inv(poses)[..., :3, :3], rays[:, :, :3])

    views = []

    for target in range(T):
        here = some(cameras, [*range(V), V + target])
        pixels = torch.cat((input_images * 2 - 1, camera_frame(input_rays, here.camera_to_world[:, :V])), dim = 2)
        inputs = model.norm(model.to_input_tokens(model.patches(pixels)))
        volume = None
        targets = model.to_target_tokens(model.patches(camera_frame(target_rays[:, target:target + 1], here.camera_to_world[:, V:])))
        if model.num_depth_planes > 0:
            of_inputs, centre = some(here, slice(V)), here.camera_to_world[:, V:, :3, 3]
            sweep = model.plane_sweep
            volume = SweepVolume(*(t.float() for t in plain_sweep_volume(input_images, of_inputs, target_rays[:, target:target + 1, :3], centre, sweep.num_depth_planes, sweep.near_plane)))
            targets = targets + sweep.to_target_tokens(*volume)
        targets = model.norm(targets)
        x = rearrange(torch.cat((inputs, targets), dim = 1), 'b v h w d -> b (v h w) d')
        n = x.shape[1] // (V + 1)
        is_target = torch.arange(x.shape[1]) >= V * n
        seen = torch.ones(len(is_target), len(is_target), dtype = torch.bool) if model.input_attends_target else ~is_target | is_target.unsqueeze(1)
        between, attend = JUDGES[model.camera_encoding]
        geometry = between(here, model)

        for ((attention_norm, *_), attention, _), ((ff_norm, *_), feed_forward, _) in zip(model.transformer.layers[::2], model.transformer.layers[1::2], strict = True):
            x = x + attend(attention, attention_norm(x), geometry, seen)
            x = x + feed_forward(ff_norm(x))

        x = rearrange(model.transformer.final_norm(x)[:, V * n:], 'b (h w) d -> b h w d', h = SIZE[0] // model.patch_size)
        view = model.decode(x).unsqueeze(1)
        views.append(view if volume is None else model.plane_sweep.composite(view, x.unsqueeze(1), volume.colors, volume.share))

    return torch.cat(views, dim = 1)


@pytest.mark.parametrize('which', list(MODELS))
@pytest.mark.parametrize('input_attends_target', MODES)
def test_it_is_attention_that_takes_every_pair_and_every_point_by_itself(which, input_attends_target):
    model, inputs = seeing(which, input_attends_target = input_attends_target), batch()
    weights = torch.randn(B, T, 3, *SIZE)

    def gradients(views):
        model.zero_grad()
        (views * weights).sum().backward()
        return [p.grad.clone() for p in model.parameters()]

    expected, views = plain_views(model, **inputs), model(**inputs)
    assert (views - expected).abs().max() < ROUNDING[which]
    for a, b in zip(gradients(views), gradients(expected), strict = True):
        assert torch.allclose(a, b, atol = 10 * ROUNDING[which] * b.abs().max())


# what it is for

def moved(cameras, far):
    """The same world, turned, and so far from its origin."""
    rotation, direction = random_rotation(dtype = torch.float64), F.normalize(torch.randn(3, dtype = torch.float64), dim = 0)
    move = torch.eye(4, dtype = torch.float64)
    move[:3, :3], move[:3, 3] = rotation, far * direction
    return Cameras(move_poses(move, cameras.camera_to_world.double()).float(), cameras.intrinsics)


@pytest.mark.parametrize('which', RELATIVE)
@pytest.mark.parametrize('input_attends_target', MODES)
@pytest.mark.parametrize('far', [1., 1000.])
def test_moving_the_whole_world_changes_nothing(which, input_attends_target, far):
    cameras = known_cameras(B, V + T, size = SIZE)
    here, there = batch(cameras), batch(moved(cameras, far))
    model = seeing(which, input_attends_target = input_attends_target).eval()
    most = 1e-3 if which == 'both' and far == 1000 else 1e-4  # cameras of so large numbers are off by a thousandth of a pixel, and these images are noise
    assert (model(**here) - model(**there)).abs().max() < most
    plucker = tiny_model(input_attends_target = input_attends_target).eval()
    assert (plucker(**here) - plucker(**there)).abs().max() > 1e-2


@other_cameras
@pytest.mark.parametrize('which', RELATIVE)
def test_a_world_far_from_its_origin_costs_no_digits(which):
    """Where the way there loses none itself."""
    here = known_cameras(B, V + T, size = SIZE)
    here.camera_to_world[..., :3, 3] = (here.camera_to_world[..., :3, 3] * 1024).round() / 1024
    there = replace(here, camera_to_world = here.camera_to_world.clone())
    there.camera_to_world[..., :3, 3] += torch.tensor([1024., -2048., 512.])
    model, inputs = seeing(which).eval(), batch(here)
    torch.testing.assert_close(model(**inputs), model(**{**inputs, 'cameras': there}), atol = 1e-6, rtol = 0)


@other_cameras
@pytest.mark.parametrize('which', list(MODELS))
def test_moving_one_camera_changes_the_view(which):
    model, inputs = seeing(which).eval(), batch()
    other = inputs['cameras'].camera_to_world.clone()
    other[:, 0, :3, 3] += 0.1
    assert (model(**inputs) - model(**{**inputs, 'cameras': Cameras(other, inputs['cameras'].intrinsics)})).abs().max() > 1e-3


@pytest.mark.parametrize('which', RELATIVE)
@pytest.mark.parametrize('input_attends_target', MODES)
def test_cameras_at_one_place_have_nothing_between_them(which, input_attends_target):
    """Wherever that is, and however they zoom alike: then patches alone differ."""
    model = seeing(which, input_attends_target = input_attends_target).eval()
    identical = known_cameras(B, 1, size = SIZE).map(lambda t: repeat(t, 'b 1 ... -> b v ...', v = V + T))
    inputs = batch(identical)
    views = model(**inputs)
    assert (views[:, 0] - views[:, 1]).abs().max() < 1e-6
    swapped = {**inputs, 'input_images': inputs['input_images'].flip(1)}
    assert (views - model(**swapped)).abs().max() < 1e-5


@pytest.mark.parametrize('which', list(MODELS))
def test_one_view(which):
    model, inputs = seeing(which).eval(), batch()
    cameras = some(inputs['cameras'], [0, V])
    view = model(inputs['input_images'][:, :1], inputs['input_rays'][:, :1], inputs['target_rays'][:, 0], cameras = cameras)
    assert view.shape == (B, 3, *SIZE)
    assert view.isfinite().all()


# read once

@pytest.mark.parametrize('which', list(MODELS))
@pytest.mark.parametrize('input_attends_target', MODES)
@pytest.mark.parametrize('counts', [None, torch.tensor([1, 3])], ids = ['all', 'ragged'])
def test_a_scene_is_read_once(which, input_attends_target, counts, tmp_path):
    model, inputs = seeing(which, input_attends_target = input_attends_target).eval(), batch()
    cameras = inputs['cameras']
    expected = model(**inputs, num_input_images = counts)
    scene = model.encode(inputs['input_images'], inputs['input_rays'], counts, some(cameras, slice(V)))
    of_targets = some(cameras, slice(V, None))

    for chunk_size in (None, 1):
        assert (model.render(scene, inputs['target_rays'], cameras = of_targets, chunk_size = chunk_size) - expected).abs().max() < 1e-5

    scene.save(tmp_path / 'scene.pt')
    for again in (EncodedScene.load(tmp_path / 'scene.pt'), scene.to('cpu')):
        one = model.render(again, inputs['target_rays'][:, 1], cameras = of_targets[:, 1])
        assert (one - expected[:, 1]).abs().max() < 1e-5
    halved = scene.to(torch.bfloat16)
    assert all(each is None or each.dtype in (torch.float32, torch.bool) for each in (halved.reference, *(halved.source or {}).values()))


@pytest.mark.parametrize('which', list(MODELS))
@pytest.mark.parametrize('input_attends_target', MODES)
def test_a_view_has_any_size(which, input_attends_target):
    model, inputs = seeing(which, input_attends_target = input_attends_target, max_image_size = 64).eval(), batch()
    scene = model.encode(inputs['input_images'], inputs['input_rays'], cameras = some(inputs['cameras'], slice(V)))
    poses, intrinsics = some(inputs['cameras'], slice(V, None))
    for size in ((8, 8), (32, 64)):
        views = model.render(scene, plucker_rays(poses, intrinsics, size), cameras = Cameras(poses, intrinsics))
        assert views.shape == (B, T, 3, *size)
        assert views.isfinite().all()


# what is missing

@pytest.mark.parametrize('first', [0, 1])
def test_a_view_without_rays_leaks_no_pose(first):
    model, inputs = seeing('prope').eval(), batch()
    cameras = some(inputs['cameras'], slice(V))
    ray_mask = torch.zeros(B, V, dtype = torch.bool)
    ray_mask[:, first] = True

    def tokens(fill):
        poses, intrinsics, rays = (t.clone() for t in (*cameras, inputs['input_rays']))
        if fill is not None:
            poses[:, first], intrinsics[:, first], rays[:, first] = fill, fill, fill
        return model.tokens(inputs['input_images'], rays, ray_mask = ray_mask, cameras = Cameras(poses, intrinsics))

    expected = tokens(None)
    assert expected.isfinite().all()
    for fill in (0., 3., torch.nan):
        assert torch.equal(tokens(fill), expected)
    assert (model.tokens(inputs['input_images'], inputs['input_rays'], cameras = cameras) - expected).abs().max() > 1e-3


@pytest.mark.parametrize('which', list(MODELS))
def test_padded_views_change_nothing(which):
    model, inputs = seeing(which).eval(), batch()
    counts = torch.tensor([2, 2])
    kept = some(inputs['cameras'], [0, 1, *range(V, V + T)])
    expected = model(inputs['input_images'][:, :2], inputs['input_rays'][:, :2], inputs['target_rays'], cameras = kept)
    poses, intrinsics = (t.clone() for t in inputs['cameras'])
    poses[:, 2], intrinsics[:, 2] = torch.nan, 0.
    views = model(**{**inputs, 'cameras': Cameras(poses, intrinsics)}, num_input_images = counts)
    assert (views - expected).abs().max() < ROUNDING[which]


@pytest.mark.parametrize('which', list(MODELS))
def test_views_whose_rays_are_dropped_in_training_leak_no_pose(which):
    model, inputs = seeing(which, dropout_input_ray_prob = 1 - 1e-9).train(), batch()
    poses, intrinsics = (t.clone() for t in inputs['cameras'])
    poses[:, :V], intrinsics[:, :V] = torch.nan, torch.nan
    views = model(**inputs)
    assert views.isfinite().all()
    assert torch.equal(model(**{**inputs, 'cameras': Cameras(poses, intrinsics)}), views)
    assert not torch.allclose(views, model.eval()(**inputs), atol = 1e-3)


# how it runs

@pytest.mark.parametrize('which', list(MODELS))
@pytest.mark.parametrize('input_attends_target', MODES)
def test_checkpointing_changes_nothing(which, input_attends_target):
    inputs = batch()
    torch.manual_seed(0)
    plain = seeing(which, input_attends_target = input_attends_target)
    checkpointed = seeing(which, input_attends_target = input_attends_target, gradient_checkpointing = True)
    checkpointed.load_state_dict(plain.state_dict())
    for model in (plain, checkpointed):
        model(**inputs).square().mean().backward()
    assert all(torch.allclose(a.grad, b.grad, atol = 1e-7) for a, b in zip(plain.parameters(), checkpointed.parameters(), strict = True))


@pytest.mark.slow
@pytest.mark.parametrize('which', list(MODELS))
@pytest.mark.parametrize('input_attends_target', MODES)
def test_it_compiles_as_one_graph(which, input_attends_target):
    model, inputs = seeing(which, input_attends_target = input_attends_target), batch()
    compiled = torch.compile(model, fullgraph = True, backend = 'aot_eager')
    assert (compiled(**inputs) - model(**inputs)).abs().max() < 1e-5


@pytest.mark.parametrize('which', list(MODELS))
def test_bfloat16_changes_little(which):
    model, inputs = seeing(which).eval(), batch()
    expected = model(**inputs)
    with torch.autocast('cpu', torch.bfloat16):
        views = model(**inputs)
    assert 0 < (views - expected).abs().max() < 0.1
    assert model.bfloat16()(**inputs).isfinite().all()


@pytest.mark.parametrize('which', list(MODELS))
def test_float64_is_taken(which):
    model, inputs = seeing(which).eval(), batch()
    expected = model(**inputs)
    doubled = {name: value.to(torch.float64) if name == 'cameras' else value.double() for name, value in inputs.items()}
    assert (model.double()(**doubled) - expected).abs().max() < ROUNDING[which]


@pytest.mark.parametrize('which', list(MODELS))
def test_cameras_can_be_learnt(which):
    model, inputs = seeing(which), batch()
    poses = inputs['cameras'].camera_to_world.requires_grad_()
    model(**{**inputs, 'cameras': Cameras(poses, inputs['cameras'].intrinsics)}).square().mean().backward()
    assert poses.grad.isfinite().all()
    assert (poses.grad[..., :3, 3].abs().sum(dim = -1) > 0).all()


# around it

@pytest.mark.parametrize('which', list(MODELS))
def test_cameras_reach_it_through_the_wrappers(which):
    model, inputs = seeing(which).eval(), batch()
    world_to_camera = torch.linalg.inv(inputs['cameras'].camera_to_world)
    k, r, t = inputs['cameras'].intrinsics, world_to_camera[..., :3, :3], world_to_camera[..., :3, 3]
    views = CameraWrapper(model)(
        input_intrinsic_rotation = k[:, :V], input_extrinsic_rotation = r[:, :V], input_translation = t[:, :V],
        target_intrinsic_rotation = k[:, V:], target_extrinsic_rotation = r[:, V:], target_translation = t[:, V:],
        input_images = inputs['input_images'],
    )
    assert (views - model(**inputs)).abs().max() < ROUNDING[which]

    if model.num_depth_planes > 0:
        return

    mae = MAE(model).eval()
    loss = MAECameraWrapper(mae)(intrinsic_rotation = k[:, :V], extrinsic_rotation = r[:, :V], translation = t[:, :V], images = inputs['input_images'])
    assert torch.allclose(loss, mae(inputs['input_images'], inputs['input_rays'], cameras = some(inputs['cameras'], slice(V))), atol = 1e-5)


@pytest.mark.parametrize('which', list(MODELS))
@pytest.mark.parametrize('input_attends_target', MODES)
def test_views_are_synthesized(which, input_attends_target):
    model, inputs = seeing(which, input_attends_target = input_attends_target).eval(), batch()
    cameras = inputs['cameras'][0]
    photos, asked = (cameras[:V], cameras[V:])
    views = synthesize(model, inputs['input_images'][0], photos, target_cameras = asked, size = SIZE, input_size = SIZE, pose_frame = 'given', chunk_size = 1)
    assert (views - model(**inputs)[0]).abs().max() < 1e-4


@pytest.mark.parametrize('which', list(MODELS))
def test_it_is_saved(which, tmp_path):
    model, inputs = seeing(which).eval(), batch()
    model.save_pretrained(tmp_path)
    again = LVSM.from_pretrained(tmp_path)
    assert again.config == model.config
    torch.testing.assert_close(again(**inputs), model(**inputs))


# mistakes

def test_mistakes_are_named():
    model, inputs = seeing('prope'), batch()
    cameras = inputs.pop('cameras')
    with pytest.raises(ValueError, match = "cameras: must be given to a model with camera_encoding = 'prope', but got None"):
        model(**inputs)
    with pytest.raises(ValueError, match = 'cameras: must be given'):
        model.encode(inputs['input_images'], inputs['input_rays'])
    with pytest.raises(ValueError, match = 'cameras: must be given'):
        MAE(model)(inputs['input_images'], inputs['input_rays'])
    scene = model.encode(inputs['input_images'], inputs['input_rays'], cameras = some(cameras, slice(V)))
    with pytest.raises(ValueError, match = 'cameras: must be given'):
        model.render(scene, inputs['target_rays'])
    with pytest.raises(ValueError, match = 'camera_to_world: must have shape .b views 4 4. with views 2, but got views 5'):
        model.render(scene, inputs['target_rays'], cameras = cameras)
    with pytest.raises(ValueError, match = "scene: must be from encode\\(\\) of a model with camera_encoding = 'plucker'"):
        tiny_model().render(scene, inputs['target_rays'])

    with pytest.raises(ValueError, match = "camera_encoding: must be one of .'plucker', 'prope'., but got 'rope'"):
        tiny_model(camera_encoding = 'rope')
    with pytest.raises(ValueError, match = "dim_head: must be a multiple of 8 with camera_encoding = 'prope', but got 12"):
        tiny_model(camera_encoding = 'prope', dim_head = 12)
    with pytest.raises(ValueError, match = 'decoder_kwargs: must be flags of the feed-forward alone'):
        seeing('prope', decoder_kwargs = dict(add_value_residual = True))

    for which, flags in (('prope', dict(ff_glu = True)), ('both', dict(ff_glu = True)), ('sweep', dict(add_value_residual = True))):
        assert seeing(which, decoder_kwargs = flags)(**inputs, cameras = cameras).isfinite().all()


@pytest.mark.parametrize('which', MODELS)
def test_cameras_and_models_may_be_of_different_precision(which):
    inputs = batch()
    cameras = inputs['cameras'].to(torch.float64)
    model = seeing(which)
    views = model(**inputs)
    assert views.dtype == torch.float32
    precise = model(**{**inputs, 'cameras': cameras})
    assert precise.dtype == torch.float32
    assert (precise - views).abs().max() < ROUNDING[which]
    assert (model(**{**inputs, 'cameras': replace(cameras, intrinsics = inputs['cameras'].intrinsics)}) - views).abs().max() < ROUNDING[which]
    scene = model.encode(inputs['input_images'], inputs['input_rays'], cameras = some(cameras, slice(V)))
    assert (model.render(scene, inputs['target_rays'], cameras = some(inputs['cameras'], slice(V, None))) - views).abs().max() < ROUNDING[which]
    assert (model.double()(**inputs) - views).abs().max() < ROUNDING[which]
