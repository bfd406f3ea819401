from __future__ import annotations

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from conftest import known_cameras, known_views, random_rotation, tiny_model
from torch import nn

from lvsm_pytorch import LVSM, Cameras, PerceptualLoss, ShapeError
from lvsm_pytorch.geometry.cameras import pose
from lvsm_pytorch.geometry.rays import plucker_rays
from lvsm_pytorch.lvsm.losses import LossBreakdown
from lvsm_pytorch.lvsm.tokens import Embeds
from lvsm_pytorch.lvsm.views import Views

B, V, T, SIZE = 2, 3, 4, (16, 24)


def batch(num_targets = None, **options):
    """Arguments of forward, without target images."""
    images, rays = known_views(B, V, size = SIZE, **options)
    target_images, target_rays = known_views(B, num_targets or 1, size = SIZE, **options)
    if num_targets is None:
        target_images, target_rays = target_images[:, 0], target_rays[:, 0]
    return dict(input_images = images, input_rays = rays, target_rays = target_rays), target_images


# what comes out

def test_views_come_back_in_the_form_of_their_rays():
    model = tiny_model()
    for num_targets, shape in ((None, (B, 3, *SIZE)), (1, (B, 1, 3, *SIZE)), (T, (B, T, 3, *SIZE))):
        inputs, _ = batch(num_targets)
        views = model(**inputs)
        assert views.shape == shape
        assert views.min() >= 0
        assert views.max() <= 1
        assert views.std() > 0.01


def test_several_targets_equal_a_loop_over_one():
    model = tiny_model()
    inputs, _ = batch(T)
    together = model(**inputs)
    one_by_one = [model(**{**inputs, 'target_rays': rays}) for rays in inputs['target_rays'].unbind(dim = 1)]
    assert torch.allclose(together, torch.stack(one_by_one, dim = 1), atol = 1e-5)
    assert not torch.allclose(together[:, 0], together[:, 1], atol = 1e-3)


def test_the_loss_is_the_mean_squared_error():
    model = tiny_model()
    for num_targets in (None, T):
        inputs, target_images = batch(num_targets)
        loss, breakdown = model(**inputs, target_images = target_images, return_loss_breakdown = True)
        assert loss.ndim == 0
        assert torch.allclose(loss, F.mse_loss(model(**inputs), target_images))
        assert torch.equal(model(**inputs, target_images = target_images), loss)
        assert isinstance(breakdown, LossBreakdown)
        assert torch.equal(breakdown.mse, loss)
        assert breakdown.perceptual == 0


def test_embeds_are_final_tokens():
    model = tiny_model()
    h, w = SIZE[0] // 8, SIZE[1] // 8

    inputs, _ = batch()
    targets, embedded = model(**inputs, return_embed = True)
    assert targets.shape == (B, h, w, 32)
    assert embedded.shape == (B, V, h, w, 32)
    torch.testing.assert_close(model.decode(targets), model(**inputs))

    inputs, _ = batch(T)
    embeds = model(**inputs, return_embed = True)
    assert isinstance(embeds, Embeds)
    assert embeds.targets.shape == (B, T, h, w, 32)
    assert embeds.inputs.shape == (B, T, V, h, w, 32)
    assert torch.allclose(model.decode(embeds.targets), model(**inputs), atol = 1e-6)
    assert not torch.allclose(embeds.inputs[:, 0], embeds.inputs[:, 1], atol = 1e-3)  # inputs see their target


def test_tokens_with_a_missing_image_are_the_target():
    model = tiny_model()
    inputs, target_image = batch()
    images = torch.cat((inputs['input_images'], target_image.unsqueeze(1)), dim = 1)
    rays = torch.cat((inputs['input_rays'], inputs['target_rays'].unsqueeze(1)), dim = 1)
    image_mask = torch.tensor([[False] * V + [True]]).expand(B, -1)
    tokens = model.tokens(images, rays, image_mask = image_mask)
    targets, embedded = model(**inputs, return_embed = True)
    assert torch.allclose(tokens[:, -1], targets, atol = 1e-5)
    assert torch.allclose(tokens[:, :-1], embedded, atol = 1e-5)


def test_nothing_of_a_masked_image_or_ray_leaks():
    model = tiny_model()
    images, rays = known_views(B, V, size = SIZE)
    mask = torch.tensor([[True, False, False], [False, False, True]])

    for masked, kept in (('image_mask', rays), ('ray_mask', images)):
        expected = model.tokens(images, rays, **{masked: mask})
        hidden = (images if masked == 'image_mask' else rays).clone()
        hidden[mask] = torch.nan
        other = model.tokens(*((hidden, kept) if masked == 'image_mask' else (kept, hidden)), **{masked: mask})
        assert torch.equal(other, expected)
        assert not torch.allclose(model.tokens(images, rays), expected, atol = 1e-3)
        model.zero_grad()
        other.sum().backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


# what must hold

@pytest.mark.parametrize('num_targets', [None, T])
def test_padded_views_change_nothing(num_targets):
    model = tiny_model()
    inputs, target_images = batch(num_targets)
    counts = torch.tensor([1, 3])

    def gradients(**changes):
        model.zero_grad()
        loss = model(**{**inputs, **changes}, target_images = target_images)
        loss.backward()
        return loss, [p.grad.clone() for p in model.parameters()]

    loss, grads = gradients(num_input_images = counts)
    views = model(**inputs, num_input_images = counts)

    for filler in (0., 1e6, torch.inf, torch.nan):
        padded = {name: inputs[name].clone() for name in ('input_images', 'input_rays')}
        for tensor in padded.values():
            tensor[0, 1:] = filler
        assert torch.allclose(model(**{**inputs, **padded}, num_input_images = counts), views, atol = 1e-6)
        other_loss, other_grads = gradients(**padded, num_input_images = counts)
        assert torch.allclose(other_loss, loss, atol = 1e-6)
        assert all(torch.allclose(a, b, atol = 1e-6) for a, b in zip(other_grads, grads, strict = True))

    # and equal to what a scene without padding gives

    alone = model(**{name: tensor[:1] if name == 'target_rays' else tensor[:1, :1] for name, tensor in inputs.items()})
    assert torch.allclose(views[:1], alone, atol = 1e-6)
    assert not torch.allclose(model(**inputs)[:1], views[:1], atol = 1e-3)


def test_gradients_to_padded_views_are_zero():
    model = tiny_model()
    inputs, _ = batch()
    images = inputs['input_images'].clone().requires_grad_()
    model(**{**inputs, 'input_images': images}, num_input_images = torch.tensor([2, 1])).sum().backward()
    assert images.grad[0, 2:].abs().max() == 0
    assert images.grad[1, 1:].abs().max() == 0
    assert images.grad[0, :2].abs().min() > 0


def test_the_order_of_input_views_changes_nothing():
    model = tiny_model()
    inputs, _ = batch(T)
    order = torch.tensor([2, 0, 1])
    shuffled = {**inputs, **{name: inputs[name][:, order] for name in ('input_images', 'input_rays')}}
    assert torch.allclose(model(**shuffled), model(**inputs), atol = 1e-5)


def test_two_evaluations_agree_exactly():
    model = tiny_model(dropout_input_ray_prob = 0.9).eval()
    inputs, _ = batch(T)
    assert torch.equal(model(**inputs), model(**inputs))


def test_ray_dropout_drops_rays_in_training_alone():
    inputs, _ = batch()
    model = tiny_model(dropout_input_ray_prob = 0.5)
    states = {tuple(model(**inputs).flatten()[:5].tolist()) for _ in range(20)}
    assert len(states) > 3

    # a dropped ray is zeros: the only other states are those of some rays being zero

    inputs['input_rays'] = torch.zeros_like(inputs['input_rays'])
    assert torch.equal(model(**inputs), model(**inputs))
    assert torch.equal(model.eval()(**inputs), model.train()(**inputs))


def test_every_size_up_to_the_largest():
    model = tiny_model(max_image_size = 32)
    for size in ((8, 8), (8, 32), (32, 16), (32, 32)):
        images, rays = known_views(1, 2, size = size)
        assert model(images, rays, rays[:, 0]).shape == (1, 3, *size)


def test_other_numbers_of_channels():
    model = tiny_model(channels = 5)
    inputs, target_images = batch(T, channels = 5)
    assert model(**inputs).shape == (B, T, 5, *SIZE)
    assert model(**inputs, target_images = target_images).isfinite()


def test_cameras_may_travel_along():
    model = tiny_model()
    inputs, _ = batch(T)
    assert torch.equal(model(**inputs, cameras = known_cameras(B, V + T)), model(**inputs))
    with pytest.raises(ShapeError, match = 'camera_to_world'):
        model(**inputs, cameras = known_cameras(B, V))


# the network

KEYS_OF_A_BLOCK = [
    'transformer.layers.0.0.0.weight',
    'transformer.layers.0.1.to_q.weight',
    'transformer.layers.0.1.to_k.weight',
    'transformer.layers.0.1.to_v.weight',
    'transformer.layers.0.1.q_rmsnorm.weight',
    'transformer.layers.0.1.k_rmsnorm.weight',
    'transformer.layers.0.1.to_out.weight',
    'transformer.layers.1.0.0.weight',
    'transformer.layers.1.1.ff.0.0.weight',
    'transformer.layers.1.1.ff.2.weight',
]


def test_the_keys_of_the_weights_stay_as_they_are():
    expected = ['to_input_tokens.weight', 'to_target_tokens.weight', 'norm.weight', *KEYS_OF_A_BLOCK, 'transformer.final_norm.weight', 'to_pixels.weight']
    assert sorted(tiny_model(depth = 1).state_dict()) == sorted(expected)


@pytest.mark.parametrize('heads', [1, 2])
def test_the_shapes_of_the_weights_are_the_papers(heads):
    shapes = {name: tuple(t.shape) for name, t in LVSM(32, max_image_size = 32, patch_size = 4, depth = 1, heads = heads, dim_head = 16).state_dict().items()}
    assert shapes['to_input_tokens.weight'] == (32, 16 * 9)
    assert shapes['to_target_tokens.weight'] == (32, 16 * 6)
    assert shapes['to_pixels.weight'] == (16 * 3, 32)
    assert shapes['transformer.layers.0.1.to_q.weight'] == (16 * heads, 32)
    assert shapes['transformer.layers.0.1.to_out.weight'] == (32, 16 * heads)
    assert shapes['transformer.layers.0.1.q_rmsnorm.weight'] == (16,)
    assert shapes['transformer.layers.1.1.ff.0.0.weight'] == (128, 32)


def test_weights_are_drawn_as_in_the_paper():
    model = LVSM(256, max_image_size = 32, patch_size = 8, depth = 3, decoder_kwargs = {})
    for name, weight in model.named_parameters():
        if weight.ndim == 1:
            assert torch.equal(weight, torch.ones_like(weight)), name
            continue
        block = int(name.split('.')[2]) // 2 if 'layers' in name else None
        std = 0.02 if block is None else 0.02 / (2 * (block + 1)) ** 0.5
        assert weight.std().item() == pytest.approx(std, rel = 0.05), name


def test_weights_round_trip_exactly(tmp_path):
    model, other = tiny_model(), tiny_model()
    inputs, _ = batch()
    assert not torch.allclose(model(**inputs), other(**inputs), atol = 1e-3)
    torch.save(model.state_dict(), tmp_path / 'weights.pt')
    other.load_state_dict(torch.load(tmp_path / 'weights.pt', weights_only = True), strict = True)
    assert all(torch.equal(weight, other.state_dict()[name]) for name, weight in model.state_dict().items())
    torch.testing.assert_close(model(**inputs), other(**inputs))


@pytest.mark.parametrize('flags', [
    dict(ff_glu = True),
    dict(add_value_residual = True),
    dict(use_rmsnorm = True),
    dict(use_rmsnorm = True, add_value_residual = True, ff_glu = True, ff_swish = True),
    dict(attn_qk_rmsnorm = False),
    dict(sandwich_norm = True),
    dict(ff_no_bias = False),
    dict(attn_kv_heads = 1),
])
def test_the_encoders_flags_are_taken(flags):
    plain, model = tiny_model(), tiny_model(decoder_kwargs = flags)
    assert {n: p.shape for n, p in plain.state_dict().items()} != {n: p.shape for n, p in model.state_dict().items()}
    inputs, target_images = batch(T)
    model(**inputs, target_images = target_images).backward()
    counts = torch.tensor([1, 2])
    padded = {**inputs, 'input_images': inputs['input_images'].clone()}
    padded['input_images'][0, 1:] = torch.nan
    assert torch.allclose(model(**padded, num_input_images = counts), model(**inputs, num_input_images = counts), atol = 1e-6)


def test_a_flag_that_zeroes_branches_keeps_them_zero():
    model = LVSM(32, max_image_size = 32, patch_size = 8, depth = 1, dim_head = 16, decoder_kwargs = dict(zero_init_branch_output = True))
    assert model.state_dict()['transformer.layers.0.1.to_out.weight'].abs().max() == 0
    assert model.state_dict()['transformer.layers.0.1.to_q.weight'].abs().max() > 0


def test_decoder_kwargs_are_not_changed():
    flags = dict(ff_glu = True)
    tiny_model(decoder_kwargs = flags)
    assert flags == dict(ff_glu = True)


# precision, compilation

def test_bfloat16_autocast_changes_little():
    model = tiny_model()
    inputs, target_images = batch(T)
    exact, exact_loss = model(**inputs), model(**inputs, target_images = target_images)

    with torch.autocast('cpu', torch.bfloat16):
        views, loss = model(**inputs), model(**inputs, target_images = target_images)
    loss.backward()

    assert views.dtype == loss.dtype == torch.float32
    assert 0 < (views - exact).abs().max() < 0.05
    assert loss.item() == pytest.approx(exact_loss.item(), rel = 0.02)
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_rays_are_read_in_float32_under_autocast():
    model = tiny_model()
    images, rays = known_views(B, V, size = SIZE)
    with torch.autocast('cpu', torch.bfloat16):
        tokens = model.embed_inputs(Views(rays, images)), model.embed_targets(Views(rays))
    assert torch.equal(tokens[0], model.embed_inputs(Views(rays, images)))
    assert torch.equal(tokens[1], model.embed_targets(Views(rays)))


def test_a_model_of_bfloat16_weights():
    model = tiny_model()
    inputs, _ = batch()
    exact = model(**inputs)
    views = model.bfloat16()(**inputs)
    assert views.dtype == torch.float32
    assert 0 < (views - exact).abs().max() < 0.05


def test_float64_inputs_are_taken():
    model = tiny_model()
    inputs, _ = batch()
    assert torch.allclose(model(**{name: t.double() for name, t in inputs.items()}), model(**inputs), atol = 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize('backend', ['aot_eager', 'inductor'])
def test_it_compiles_as_one_graph(backend):
    model = tiny_model(depth = 1)
    inputs, target_images = batch(T)
    counts = torch.tensor([1, 3])

    torch.compiler.reset()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # those of the compiler itself
        compiled = torch.compile(model, fullgraph = True, backend = backend)
        assert torch.allclose(compiled(**inputs), model(**inputs), atol = 1e-5)
        loss = compiled(**inputs, target_images = target_images, num_input_images = counts)
        assert torch.allclose(loss, model(**inputs, target_images = target_images, num_input_images = counts), atol = 1e-5)
        model.zero_grad()
        loss.backward()

    compiled_gradients = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    model(**inputs, target_images = target_images, num_input_images = counts).backward()
    assert all(torch.allclose(a, p.grad, atol = 1e-5) for a, p in zip(compiled_gradients, model.parameters(), strict = True))


# the perceptual loss inside the model

class Gap(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.))

    def forward(self, pred, target):
        return self.weight * (pred - target).abs().mean(dim = (1, 2, 3), keepdim = True)  # one for each image, as lpips.LPIPS has it


def test_a_perceptual_loss_is_weighted_and_added():
    inputs, target_images = batch(T)
    model = tiny_model(perceptual_loss = Gap(), perceptual_loss_weight = 0.25)
    loss, breakdown = model(**inputs, target_images = target_images, return_loss_breakdown = True)
    assert torch.allclose(breakdown.perceptual, 2 * (model(**inputs) - target_images).abs().mean())
    assert torch.allclose(loss, breakdown.mse + 0.25 * breakdown.perceptual)


def test_its_weights_are_no_part_of_the_model():
    gap = Gap().train()
    model = tiny_model(perceptual_loss = gap)
    assert model.loss.perceptual_loss is gap
    assert list(model.state_dict()) == list(tiny_model().state_dict())
    assert all(p is not gap.weight for p in model.parameters())
    assert gap not in list(model.modules())
    assert not gap.weight.requires_grad
    assert not gap.training


def test_it_follows_the_models_device_and_copies():
    """But not to meta, where its weights would be lost."""
    followed = []

    class Follower(Gap):
        def to(self, device):
            followed.append(device)
            return super().to(device)

    model = tiny_model(perceptual_loss = Follower())
    twin = copy.deepcopy(model)
    assert twin.loss.perceptual_loss is not model.loss.perceptual_loss
    followed.clear()
    model.to('cpu')
    assert followed == [torch.device('cpu')]
    model.to('meta')
    assert model.to_pixels.weight.is_meta
    assert model.loss.perceptual_loss.weight.device.type == 'cpu'
    assert twin.bfloat16().loss.perceptual_loss.weight.dtype == torch.float32


def test_the_papers_perceptual_loss_trains_the_model():
    model = tiny_model(perceptual_loss = PerceptualLoss.with_random_weights())
    inputs, target_images = batch(2)
    loss, breakdown = model(**inputs, target_images = target_images, return_loss_breakdown = True)
    loss.backward()
    assert breakdown.perceptual > 0
    assert all(p.grad.abs().max() > 0 for p in model.parameters())


def test_the_papers_perceptual_loss_is_for_three_channels():
    with pytest.raises(ValueError, match = 'perceptual_loss: .*3 channels.*channels = 4'):
        tiny_model(channels = 4, perceptual_loss = PerceptualLoss.with_random_weights())


# it learns

def test_one_scene_is_learnt_to_30_db():
    from lvsm_pytorch.data.synthetic import synthetic_scenes
    from lvsm_pytorch.geometry.normalization import normalize_poses
    from lvsm_pytorch.geometry.rays import plucker_rays

    images, cameras = synthetic_scenes([0], num_views = 8, image_size = 32)
    images, rays = images[0], plucker_rays(normalize_poses(cameras.camera_to_world[0]).inputs, cameras.intrinsics[0], (32, 32))
    model = LVSM(128, max_image_size = 32, patch_size = 8, depth = 4, dim_head = 32)
    optimizer = torch.optim.Adam(model.parameters(), lr = 2e-3)
    generator = torch.Generator().manual_seed(0)
    recent = []

    for _ in range(1000):
        views = torch.stack([torch.randperm(8, generator = generator)[:3] for _ in range(8)])
        inputs, target = views[:, :2], views[:, 2]
        loss = model(images[inputs], rays[inputs], rays[target], images[target])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        recent = [*recent[-9:], loss.item()]
        psnr = -10 * torch.tensor(recent).mean().log10()
        if len(recent) == 10 and psnr > 31:
            break

    assert psnr > 30


# errors

def wrong(change, message, **options):
    return pytest.param(change, message, options, id = message[:40])


@pytest.mark.parametrize('change, message, options', [
    wrong(dict(input_images = torch.rand(B, 3, *SIZE)), r'input_images: must have shape \(b v c h w\), but got 4 axes'),
    wrong(dict(input_images = torch.rand(B, V, 4, *SIZE)), 'input_images: .*channels 3, but got channels 4'),
    wrong(dict(input_images = torch.rand(B, V, *SIZE, 3)), 'input_images: .*channels seem to come last'),
    wrong(dict(input_images = [[1.]]), 'input_images: must be a torch.Tensor, but got list'),
    wrong(dict(input_images = torch.randint(0, 255, (B, V, 3, *SIZE), dtype = torch.uint8)), 'input_images: .*Divide it by 255'),
    wrong(dict(input_images = torch.ones(B, V, 3, *SIZE, dtype = torch.long)), 'input_images: must be floating point'),
    wrong(dict(input_images = torch.rand(B, V + 1, 3, *SIZE)), f'input_rays: .*input views {V + 1}, but got input views {V}'),
    wrong(dict(input_images = torch.rand(B + 1, V, 3, *SIZE)), f'input_rays: .*batch {B + 1}, but got batch {B}'),
    wrong(dict(input_images = torch.rand(B, 0, 3, *SIZE), input_rays = torch.rand(B, 0, 6, *SIZE)), 'input_images: must have at least one view'),
    wrong(dict(input_images = torch.rand(B, V, 3, 12, 24), input_rays = torch.rand(B, V, 6, 12, 24)), 'input_images: .*multiples of patch_size 8.*12 × 24'),
    wrong(dict(input_images = torch.rand(B, V, 3, 8, 24)), 'input_rays: .*height 8, but got height 16'),
    wrong(dict(input_rays = torch.rand(B, V, 3, *SIZE)), r'input_rays: .*\(b v 6 h w\)'),
    wrong(dict(input_rays = torch.rand(B, V, *SIZE, 6)), 'input_rays: .*channels seem to come last'),
    wrong(dict(input_rays = torch.ones(B, V, 6, *SIZE).int()), 'input_rays: must be floating point'),
    wrong(dict(target_rays = torch.rand(B, 6, 8, 24)), 'target_rays: .*height 16, but got height 8'),
    wrong(dict(target_rays = torch.rand(B, 1, 1, 6, *SIZE)), r'target_rays: .*\(b 6 h w\)'),
    wrong(dict(target_rays = torch.rand(B, 0, 6, *SIZE)), 'target_rays: must have at least one view'),
    wrong(dict(target_rays = torch.rand(B + 1, 6, *SIZE)), 'target_rays: .*batch'),
    wrong(dict(target_rays = None), 'target_rays: must be a torch.Tensor'),
    wrong(dict(target_images = torch.rand(B, T, 3, *SIZE)), r'target_images: must have shape \(b c h w\)'),
    wrong(dict(target_rays = torch.rand(B, T, 6, *SIZE), target_images = torch.rand(B, 3, *SIZE)), r'target_images: must have shape \(b t c h w\)'),
    wrong(dict(target_rays = torch.rand(B, T, 6, *SIZE), target_images = torch.rand(B, T + 1, 3, *SIZE)), 'target_images: .*target views 4, but got target views 5'),
    wrong(dict(target_images = torch.zeros(B, 3, *SIZE, dtype = torch.uint8)), 'target_images: .*255'),
    wrong(dict(num_input_images = torch.tensor([0, 1])), r'num_input_images: must be from 1 to the number of views 3, but got \[0, 1\]'),
    wrong(dict(num_input_images = torch.tensor([1, 4])), r'num_input_images: must be from 1 .*\[1, 4\]'),
    wrong(dict(num_input_images = torch.tensor([1., 2.])), 'num_input_images: must be integers'),
    wrong(dict(num_input_images = torch.tensor([1, 2, 3])), 'num_input_images: .*batch 2, but got batch 3'),
    wrong(dict(num_input_images = torch.tensor([[1], [2]])), 'num_input_images: .*2 axes'),
    wrong(dict(num_input_images = 2), 'num_input_images: must be a torch.Tensor'),
])
def test_wrong_inputs_are_named(change, message, options):
    inputs, _ = batch()
    with pytest.raises(ValueError, match = message):
        tiny_model(**options)(**{**inputs, **change})


@pytest.mark.parametrize('change, message', [
    (dict(dim = 0), 'dim: must be an integer of at least 1'),
    (dict(dim = 32.), 'dim: must be an integer'),
    (dict(depth = 0), 'depth: must be'),
    (dict(patch_size = -8), 'patch_size: must be'),
    (dict(channels = 0), 'channels: must be'),
    (dict(dim_head = 64), 'heads: must be .*lower dim_head'),
    (dict(heads = 0), 'heads: must be'),
    (dict(max_image_size = 30), 'max_image_size: must be a multiple of patch_size 8, but got 30'),
    (dict(dropout_input_ray_prob = 1.), 'dropout_input_ray_prob: must be'),
    (dict(dropout_input_ray_prob = -0.1), 'dropout_input_ray_prob: must be'),
    (dict(perceptual_loss = 'vgg'), 'perceptual_loss: must be a module'),
    (dict(perceptual_loss_weight = -1.), 'perceptual_loss_weight: must be'),
    (dict(decoder_kwargs = dict(flash = True)), 'decoder_kwargs: .*flash'),
    (dict(decoder_kwargs = dict(attn_flush = True)), 'decoder_kwargs: .*flush'),
    (dict(decoder_kwargs = dict(ff_gloo = True)), 'decoder_kwargs: .*gloo'),
    (dict(decoder_kwargs = dict(causal = True)), 'decoder_kwargs: .*causal'),
    (dict(decoder_kwargs = dict(depth = 3)), r"decoder_kwargs: .*\['depth'\]"),
])
def test_wrong_constructor_arguments_are_named(change, message):
    with pytest.raises(ValueError, match = message):
        tiny_model(**change)


def test_unknown_arguments_fail():
    with pytest.raises(TypeError, match = 'max_input_images'):
        tiny_model(max_input_images = 32)


@pytest.mark.parametrize('mask, message', [
    (torch.zeros(B, V + 1, dtype = torch.bool), 'image_mask: .*input views'),
    (torch.zeros(B, V), 'image_mask: must be boolean'),
])
def test_wrong_masks_are_named(mask, message):
    with pytest.raises(ValueError, match = message):
        tiny_model().tokens(*known_views(B, V), image_mask = mask)


def test_counts_on_a_device_are_not_read():
    model = tiny_model().to('meta')
    inputs, _ = batch()
    views = model(**{name: t.to('meta') for name, t in inputs.items()}, num_input_images = torch.tensor([0, 9], device = 'meta'))
    assert views.shape == (B, 3, *SIZE)


def test_larger_images_are_taken_with_a_warning():
    """Once: no weight depends on the size."""
    model = tiny_model(max_image_size = 16)
    images, rays = known_views(B, V, size = (16, 24))
    with pytest.warns(UserWarning, match = r'input_images of 16 × 24 are more pixels than those of max_image_size 16'):
        views = model(images, rays, rays)
    other = tiny_model(max_image_size = 32)
    other.load_state_dict(model.state_dict())
    assert torch.equal(model(images, rays, rays), views)
    assert torch.equal(other(images, rays, rays), views)


@pytest.mark.parametrize('options', [dict(camera_encoding = 'prope'), dict(num_depth_planes = 2)])
def test_rays_of_other_cameras_are_noticed(options):
    """Once. Rays of any points of the cameras' own images, and missing ones, are not other rays."""
    cameras = known_cameras(B, V + 1, size = SIZE)
    rays, images = plucker_rays(*cameras, image_size = SIZE), torch.rand(B, V, 3, *SIZE)
    moved, scaled = cameras.camera_to_world.clone(), cameras.camera_to_world.clone()
    moved[:, 1, :3, 3] += 0.2
    scaled[..., :3, 3] *= 2
    halved = cameras.intrinsics.clone()
    halved[..., :2, :] /= 2
    turned = random_rotation() @ cameras.camera_to_world[..., :3, :3]
    for poses, intrinsics in ((moved, cameras.intrinsics), (scaled, cameras.intrinsics), (cameras.camera_to_world, halved), (pose(turned, cameras.camera_to_world[..., :3, 3]), cameras.intrinsics)):
        model = tiny_model(**options)
        with pytest.warns(UserWarning, match = 'rays are not those of the cameras beside them'):
            model(images, rays[:, :V], rays[:, V:], cameras = Cameras(poses, intrinsics))
        model(images, rays[:, :V], rays[:, V:], cameras = Cameras(poses, intrinsics))

    model = tiny_model(**options)
    model(images, rays[:, :V], rays[:, V:], cameras = cameras)
    model.double()(images.double(), rays[:, :V].double(), rays[:, V:].double(), cameras = cameras.to(torch.float64))
    model.encode(images, torch.zeros_like(rays[:, :V]), cameras = cameras[:, :V])
    moved[:, 1:] = torch.nan
    model.float().encode(images, rays[:, :V], torch.ones(B, dtype = torch.long), Cameras(moved, cameras.intrinsics)[:, :V])
    tiny_model()(images, rays[:, :V], rays[:, V:], cameras = Cameras(moved, cameras.intrinsics))    # they are nothing to it


def test_counts_and_masks_may_lie_on_the_cpu():
    """Where the model is on another device: what stays behind is an error there."""
    model = tiny_model().to('meta')
    inputs, _ = batch(T)
    views = model(**{name: t.to('meta') for name, t in inputs.items()}, num_input_images = torch.tensor([1, 3]))
    assert views.shape == (B, T, 3, *SIZE)
    images, rays = (inputs[name].to('meta') for name in ('input_images', 'input_rays'))
    mask = torch.tensor([[True, False, False], [False, False, True]])
    assert model.tokens(images, rays, image_mask = mask, ray_mask = ~mask, num_images = torch.tensor([2, 3])).device.type == 'meta'
