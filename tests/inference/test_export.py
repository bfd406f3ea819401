"""Exported graphs beside the model that they are of."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from conftest import tiny_model

from lvsm_pytorch import Cameras, plucker_rays
from lvsm_pytorch.configs.export import ExportConfig
from lvsm_pytorch.geometry import orbit_poses
from lvsm_pytorch.inference import export as exporting
from lvsm_pytorch.inference.export import MIN_EXTERNAL_SIZE, export, onnx_files, trace
from lvsm_pytorch.inference.graphs import einsum_by_sums, inverse_of_3x3, scene_of_tensors, scene_tensors, search_by_counting

pytest.importorskip('onnx')
pytest.importorskip('onnxscript')
ort = pytest.importorskip('onnxruntime')

GUIDE = Path(__file__).parents[2] / 'docs' / 'guides' / 'export.md'
CACHED = dict(input_attends_target = False)
MODES = {
    'paper': {},
    'cached, padded': CACHED,
    'prope': dict(camera_encoding = 'prope'),
    'cached prope, padded': dict(camera_encoding = 'prope', **CACHED),
    'colors': dict(num_depth_planes = 3),
    'cached colors, padded': dict(num_depth_planes = 3, **CACHED),
    'features': dict(num_depth_planes = 5, plane_sweep = 'features'),
    'cached features and prope': dict(num_depth_planes = 5, plane_sweep = 'features', camera_encoding = 'prope', **CACHED),
}

# input views, of which so many are valid, and their size; target views, and their size: ones and others than those that are traced

SIZES = [(4, 3, (16, 24), 2, (32, 40)), (2, 1, (24, 8), 1, (8, 24)), (1, 1, (16, 16), 3, (16, 16)), (5, 4, (32, 16), 4, (24, 32))]


def random_model(**arguments):
    """Whose weights are larger than those of training's begin, so that all of its parts show."""
    model = tiny_model(max_image_size = 64, **arguments).eval()

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn(parameter.shape, generator = torch.Generator().manual_seed(parameter.numel())) * 0.7 * parameter[0].numel() ** -0.5)

    return model


def some_cameras(count, size, *, phase = 0.):
    """On a part of a circle around a scene."""
    height, width = size
    poses = orbit_poses(12, target = torch.zeros(3), radius = 2., up = torch.tensor([0., -1., 0.3]))
    poses = poses[[(5 * number + round(phase)) % 12 for number in range(count)]]
    return dict(camera_to_world = poses, intrinsics = torch.tensor([[1.1 * width, 0., 0.45 * width], [0., 1.3 * width, 0.55 * height], [0., 0., 1.]]).repeat(count, 1, 1))


def by_model(model, inputs, targets, num_images):
    """Views (t c h w), by the public contract."""
    input_cameras, target_cameras = (Cameras(each['camera_to_world'], each['intrinsics'])[None] for each in (inputs, targets))
    size, target_size = inputs['images'].shape[-2:], (len(targets['rows']), len(targets['columns']))
    depth_range = inputs['depth_range'][None] if 'depth_range' in inputs else None

    with torch.no_grad():
        scene = model.encode(inputs['images'][None], plucker_rays(*input_cameras, image_size = size), num_images, input_cameras, depth_range)
        return model.render(scene, plucker_rays(*target_cameras, image_size = target_size), cameras = target_cameras)[0]


def session(path):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(path, options, providers = ['CPUExecutionProvider'])


def run(graph, tensors):
    """Tensors by name, of those that the graph has kept."""
    kept = {each.name for each in graph.get_inputs()}
    names = [each.name for each in graph.get_outputs()]
    outputs = graph.run(names, {name: tensor.numpy() for name, tensor in tensors.items() if name in kept})
    return {name: torch.from_numpy(each) for name, each in zip(names, outputs, strict = True)}


def case(model, views, size, num_targets, target_size):
    generator = torch.Generator().manual_seed(views)
    inputs = dict(images = torch.rand(views, 3, *size, generator = generator), **some_cameras(views, size))

    if model.plane_sweep.knows_distances:
        inputs['depth_range'] = torch.tensor([1., 5.] if views % 2 == 0 else [0.7, torch.inf])

    rows, columns = (torch.arange(length) + 0.5 for length in target_size)
    return inputs, dict(some_cameras(num_targets, target_size, phase = 1), rows = rows, columns = columns)


def in_onnxruntime(model, folder, *, padded):
    """The graphs of a model, encode and render."""
    for name, content in onnx_files(trace(model, padded = padded)).items():
        (folder / name).write_bytes(content)

    return [session(folder / f'{name}.onnx') for name in ('encode', 'render')]


@pytest.mark.slow
@pytest.mark.parametrize('mode', MODES)
def test_onnxruntime_gives_the_views_of_pytorch(mode, tmp_path):
    """For other numbers of views and other sizes than were traced; padding may hold anything."""
    model, padded = random_model(**MODES[mode]), 'padded' in mode
    encode, render = in_onnxruntime(model, tmp_path, padded = padded)

    for views, valid, size, num_targets, target_size in SIZES:
        inputs, targets = case(model, views, size, num_targets, target_size)
        expected = by_model(model, inputs, targets, torch.tensor([valid]) if padded else None)

        if padded:
            inputs['images'][valid:] = torch.nan
            inputs['num_images'] = torch.tensor(valid)

        found = run(render, {**run(encode, inputs), **targets})['views']
        assert found.shape == expected.shape
        assert expected.std() > 0.02
        assert (found - expected).abs().max() < 1e-4


def test_tensors_of_a_scene_come_back_by_name():
    model = tiny_model(camera_encoding = 'prope', num_depth_planes = 2, **CACHED).eval()
    inputs, _ = case(model, 2, (16, 16), 1, (16, 16))
    cameras = Cameras(inputs['camera_to_world'], inputs['intrinsics'])[None]
    scene = model.encode(inputs['images'][None], plucker_rays(*cameras, image_size = (16, 16)), cameras = cameras)
    again = scene_of_tensors(scene_tensors(scene))
    assert scene_tensors(scene).keys() == scene_tensors(again).keys()
    assert all(torch.equal(first, second) for first, second in zip(scene_tensors(scene).values(), scene_tensors(again).values(), strict = True))
    assert again.tokens is None
    assert again.valid_mask is None


@pytest.mark.parametrize('equation, shapes', [
    ('...ij,...jk,...khw->...ihw', [(2, 5, 3, 3), (2, 5, 3, 3), (3, 4, 6)]),
    ('nchw,ncehw->nehw', [(2, 3, 4, 5), (2, 3, 6, 4, 5)]),
    ('bvij,btvj,e->bvtei', [(1, 2, 3, 3), (1, 4, 2, 3), (7,)]),
    ('ij,j->i', [(3, 4), (4,)]),
])
def test_einsum_by_sums_is_einsum(equation, shapes):
    operands = [torch.randn(shape) for shape in shapes]
    torch.testing.assert_close(einsum_by_sums(equation, *operands), torch.einsum(equation, *operands))


def test_inverse_of_3x3_is_the_inverse():
    matrix = torch.randn(4, 2, 3, 3, dtype = torch.float64)
    torch.testing.assert_close(inverse_of_3x3(matrix)[0], torch.linalg.inv(matrix))


def test_search_by_counting_is_searchsorted():
    reached = torch.rand(5, 7).cumsum(dim = -1)
    values = torch.cat((torch.rand(5, 9) * reached[:, -1:], reached[:, 2:3]), dim = -1)
    assert torch.equal(search_by_counting(reached, values), torch.searchsorted(reached, values))


def by_the_guide(folder, inputs, targets):
    """Views by the program of the guide, which has no PyTorch."""
    program, = re.findall(r'^```python\n(.*?)^```', GUIDE.read_text(encoding = 'utf-8'), re.MULTILINE | re.DOTALL)
    names = {}
    exec(compile(program, str(GUIDE), 'exec'), names)
    photos, cameras = ({name: tensor.numpy() for name, tensor in tensors.items() if name not in ('rows', 'columns')} for tensors in (inputs, targets))
    return torch.from_numpy(names['render_views'](folder, photos, cameras, (len(targets['rows']), len(targets['columns']))))


@pytest.fixture
def saved(tmp_path):
    model = random_model(**CACHED)
    model.save_pretrained(tmp_path / 'model')
    return model, tmp_path


@pytest.mark.slow
def test_the_command_writes_what_it_describes(saved, capsys):
    model, folder = saved
    config = ExportConfig(model = folder / 'model', out = folder / 'out', float16 = True)
    files = export(config)
    assert [file.name for file in files] == ['encode.onnx', 'render.onnx', 'weights.bin', 'export.json']
    assert 'encode.onnx' in capsys.readouterr().out
    description = json.loads(files[-1].read_text(encoding = 'utf-8'))
    encode, render = (session(folder / 'out' / description[name]['file']) for name in ('encode', 'render'))

    for name, graph in dict(encode = encode, render = render).items():
        assert {each.name for each in graph.get_inputs()} <= set(description[name]['inputs'])
        assert [each.name for each in graph.get_outputs()] == description[name]['outputs']

    # nothing of this machine is in the graphs

    assert not any(b'lvsm_pytorch/' in file.read_bytes() for file in files[:2])

    # weights are there once, in half precision

    assert files[2].stat().st_size < 1.1 * 2 * sum(parameter.numel() for parameter in model.parameters())
    inputs, targets = case(model, 3, (16, 16), 2, (16, 24))
    found = run(render, {**run(encode, inputs), **targets})['views']
    assert (found - by_the_guide(folder / 'out', inputs, targets)).abs().max() < 1e-5

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.numel() >= MIN_EXTERNAL_SIZE:
                parameter.copy_(parameter.half())

    assert (found - by_model(model, inputs, targets, None)).abs().max() < 1e-4

    # what is there is not replaced unasked

    with pytest.raises(ValueError, match = 'no files that would be replaced'):
        export(config)

    (folder / 'out' / 'render.onnx').write_bytes(b'')
    export(ExportConfig(model = folder / 'model', out = folder / 'out', overwrite = True))
    assert (folder / 'out' / 'render.onnx').stat().st_size > 1000


@pytest.mark.slow
def test_torch_export_gives_the_same_views(saved):
    model, folder = saved
    files = export(ExportConfig(model = folder / 'model', out = folder / 'out', format = 'torch'))
    encode, render = (torch.export.load(file).module() for file in files[:2])
    inputs, targets = case(model, 4, (24, 16), 3, (16, 24))
    found = render(scene = encode(**inputs), **targets)
    assert (found - by_model(model, inputs, targets, None)).abs().max() < 1e-5


@pytest.mark.slow
@pytest.mark.skipif(shutil.which('g++') is None, reason = 'AOTInductor compiles C++')
def test_an_aot_package_gives_the_same_views(saved):
    model, folder = saved
    files = export(ExportConfig(model = folder / 'model', out = folder / 'out', format = 'aot-inductor'))
    encode, render = (torch._inductor.aoti_load_package(str(file)) for file in files[:2])
    inputs, targets = case(model, 4, (24, 16), 3, (16, 24))
    found = render(scene = encode(**inputs), **targets)
    assert (found - by_model(model, inputs, targets, None)).abs().max() < 1e-4


def test_errors_say_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match = 'float16: must be left out'):
        export(ExportConfig(out = tmp_path / 'out', format = 'torch', float16 = True))

    with pytest.raises(ValueError, match = 'decoder_kwargs'):
        trace(tiny_model(decoder_kwargs = dict(attn_gate_values = True)).eval())

    def missing():
        raise ImportError('ONNX needs onnx and onnxscript: pip install "lvsm-pytorch[export]"')

    monkeypatch.setattr(exporting, 'onnx_library', missing)

    with pytest.raises(ImportError, match = r'lvsm-pytorch\[export\]'):
        export(ExportConfig(out = tmp_path / 'out'))

    assert not (tmp_path / 'out').exists()
