"""How long exported graphs take beside PyTorch, and how far their views are off: python benchmarks/export.py [--model MODEL] [--graphs DIR] [--threads 2] [--rounds 10]

For each mode, photos are encoded and a view is rendered at the size of training, by PyTorch in eager mode and by onnxruntime on the CPU, in turns. Without
--model, small networks of each mode with random weights, and photos-128. Needs the extras export and train.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import onnxruntime
import torch
from torch import Tensor

from lvsm_pytorch import LVSM, Cameras, plucker_rays
from lvsm_pytorch.inference.export import example_cameras, onnx_files, trace
from lvsm_pytorch.lvsm.pretrained import default_size, num_inputs_of

SMALL = dict(dim = 256, max_image_size = 128, patch_size = 8, depth = 6)
MODES = {
    'paper': {},
    'cached': dict(input_attends_target = False),
    'cached, prope': dict(input_attends_target = False, camera_encoding = 'prope'),
    'cached, colors': dict(input_attends_target = False, num_depth_planes = 16),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument('--model')
    parser.add_argument('--graphs', type = Path, help = 'folder of lvsm export --model MODEL, instead of an export here')
    parser.add_argument('--threads', type = int, default = 2)
    parser.add_argument('--rounds', type = int, default = 10)
    options = parser.parse_args()

    if options.graphs is not None and options.model is None:
        parser.error('--graphs needs --model, of which they are')

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)

    models = {} if options.model else {mode: (lambda arguments = arguments: LVSM(**SMALL, **arguments).eval()) for mode, arguments in MODES.items()}
    name = options.model or 'photos-128'
    models[name] = lambda: LVSM.from_pretrained(name)

    print('| model | encode, ms: PyTorch | onnxruntime | render, ms: PyTorch | onnxruntime | largest difference |')
    print('|---|---|---|---|---|---|')

    for label, make in models.items():
        encode, render, difference = compare(make(), options.graphs, threads = options.threads, rounds = options.rounds)
        print(f'| {label} | {encode[0]:.0f} | {encode[1]:.0f} | {render[0]:.0f} | {render[1]:.0f} | {difference:.1e} |', flush = True)


@torch.no_grad()
def compare(model: LVSM, graphs: Path | None = None, *, threads: int, rounds: int) -> tuple[list[float], list[float], float]:
    """Medians in milliseconds of PyTorch and onnxruntime for encode and for render, and the largest difference of their views."""
    v, size = num_inputs_of(model), default_size(model)
    inputs: dict[str, Tensor] = dict(images = torch.rand(v, model.channels, *size), **example_cameras(v, size))

    if model.plane_sweep.knows_distances:
        inputs['depth_range'] = torch.tensor([1., 5.])

    rows, columns = (torch.arange(length) + 0.5 for length in size)
    targets = dict(example_cameras(2, size), rows = rows, columns = columns)
    targets.update({name: targets[name][:1] for name in ('camera_to_world', 'intrinsics')})
    cameras, target_cameras = (Cameras(each['camera_to_world'], each['intrinsics'])[None] for each in (inputs, targets))
    depth_range = inputs['depth_range'][None] if 'depth_range' in inputs else None

    def encode_by_torch():
        return model.encode(inputs['images'][None], plucker_rays(*cameras, image_size = size), cameras = cameras, depth_range = depth_range)

    def render_by_torch():
        return model.render(encoded, plucker_rays(*target_cameras, image_size = size), cameras = target_cameras)[0]

    encoded = encode_by_torch()
    encode_graph, render_graph = sessions(model, graphs, threads)
    scene = dict(zip((each.name for each in encode_graph.get_outputs()), encode_graph.run(None, numpy(encode_graph, inputs)), strict = True))
    to_render = {**numpy(render_graph, targets), **{each.name: scene[each.name] for each in render_graph.get_inputs() if each.name in scene}}
    difference = float((torch.from_numpy(render_graph.run(None, to_render)[0]) - render_by_torch()).abs().max())
    encode = in_turns([encode_by_torch, lambda: encode_graph.run(None, numpy(encode_graph, inputs))], rounds)
    render = in_turns([render_by_torch, lambda: render_graph.run(None, to_render)], rounds)
    return encode, render, difference


def sessions(model: LVSM, graphs: Path | None, threads: int) -> list[onnxruntime.InferenceSession]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3

    with TemporaryDirectory() as folder:
        if graphs is None:
            graphs = Path(folder)

            for name, content in onnx_files(trace(model)).items():
                (graphs / name).write_bytes(content)

        return [onnxruntime.InferenceSession(graphs / f'{name}.onnx', options, providers = ['CPUExecutionProvider']) for name in ('encode', 'render')]


def numpy(graph: onnxruntime.InferenceSession, tensors: dict[str, Tensor]) -> dict[str, object]:
    return {each.name: tensors[each.name].numpy() for each in graph.get_inputs() if each.name in tensors}


def in_turns(works: list[Callable[[], object]], rounds: int) -> list[float]:
    """Medians in milliseconds, after two turns that do not count."""
    seconds: list[list[float]] = [[] for _ in works]

    for _ in range(rounds + 2):
        for work, taken in zip(works, seconds, strict = True):
            begin = time.perf_counter()
            work()
            taken.append(time.perf_counter() - begin)

    return [1000 * statistics.median(taken[2:]) for taken in seconds]


if __name__ == '__main__':
    main()
