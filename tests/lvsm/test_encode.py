"""A scene is read once and rendered many times, in both modes. The judge of the cacheable mode is the masked full pass."""

from __future__ import annotations

import warnings

import pytest
import torch
from conftest import Malicious, known_views, tiny_model
from einops import rearrange, repeat
from x_transformers import Encoder

from lvsm_pytorch import LVSM, MAE
from lvsm_pytorch.lvsm.encoded import EncodedScene
from lvsm_pytorch.lvsm.views import Views

B, V, T, SIZE = 2, 3, 4, (16, 24)
MODES = [True, False]


def batch(num_targets = T):
    images, rays = known_views(B, V, size = SIZE)
    target_images, target_rays = known_views(B, num_targets, size = SIZE)
    return images, rays, target_rays, target_images


def cacheable(**changes):
    return tiny_model(input_attends_target = False, **changes)


def plain_encoder(model, tokens, mask = None):
    """x_transformers.Encoder with the model's weights, its own loop and its own attention."""
    config = model.config
    flags = dict(attn_flash = False, attn_qk_rmsnorm = True, attn_project_out = True, ff_no_bias = True, norm_add_unit_offset = False, **config['decoder_kwargs'])
    encoder = Encoder(dim = config['dim'], depth = config['depth'], heads = config['heads'], attn_dim_head = config['dim_head'], **flags)
    weights = {}
    for name, weight in model.transformer.state_dict(keep_vars = True).items():
        own = encoder.state_dict()
        if name not in own:
            name = name.removesuffix('weight') + 'gamma'  # their LayerNorm and RMS norms call it so
        weights[name] = weight.expand(config['heads'], -1).unsqueeze(1) - 1 if own[name].ndim == 3 else weight
    return torch.func.functional_call(encoder, weights, (tokens,), dict(attn_mask = mask))


def full_pass(model, images, rays, target_rays, counts = None):
    """All tokens of all views in one sequence through the Encoder as it comes, and a mask: a token attends to valid input views, and a target's tokens also to themselves."""
    inputs = rearrange(model.embed_inputs(Views(rays, images)), 'b v h w d -> b v (h w) d')
    targets = rearrange(model.embed_targets(Views(target_rays)), 'b t h w d -> b t (h w) d')
    v, t, n = inputs.shape[1], targets.shape[1], inputs.shape[2]
    counts = torch.full((len(images),), v) if counts is None else counts

    is_input = torch.arange(v + t) < v
    valid_mask = torch.cat((torch.arange(v) < counts.unsqueeze(1), torch.zeros(len(images), t, dtype = torch.bool)), dim = 1)
    seen = repeat(valid_mask, 'b j -> b i j', i = v + t) | torch.diag(~is_input)
    mask = repeat(seen, 'b i j -> b 1 (i n) (j m)', n = n, m = n)

    tokens = plain_encoder(model, rearrange(torch.cat((inputs, targets), dim = 1), 'b v n d -> b (v n) d'), mask)
    tokens = rearrange(tokens, 'b (v h w) d -> b v h w d', v = v + t, h = images.shape[-2] // model.patch_size)
    return model.decode(tokens[:, v:])


@pytest.mark.parametrize('counts', [None, torch.tensor([1, 3])], ids = ['all', 'ragged'])
@pytest.mark.parametrize('flags', [{}, dict(ff_glu = True, add_value_residual = True, use_rmsnorm = True), dict(attn_kv_heads = 1)], ids = str)
def test_the_cacheable_mode_is_the_masked_full_pass(counts, flags):
    model = cacheable(depth = 3, decoder_kwargs = flags)
    images, rays, target_rays, target_images = batch()

    def gradients(views):
        model.zero_grad()
        (views - target_images).square().mean().backward()
        return [p.grad.clone() for p in model.parameters()]

    expected = full_pass(model, images, rays, target_rays, counts)
    views = model(images, rays, target_rays, num_input_images = counts)
    assert (views - expected).abs().max() < 1e-5
    assert all(torch.allclose(a, b, atol = 1e-5) for a, b in zip(gradients(views), gradients(expected), strict = True))

    scene = model.encode(images, rays, num_images = counts)
    assert (model.render(scene, target_rays) - expected).abs().max() < 1e-5


def test_the_modes_differ_and_share_their_weights():
    paper, other = tiny_model(), cacheable()
    other.load_state_dict(paper.state_dict(), strict = True)
    images, rays, target_rays, _ = batch()
    assert not torch.allclose(paper(images, rays, target_rays), other(images, rays, target_rays), atol = 1e-3)


@pytest.mark.parametrize('mode', MODES)
def test_a_scene_may_be_encoded_in_the_other_mode(mode):
    model, other = tiny_model(input_attends_target = mode), tiny_model(input_attends_target = not mode)
    other.load_state_dict(model.state_dict())
    images, rays, target_rays, _ = batch()
    scene = model.encode(images, rays, input_attends_target = not mode)
    assert torch.equal(model.render(scene, target_rays), other.render(other.encode(images, rays), target_rays))


def test_with_one_layer_the_modes_agree():
    """The target's tokens attend to the same in both modes until inputs have attended to the target: in the second block."""
    paper, other = tiny_model(depth = 1), cacheable(depth = 1)
    other.load_state_dict(paper.state_dict())
    images, rays, target_rays, _ = batch()
    assert torch.allclose(paper(images, rays, target_rays), other(images, rays, target_rays), atol = 1e-5)


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('counts', [None, torch.tensor([2, 1])], ids = ['all', 'ragged'])
def test_encode_and_render_are_forward(mode, counts):
    model = tiny_model(input_attends_target = mode).eval()
    images, rays, target_rays, _ = batch()
    expected = model(images, rays, target_rays, num_input_images = counts)
    scene = model.encode(images, rays, num_images = counts)
    assert torch.allclose(model.render(scene, target_rays), expected, atol = 1e-5)
    assert torch.allclose(model.render(scene, target_rays[:, 1]), expected[:, 1], atol = 1e-5)
    for chunk_size in (1, 3, 99):
        assert torch.allclose(model.render(scene, target_rays, chunk_size = chunk_size), expected, atol = 1e-5)


@pytest.mark.parametrize('mode', MODES)
def test_targets_may_have_another_size(mode):
    model = tiny_model(input_attends_target = mode)
    images, rays, _, _ = batch()
    _, large_rays = known_views(B, 2, size = (32, 8))
    scene = model.encode(images, rays)
    views = model.render(scene, large_rays)
    assert views.shape == (B, 2, 3, 32, 8)
    assert torch.allclose(model.render(scene, large_rays[:, 0]), views[:, 0], atol = 1e-5)


def test_a_scene_costs_its_target_tokens_alone():
    """What render computes in the cacheable mode does not grow with the inputs: the blocks see the target's tokens."""
    model = cacheable()
    lengths = []
    for block in model.transformer.layers:
        block[1].register_forward_pre_hook(lambda module, args: lengths.append(args[0].shape[:2].numel()))
    images, rays, target_rays, _ = batch()
    scene = model.encode(images, rays)
    lengths.clear()
    model.render(scene, target_rays)
    assert set(lengths) == {B * T * SIZE[0] * SIZE[1] // 64}


def test_embeds_of_inputs_are_one_set_in_the_cacheable_mode():
    model = cacheable()
    images, rays, target_rays, _ = batch()
    h, w = SIZE[0] // 8, SIZE[1] // 8
    several = model(images, rays, target_rays, return_embed = True)
    assert several.targets.shape == (B, T, h, w, 32)
    assert several.inputs.shape == (B, V, h, w, 32)
    single = model(images, rays, target_rays[:, 0], return_embed = True)
    assert single.targets.shape == (B, h, w, 32)
    assert torch.allclose(single.inputs, several.inputs, atol = 1e-6)
    assert torch.allclose(model.tokens(images, rays), several.inputs, atol = 1e-5)


def test_in_the_cacheable_mode_nothing_attends_to_a_view_whose_image_is_masked():
    model = cacheable()
    images, rays, _, _ = batch()
    mask = torch.tensor([[False, True, False], [True, False, True]])
    tokens = model.tokens(images, rays, image_mask = mask)
    other_rays = rays.clone()
    other_rays[mask] = torch.randn_like(other_rays[mask])
    changed = model.tokens(images, other_rays, image_mask = mask)
    assert torch.allclose(changed[~mask], tokens[~mask], atol = 1e-6)
    assert not torch.allclose(changed[mask], tokens[mask], atol = 1e-3)

    # a masked view is a target: what forward says of it

    as_target = model(images[:1, [0, 2]], rays[:1, [0, 2]], rays[:1, 1], return_embed = True)
    assert torch.allclose(tokens[:1, 1], as_target.targets, atol = 1e-5)
    assert MAE(model)(images, rays, num_images = torch.tensor([2, 3])).isfinite()


@pytest.mark.parametrize('mode', MODES)
def test_padding_changes_nothing(mode):
    model = tiny_model(input_attends_target = mode)
    images, rays, target_rays, _ = batch()
    counts = torch.tensor([1, 2])
    expected = model.render(model.encode(images, rays, num_images = counts), target_rays)
    images, rays = images.clone(), rays.clone()
    images[0, 1:], rays[1, 2:] = torch.nan, torch.inf
    assert torch.allclose(model.render(model.encode(images, rays, num_images = counts), target_rays), expected, atol = 1e-6)
    alone = model.encode(images[:1, :1], rays[:1, :1])
    assert torch.allclose(model.render(alone, target_rays[:1]), expected[:1], atol = 1e-5)


def tensors(scene):
    return [t for t in (scene.tokens, *(each for layer in scene.keys_values for each in layer)) if t is not None]


@pytest.mark.parametrize('mode', MODES)
def test_a_scene_is_saved_moved_and_cast(mode, tmp_path):
    model = tiny_model(input_attends_target = mode)
    images, rays, target_rays, _ = batch()
    with torch.no_grad():
        scene = model.encode(images, rays, num_images = torch.tensor([1, 3]))
        expected = model.render(scene, target_rays)
        scene.save(tmp_path / 'scene.pt')
        torch.testing.assert_close(model.render(EncodedScene.load(tmp_path / 'scene.pt'), target_rays), expected)

        halved = scene.to(torch.bfloat16)
        assert halved.valid_mask.dtype == torch.bool
        assert tensors(halved)
        assert all(t.dtype == torch.bfloat16 for t in tensors(halved))
        assert all(t.dtype == torch.float32 for t in tensors(halved.to(torch.float32).to('cpu')))
        assert (model.render(halved.to(torch.float32), target_rays) - expected).abs().max() < 0.05
        assert scene.to('meta').valid_mask.device.type == 'meta'


def test_a_scene_is_rendered_in_the_precision_of_the_model():
    model = cacheable()
    images, rays, target_rays, _ = batch()
    with torch.no_grad():
        scene, expected = model.encode(images, rays), model(images, rays, target_rays)
        assert (model.render(scene.to(torch.bfloat16), target_rays) - expected).abs().max() < 0.05
        assert (model.bfloat16().render(scene, target_rays) - expected).abs().max() < 0.1


def test_nothing_attends_to_padding_where_images_are_masked():
    model = cacheable()
    images, rays, _, _ = batch()
    mask = torch.tensor([[False, True, False], [True, False, False]])
    padded = model.tokens(images, rays, image_mask = mask, num_images = torch.tensor([2, 2]))
    alone = model.tokens(images[:, :2], rays[:, :2], image_mask = mask[:, :2])
    assert torch.allclose(padded[:, :2], alone, atol = 1e-5)


def test_a_file_that_is_no_scene_is_refused(tmp_path):
    torch.save(dict(tokens = Malicious(str(tmp_path / 'owned'))), tmp_path / 'bad.pt')
    torch.save(dict(tokens = torch.zeros(1)), tmp_path / 'other.pt')
    for name, message in (('bad.pt', 'Nothing in it was run'), ('other.pt', 'must be a file that EncodedScene.save wrote'), ('missing.pt', 'must be a file that exists')):
        with pytest.raises(ValueError, match = f'path: .*{message}'):
            EncodedScene.load(tmp_path / name)
    assert not (tmp_path / 'owned').exists()


def test_a_saved_model_remembers_its_mode(tmp_path):
    cacheable().save_pretrained(tmp_path)
    assert LVSM.from_pretrained(tmp_path).input_attends_target is False
    assert LVSM.from_pretrained(tmp_path, input_attends_target = True).input_attends_target is True


def test_the_cacheable_mode_in_bfloat16():
    model = cacheable()
    images, rays, target_rays, _ = batch()
    exact = model(images, rays, target_rays)
    with torch.autocast('cpu', torch.bfloat16):
        assert (model(images, rays, target_rays) - exact).abs().max() < 0.05
        assert (model.render(model.encode(images, rays), target_rays) - exact).abs().max() < 0.05


@pytest.mark.slow
def test_the_cacheable_mode_compiles_as_one_graph():
    model = cacheable(depth = 2)
    images, rays, target_rays, target_images = batch()
    counts = torch.tensor([1, 3])
    torch.compiler.reset()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # those of the compiler itself
        compiled = torch.compile(model, fullgraph = True, backend = 'aot_eager')
        assert torch.allclose(compiled(images, rays, target_rays), model(images, rays, target_rays), atol = 1e-5)
        loss = compiled(images, rays, target_rays, target_images, num_input_images = counts)
        assert torch.allclose(loss, model(images, rays, target_rays, target_images, num_input_images = counts), atol = 1e-5)
        loss.backward()


@pytest.mark.parametrize('change, message', [
    (lambda scene, rays: (scene, rays[:, :, :, :12]), 'target_rays: must have height and width that are multiples'),
    (lambda scene, rays: (scene, rays[:1]), 'target_rays: .*batch 2, but got batch 1'),
    (lambda scene, rays: (scene, rays[:, :, :3]), r'target_rays: .*\(b t 6 h w\)'),
    (lambda scene, rays: (rays, rays), 'scene: must be from encode'),
    (lambda scene, rays: (scene._replace(keys_values = ()), rays), 'scene: must be from encode..'),
])
def test_wrong_scenes_and_targets_are_named(change, message):
    model = cacheable()
    images, rays, target_rays, _ = batch()
    with pytest.raises(ValueError, match = message):
        model.render(*change(model.encode(images, rays), target_rays))


def test_wrong_views_and_chunks_are_named():
    model = cacheable()
    images, rays, target_rays, _ = batch()
    with pytest.raises(ValueError, match = 'rays: .*input views'):
        model.encode(images, rays[:, :1])
    with pytest.raises(ValueError, match = 'num_images: must be from 1'):
        model.encode(images, rays, num_images = torch.tensor([0, 1]))
    with pytest.raises(ValueError, match = 'chunk_size: must be at least 1'):
        model.render(model.encode(images, rays), target_rays, chunk_size = 0)
