from __future__ import annotations

import inspect
import json
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from conftest import Malicious, full_disk, known_cameras, tiny_model
from plain_lvsm import plain_lvsm, plain_rays, random_weights
from safetensors.torch import load_file

from lvsm_pytorch import LVSM, plucker_rays
from lvsm_pytorch.lvsm.official import read_official, to_official
from lvsm_pytorch.lvsm.pretrained import TrainedFor
from lvsm_pytorch.lvsm.sizes import SIZES

CASES = ('small', 'multi')


def intrinsics_of(fxfycxcy):
    fx, fy, cx, cy = fxfycxcy.unbind(dim = -1)
    zero, one = torch.zeros_like(fx), torch.ones_like(fx)
    return torch.stack((fx, zero, cx, zero, fy, cy, zero, zero, one), dim = -1).unflatten(-1, (3, 3))


def golden(shared, name):
    folder = shared / 'golden'
    return json.loads((folder / f'{name}.json').read_text()), load_file(folder / f'{name}.io.safetensors'), folder / f'{name}.pt'


# the authors' network

@pytest.mark.parametrize('name', CASES)
def test_rays_equal_the_authors(shared, name):
    sizes, io, _ = golden(shared, name)
    rays = plucker_rays(io['c2w'], intrinsics_of(io['fxfycxcy']), (sizes['height'], sizes['width']))
    origin, direction = (torch.cat((io[f'input_ray_{part}'], io[f'target_ray_{part}']), dim = 1) for part in 'od')
    assert (rays[:, :, :3] - direction).abs().max() < 1e-5
    assert (rays[:, :, 3:] - torch.linalg.cross(origin, direction, dim = 2)).abs().max() < 1e-5


@pytest.mark.parametrize('name', CASES)
def test_renders_equal_the_authors(shared, name):
    sizes, io, path = golden(shared, name)
    model = LVSM.from_official(path, max_image_size = 64)
    rays = plucker_rays(io['c2w'], intrinsics_of(io['fxfycxcy']), (sizes['height'], sizes['width']))
    v = sizes['num_input_views']
    inputs = (io['image'][:, :v], rays[:, :v], rays[:, v:])
    with torch.no_grad():
        assert (model(*inputs) - io['render']).abs().max() < 1e-6
        assert abs(model(*inputs, io['image'][:, v:]) - io['mse']) < 1e-5


@pytest.mark.parametrize('name', CASES)
def test_the_plain_reference_equals_the_authors(shared, name):
    sizes, io, path = golden(shared, name)
    weights = torch.load(path, weights_only = True)['model']
    v = sizes['num_input_views']
    for b in range(len(io['image'])):
        rays = [plain_rays(io['c2w'][b, i], io['fxfycxcy'][b, i], sizes['height'], sizes['width']) for i in range(v + sizes['num_target_views'])]
        for t in range(sizes['num_target_views']):
            view = plain_lvsm(weights, io['image'][b, :v], rays[:v], rays[v + t], sizes['patch_size'])
            assert (view - io['render'][b, t]).abs().max() < 1e-4


# the library against the plain reference

SHAPES = [
    dict(dim = 64, dim_head = 32, depth = 2, patch_size = 8, size = (16, 16), v = 2, t = 1),
    dict(dim = 64, dim_head = 64, depth = 3, patch_size = 8, size = (16, 24), v = 1, t = 2),    # one head
    dict(dim = 96, dim_head = 32, depth = 1, patch_size = 4, size = (12, 8), v = 3, t = 3),
    dict(dim = 128, dim_head = 64, depth = 2, patch_size = 16, size = (16, 48), v = 4, t = 1),
    dict(dim = 40, dim_head = 8, depth = 4, patch_size = 4, size = (4, 16), v = 2, t = 2),
    dict(dim = 32, dim_head = 32, depth = 2, patch_size = 8, size = (8, 8), v = 5, t = 1),
]


def random_case(case):
    weights = random_weights(**{name: case[name] for name in ('dim', 'dim_head', 'depth', 'patch_size')})
    height, width = case['size']
    cameras = known_cameras(2, case['v'] + case['t'], size = case['size'])
    images = torch.rand(2, case['v'] + case['t'], 3, height, width)
    k = cameras.intrinsics
    fxfycxcy = torch.stack((k[..., 0, 0], k[..., 1, 1], k[..., 0, 2], k[..., 1, 2]), dim = -1)
    plain = [[plain_rays(cameras.camera_to_world[b, i], fxfycxcy[b, i], height, width) for i in range(images.shape[1])] for b in range(2)]
    return weights, images, plucker_rays(*cameras, image_size = case['size']), plain


def plain_views(weights, images, plain, case):
    v = case['v']
    return torch.stack([torch.stack([plain_lvsm(weights, images[b, :v], plain[b][:v], plain[b][v + t], case['patch_size']) for t in range(case['t'])]) for b in range(2)])


@pytest.mark.parametrize('case', SHAPES, ids = str)
def test_views_and_gradients_equal_the_plain_reference(case):
    weights, images, rays, plain = random_case(case)
    v = case['v']
    model = LVSM.from_official(weights, max_image_size = 48)
    assert model.dim == case['dim']
    assert model.patch_size == case['patch_size']

    views = model(images[:, :v], rays[:, :v], rays[:, v:])
    leaves = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    expected = plain_views(leaves, images, plain, case)
    assert (views - expected).abs().max() < 1e-4
    assert expected.std() > 0.05

    (expected - images[:, v:]).square().mean().backward()
    model(images[:, :v], rays[:, :v], rays[:, v:], images[:, v:]).backward()

    # gradients, named as weights are, in the authors' layout

    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.grad)

    for name, gradient in to_official(model).items():
        assert (gradient - leaves[name].grad).norm() < 1e-4 * leaves[name].grad.norm(), name


def test_the_reference_notices_small_mistakes():
    """What would be wrong in a nearly right network: the reference differs by far more than is allowed."""
    case = SHAPES[0]
    weights, images, rays, plain = random_case(case)
    expected = plain_views(weights, images, plain, case)

    def difference(model, images, rays):
        return (model(images[:, :2], rays[:, :2], rays[:, 2:]) - expected).abs().max()

    model = LVSM.from_official(weights)
    assert difference(model, images, rays) < 1e-4
    assert difference(model, images, torch.cat((rays[:, :, 3:], rays[:, :, :3]), dim = 2)) > 1e-2    # moment before direction
    assert difference(model, images, plucker_rays(*known_cameras(2, 3, size = case['size']), case['size'])) > 1e-2
    model.transformer.layers[0][1].q_rmsnorm.eps = 1e-2
    assert difference(model, images, rays) > 1e-4


# checkpoints

def test_a_round_trip_is_exact():
    weights = random_weights(dim = 64, dim_head = 32, depth = 2, patch_size = 4)
    back = to_official(LVSM.from_official(weights))
    assert sorted(back) == sorted(weights)
    assert all(torch.equal(back[name], weights[name]) for name in weights)


def test_a_trained_model_round_trips_exactly():
    model = tiny_model()
    images, rays = torch.rand(1, 3, 3, 16, 16), torch.randn(1, 3, 6, 16, 16)
    optimizer = torch.optim.AdamW(model.parameters(), lr = 1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        model(images[:, :2], rays[:, :2], rays[:, 2], images[:, 2]).backward()
        optimizer.step()
    other = LVSM.from_official(to_official(model), max_image_size = 32)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict = True))
    torch.testing.assert_close(model(images, rays, rays[:, 2]), other(images, rays, rays[:, 2]))


def test_files_and_their_wrappings(tmp_path):
    weights = random_weights(dim = 32, dim_head = 16, depth = 1, patch_size = 8)
    wrapped = {f'module.{name}': weight for name, weight in weights.items()} | {'module.loss_computer.perceptual.vgg.weight': torch.zeros(3)}
    torch.save(dict(model = wrapped, optimizer = {}, param_update_step = 7), tmp_path / 'checkpoint.pt')
    torch.save(weights, tmp_path / 'bare.pt')
    for source in (tmp_path / 'checkpoint.pt', str(tmp_path / 'bare.pt'), weights, dict(model = wrapped)):
        model = LVSM.from_official(source)
        assert torch.equal(model.to_pixels.weight, weights['image_token_decoder.1.weight'])
        assert model.max_image_size == 256
        assert not model.training
        assert model(torch.rand(1, 1, 3, 64, 256), torch.randn(1, 1, 6, 64, 256), torch.randn(1, 6, 64, 256)).shape == (1, 3, 64, 256)


def test_a_checkpoint_never_runs_code(tmp_path):
    torch.save(dict(model = random_weights(dim = 32, dim_head = 16, depth = 1, patch_size = 8), extra = Malicious(str(tmp_path / 'owned'))), tmp_path / 'bad.pt')
    with pytest.raises(ValueError, match = 'checkpoint: .*Nothing in it was run'):
        LVSM.from_official(tmp_path / 'bad.pt')
    assert not (tmp_path / 'owned').exists()


def changed(**changes):
    weights = random_weights(dim = 32, dim_head = 16, depth = 2, patch_size = 8)
    for name, value in changes.items():
        name = name.replace('__', '.')
        if value is None:
            del weights[name]
        else:
            weights[name] = value
    return weights


@pytest.mark.parametrize('weights, message', [
    (changed(transformer_blocks__1__norm2__weight = None), r"missing \['transformer_blocks.1.norm2.weight'\], unknown \[\]"),
    (changed(extra__weight = torch.zeros(1)), r"unknown \['extra.weight'\]"),
    (changed(transformer_blocks__0__attn__fc__bias = torch.zeros(32)), r"unknown \['transformer_blocks.0.attn.fc.bias'\]"),
    (changed(image_token_decoder__0__weight = torch.zeros(31)), r'misshapen \[.image_token_decoder.0.weight: \(31,\) for \(32,\)'),
    (changed(target_pose_tokenizer__1__weight = None), r"missing \['target_pose_tokenizer.1.weight'\]"),
    (changed(n_light_field_latent = torch.zeros(4, 32)), 'decoder-only LVSM, which this library is, but got one of the encoder-decoder'),
    ({f'transformer_encoder.{i}.norm1.weight': torch.zeros(3) for i in range(2)}, 'encoder-decoder'),
    ({}, 'missing'),
    (dict(model = 3), 'state dict'),
    ('no/such/file.pt', 'checkpoint: must be a file'),
])
def test_other_checkpoints_are_refused(weights, message):
    with pytest.raises(ValueError, match = message):
        LVSM.from_official(weights)


def test_a_broken_file_is_refused(tmp_path):
    (tmp_path / 'text.pt').write_text('no checkpoint')
    with pytest.raises(ValueError, match = 'checkpoint: must be a file of tensors'):
        read_official(tmp_path / 'text.pt')


@pytest.mark.parametrize('options, message', [
    (dict(channels = 4), 'channels = 4'),
    (dict(input_attends_target = False), 'input_attends_target = False'),
    (dict(camera_encoding = 'prope'), "camera_encoding = 'prope'"),
    (dict(num_depth_planes = 2), 'num_depth_planes = 2'),
    (dict(decoder_kwargs = dict(ff_glu = True, add_value_residual = True)), r"\['add_value_residual', 'ff_glu'\]"),
    (dict(decoder_kwargs = dict(ff_swish = True)), 'ff_swish'),
])
def test_what_the_layout_cannot_express_is_listed(options, message):
    with pytest.raises(ValueError, match = f"model: must be the paper's network .*{message}"):
        to_official(tiny_model(**options))


def test_what_is_not_of_the_network_may_differ():
    assert to_official(tiny_model(decoder_kwargs = dict(attn_flash = False, ff_dropout = 0.1)))


# models on disk

def inputs(size = (16, 16), v = 2):
    return torch.rand(1, v, 3, *size), torch.randn(1, v, 6, *size), torch.randn(1, 6, *size)


def test_a_saved_model_comes_back_exactly(tmp_path):
    model = tiny_model(decoder_kwargs = dict(ff_glu = True, add_value_residual = True), channels = 3, dropout_input_ray_prob = 0.25).eval()
    model.trained_for = TrainedFor('inputs', (16, 16), 2, unit = 3.)
    model.save_pretrained(tmp_path / 'new' / 'model')
    assert sorted(p.name for p in (tmp_path / 'new' / 'model').iterdir()) == ['config.json', 'model.safetensors']

    other = LVSM.from_pretrained(tmp_path / 'new' / 'model')
    views = inputs()
    torch.testing.assert_close(other(*views), model(*views))
    assert other.config == model.config
    assert other.trained_for == model.trained_for
    assert not other.training


def test_a_saved_model_may_be_read_by_whom_any_new_file_may(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    (tmp_path / 'any').touch()
    assert {path.stat().st_mode for path in tmp_path.iterdir()} == {(tmp_path / 'any').stat().st_mode}


def test_a_broken_trained_for_is_named(tmp_path):
    model = tiny_model()
    model.trained_for = TrainedFor('inputs', (16, 16), 2)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / 'config.json').read_text())
    del config['trained_for']['num_inputs']
    (tmp_path / 'config.json').write_text(json.dumps(config))
    with pytest.raises(ValueError, match = 'folder_or_hub_id: must have .*num_inputs.* in trained_for'):
        LVSM.from_pretrained(tmp_path)


def test_the_format_stays_readable(tmp_path):
    """A folder as version 1 writes it, spelt out: later versions must read it."""
    model = tiny_model(depth = 1)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / 'config.json').read_text())
    assert config == dict(
        model_type = 'lvsm',
        format_version = 1,
        model = dict(dim = 32, max_image_size = 32, patch_size = 8, depth = 1, heads = 2, dim_head = 16, channels = 3, dropout_input_ray_prob = 0., perceptual_loss_weight = 0.5, decoder_kwargs = {}, input_attends_target = True, camera_encoding = 'plucker', num_depth_planes = 0, near_plane = 0.5, plane_sweep = 'colors', image_loss = 'mse', ssim_loss_weight = 0., depth_loss_weight = 0.05),
        trained_for = None,
    )
    assert sorted(load_file(tmp_path / 'model.safetensors')) == sorted(model.state_dict())


def test_weights_fit_any_resolution(tmp_path):
    """Nothing has a fixed size but the patch: saved at one, fine-tuned at another."""
    tiny_model(max_image_size = 16).save_pretrained(tmp_path)
    model = LVSM.from_pretrained(tmp_path, max_image_size = 64).train()
    images, rays, target_rays = inputs((64, 40))
    model(images, rays, target_rays, torch.rand(1, 3, 64, 40)).backward()
    assert all(p.grad.abs().max() > 0 for p in model.parameters())
    with pytest.warns(UserWarning, match = 'max_image_size 16'):
        LVSM.from_pretrained(tmp_path)(images, rays, target_rays)


@pytest.mark.parametrize('views, message', [
    (inputs((16, 16), 5), 'inputs 5, trained with 2'),
    (inputs((48, 16), 2), 'height 48, trained with 16'),
    (inputs((16, 48), 1), 'width 48, trained with 16'),
])
def test_use_far_from_training_warns_once(views, message):
    model = tiny_model(max_image_size = 64).eval()
    model(*views)
    model.trained_for = TrainedFor('inputs', (16, 16), 2)
    model(*inputs((32, 8), 4))
    with pytest.warns(UserWarning, match = message):
        model(*views)
    model(*views)
    assert model.trained_for is not None


def test_use_at_much_less_than_in_training_warns_too():
    for views, message in ((inputs((8, 32), 4), 'height 8, trained with 32'), (inputs((32, 32), 1), 'inputs 1, trained with 4')):
        model = tiny_model(max_image_size = 64).eval()
        model.trained_for = TrainedFor('inputs', (32, 32), 4)
        with pytest.warns(UserWarning, match = message):
            model(*views)


def test_fine_tuning_far_away_does_not_warn():
    model = tiny_model(max_image_size = 64).train()
    model.trained_for = TrainedFor('inputs', (16, 16), 2)
    model(*inputs((64, 64), 7))


def write_config(folder, **changes):
    config = json.loads((folder / 'config.json').read_text())
    (folder / 'config.json').write_text(json.dumps({**config, **changes}))


def test_broken_folders_are_named(tmp_path):
    model = tiny_model(depth = 1)
    model.save_pretrained(tmp_path)

    write_config(tmp_path, model = {**model.config, 'dim': 48})
    with pytest.raises(ValueError, match = r'weights: must have the keys and shapes .*misshapen \[.to_input_tokens.weight: \(32, 576\) for \(48, 576\)'):
        LVSM.from_pretrained(tmp_path)
    write_config(tmp_path, model = {**model.config, 'depth': 2})
    with pytest.raises(ValueError, match = r"missing \['transformer.layers.2"):
        LVSM.from_pretrained(tmp_path)
    write_config(tmp_path, model = model.config, format_version = 2)
    with pytest.raises(ValueError, match = 'format_version up to 1, but got 2. Update'):
        LVSM.from_pretrained(tmp_path)
    write_config(tmp_path, format_version = 1, model_type = 'bert')
    with pytest.raises(ValueError, match = 'config of an LVSM'):
        LVSM.from_pretrained(tmp_path)
    write_config(tmp_path, model_type = 'lvsm')
    (tmp_path / 'model.safetensors').write_bytes(b'half a file')
    with pytest.raises(ValueError, match = 'model.safetensors: must be a safetensors file'):
        LVSM.from_pretrained(tmp_path)
    (tmp_path / 'model.safetensors').unlink()
    with pytest.raises(ValueError, match = r"folder_or_hub_id: .* without \['model.safetensors'\]"):
        LVSM.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match = 'folder_or_hub_id: must be an existing folder, one of .*, or a hub id'):
        LVSM.from_pretrained(tmp_path / 'nowhere')


def test_models_of_the_hub(tmp_path, monkeypatch):
    model = tiny_model()
    model.save_pretrained(tmp_path)
    asked = []

    def hf_hub_download(repo_id, filename, **options):
        asked.append((repo_id, filename, options))
        return str(tmp_path / filename)

    monkeypatch.setitem(sys.modules, 'huggingface_hub', SimpleNamespace(hf_hub_download = hf_hub_download))
    other = LVSM.from_pretrained('somebody/lvsm', revision = 'v1', max_image_size = 64)
    assert torch.equal(other.to_pixels.weight, model.to_pixels.weight)
    assert other.max_image_size == 64
    assert [(repo, name) for repo, name, _ in asked] == [('somebody/lvsm', 'config.json'), ('somebody/lvsm', 'model.safetensors')]
    assert all(options['revision'] == 'v1' for *_, options in asked)

    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    with pytest.raises(ImportError, match = r'lvsm-pytorch\[hub\]'):
        LVSM.from_pretrained('somebody/lvsm')


def test_what_json_cannot_say_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match = 'decoder_kwargs: must be plain values'):
        tiny_model(decoder_kwargs = dict(ff_custom_activation = torch.nn.Tanh())).save_pretrained(tmp_path / 'model')
    assert not (tmp_path / 'model').exists()


def test_a_save_onto_a_full_disk_leaves_the_old_model(tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path)
    with full_disk(10_000), pytest.raises(OSError, match = 'model.safetensors: must be written completely'):
        tiny_model().save_pretrained(tmp_path)
    assert torch.equal(LVSM.from_pretrained(tmp_path).to_pixels.weight, model.to_pixels.weight)
    assert not list(tmp_path.glob('.*'))


@pytest.mark.slow
def test_a_killed_save_leaves_a_whole_model(tmp_path):
    """A process that does nothing but save is killed at any moment; what lies there can always be read."""
    program = f"""
import sys
from lvsm_pytorch import LVSM
model = LVSM(128, max_image_size = 32, patch_size = 8, depth = 6)
model.save_pretrained({str(tmp_path)!r})
print('saving', flush = True)
while True:
    model.save_pretrained({str(tmp_path)!r})
"""
    with subprocess.Popen([sys.executable, '-W', 'ignore', '-c', program], stdout = subprocess.PIPE, text = True) as process:
        assert process.stdout.readline() == 'saving\n'
        for _ in range(10):
            time.sleep(0.03)
            LVSM.from_pretrained(tmp_path)
        process.kill()
    LVSM.from_pretrained(tmp_path)


# sizes by name

def test_the_papers_sizes():
    with torch.device('meta'):
        counts = {name: sum(p.numel() for p in LVSM.from_size(name).parameters()) for name in SIZES}
    assert counts['paper-256'] == counts['paper-512'] == pytest.approx(24 * 12 * 768 ** 2, rel = 0.01)    # attention 4 d², feed-forward 8 d²; the rest is small
    assert counts['paper-6-layers'] < counts['paper-12-layers'] < counts['paper-18-layers'] < counts['paper-256']
    assert LVSM.from_size('tiny', depth = 1).config['depth'] == 1
    with pytest.raises(ValueError, match = "name: must be one of .*'paper-256'.*, but got 'huge'"):
        LVSM.from_size('huge')


# where weights are, and of which type

@pytest.mark.parametrize('argument', ['dtype', 'torch_dtype'])
def test_weights_are_read_into_a_type_and_onto_a_device(tmp_path, argument):
    model = tiny_model().eval()
    model.save_pretrained(tmp_path)
    assert (model.dtype, model.device) == (torch.float32, torch.device('cpu'))
    half = LVSM.from_pretrained(tmp_path, device = 'cpu', **{argument: torch.bfloat16})
    assert half.dtype == torch.bfloat16
    assert all(weight.dtype == torch.bfloat16 for weight in half.parameters())
    images, rays, target_rays = torch.rand(1, 2, 3, 16, 16), plucker_rays(*known_cameras(1, 2, size = (16, 16)), (16, 16)), plucker_rays(*known_cameras(1, size = (16, 16)), (16, 16))
    view = half(images, rays, target_rays)
    assert (view.float() - model(images, rays, target_rays)).abs().max() < 0.05
    assert LVSM.from_pretrained(tmp_path, device = 'auto').device.type in ('cpu', 'cuda', 'mps')
    assert LVSM.from_pretrained(tmp_path, device = torch.device('meta')).device.type == 'meta'


def test_a_type_that_comes_twice_and_a_device_that_is_none_are_named(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match = 'torch_dtype: must be omitted if dtype is given'):
        LVSM.from_pretrained(tmp_path, dtype = torch.float16, torch_dtype = torch.float16)
    with pytest.raises(ValueError, match = 'device'):
        LVSM.from_pretrained(tmp_path, device = 'nonsense')


def test_what_is_pushed_to_the_hub_is_what_is_saved(tmp_path, monkeypatch):
    calls = {}

    class HfApi:
        def __init__(self, token):
            calls['token'] = token

        def create_repo(self, repo_id, **options):
            calls['create'] = repo_id, options
            return SimpleNamespace(repo_id = f'me/{repo_id}')

        def upload_folder(self, *, repo_id, folder_path, **options):
            calls['upload'] = repo_id, options
            shutil.copytree(folder_path, tmp_path / 'uploaded')
            return f'https://huggingface.co/{repo_id}'

    monkeypatch.setitem(sys.modules, 'huggingface_hub', SimpleNamespace(HfApi = HfApi))
    model = tiny_model()
    assert model.push_to_hub('lvsm', private = True, token = 'secret', commit_message = 'first', dtype = torch.float16) == 'https://huggingface.co/me/lvsm'
    assert calls == dict(token = 'secret', create = ('lvsm', dict(private = True, exist_ok = True)), upload = ('me/lvsm', dict(commit_message = 'first', revision = None)))
    assert load_file(tmp_path / 'uploaded' / 'model.safetensors')['to_pixels.weight'].dtype == torch.float16
    assert (LVSM.from_pretrained(tmp_path / 'uploaded').to_pixels.weight - model.to_pixels.weight).abs().max() < 1e-2
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    with pytest.raises(ImportError, match = r'lvsm-pytorch\[hub\]'):
        model.push_to_hub('lvsm')


def test_the_hubs_own_client_takes_the_calls():
    """Of the installed huggingface_hub, without calling it."""
    hub = pytest.importorskip('huggingface_hub')
    inspect.signature(hub.HfApi.create_repo).bind(None, 'lvsm', private = None, exist_ok = True)
    inspect.signature(hub.HfApi.upload_folder).bind(None, repo_id = 'lvsm', folder_path = '.', commit_message = 'LVSM', revision = None)
    inspect.signature(hub.HfApi).bind(token = None)
