"""`lvsm export`: exports a model for other runtimes, as ONNX, torch.export programs or AOTInductor packages."""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

import lvsm_pytorch.geometry.scene_scale as rule_of_scale
from lvsm_pytorch.configs.export import ExportConfig
from lvsm_pytorch.errors import fail
from lvsm_pytorch.files import check_free, make_folder, write_json, write_whole
from lvsm_pytorch.inference.graphs import KEYS, SOURCE, VALUES, EncodeGraph, RenderGraph
from lvsm_pytorch.lvsm.conditioning.feature_sweep import CELL
from lvsm_pytorch.lvsm.model import LVSM
from lvsm_pytorch.lvsm.pretrained import default_size, num_inputs_of

ENCODE, RENDER, WEIGHTS, DESCRIPTION = 'encode', 'render', 'weights.bin', 'export.json'

# GridSample needs opset 16, Resize with the semantics of torch 18. From 23 on attention is one operator, which runs on the CPU if it has a mask or a cache

OPSET = 18

# constants of geometry/scene_scale.py, written to export.json, to estimate unit and depth range of photos without Python

RULE_OF_SCALE = (
    'IMAGE_SIZE', 'WINDOW', 'NUM_DISTANCES', 'DISTANCES', 'MAX_NEIGHBORS', 'BEST_NEIGHBORS', 'MAX_REFERENCES', 'MIN_CORRELATION', 'MIN_VARIANCE', 'MARGIN',
    'NOISE', 'MIN_WEIGHT', 'MARGIN_OF_PLANES', 'UNIT_OF_NEAR', 'NEAR_PLANE', 'QUANTILE',
)

# minimum number of elements of a weight that is stored in the file of weights, and cast to half precision; alignment in that file in bytes

MIN_EXTERNAL_SIZE = 256
ALIGNMENT = 64

# sizes of the traced example: numbers of views, and heights and widths in patches. All are dynamic, which requires them to differ from each other and from 1

INPUTS, INPUT_PATCHES = 3, (2, 3)
TARGETS, TARGET_PATCHES = 2, (4, 5)


class Graph(NamedTuple):
    """A traced graph.

    Attributes:
        program: Program of torch.export.
        inputs: Names of the inputs, in order.
        outputs: Names of the outputs, in order.
    """
    program: ExportedProgram
    inputs: list[str]
    outputs: list[str]


def export(config: ExportConfig) -> list[Path]:
    """Writes the graphs of a model and export.json, which describes them, and returns the files.

    Raises:
        ValueError: If the folder has no model, the model can't be traced, options contradict each other, or files would be replaced.
        ImportError: If a package that the format needs is not installed.
    """
    if config.float16 and config.format != 'onnx':
        fail('float16', "must be left out with another format than 'onnx'", config.format, 'Or export to ONNX.')

    if config.format == 'onnx':
        onnx_library()

    names = ['encode.onnx', 'render.onnx', WEIGHTS] if config.format == 'onnx' else ['encode.pt2', 'render.pt2']
    files = [config.out / name for name in (*names, DESCRIPTION)]

    if not (config.overwrite and files[-1].is_file()):
        check_free(files)

    model = LVSM.from_pretrained(config.model)
    graphs = trace(model, padded = config.padded)
    make_folder(config.out)

    for name, write in writers(graphs, config).items():
        write_whole(config.out / name, write)

    write_json(files[-1], dict(
        format = config.format,
        model = model.config,
        trained_for = None if model.trained_for is None else model.trained_for._asdict(),
        input_size = default_size(model),
        num_inputs = num_inputs_of(model),
        scene_scale = {name.lower(): getattr(rule_of_scale, name) for name in RULE_OF_SCALE},
        **{name: dict(file = file.name, inputs = graph.inputs, outputs = graph.outputs) for (name, graph), file in zip(graphs.items(), files[:2], strict = True)},
    ))
    print(f'{config.out} has {", ".join(f"{file.name} ({file.stat().st_size / 1e6:.1f} MB)" for file in files)}')
    return files


def writers(graphs: Mapping[str, Graph], config: ExportConfig) -> dict[str, Callable[[Path], object]]:
    """Returns functions that write the files of the format, by file name."""
    if config.format == 'onnx':
        return {name: partial(write_bytes, content = content) for name, content in onnx_files(graphs, float16 = config.float16).items()}

    write = write_program if config.format == 'torch' else write_package
    return {f'{name}.pt2': partial(write, program = graph.program) for name, graph in graphs.items()}


def write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def write_program(path: Path, program: ExportedProgram) -> None:
    torch.export.save(program, path)


def write_package(path: Path, program: ExportedProgram) -> None:
    from torch._inductor import aoti_compile_and_package

    with quietly():
        aoti_compile_and_package(program, package_path = str(path))


# tracing

@torch.no_grad()
def trace(model: LVSM, *, padded: bool = False) -> dict[str, Graph]:
    """Traces the graphs `encode` and `render` (`EncodeGraph`, `RenderGraph`) in the model's mode, for any numbers of input views and target views, heights and widths.

    Args:
        model: Model in eval mode, on the CPU.
        padded: Add the input `num_images`.

    Raises:
        ValueError: If the Encoder of x-transformers runs its own forward (`decoder_kwargs`).
    """
    if model.transformer.runs_itself:
        fail('decoder_kwargs', 'must be flags of the feed-forward alone (ff_...) for an export', model.config['decoder_kwargs'], 'Other flags leave the blocks to x-transformers, which cannot be traced.')

    patch = model.patch_size
    v, t = Dim('v'), Dim('t')
    input_patches, patches = (Dim('input_rows'), Dim('input_columns')), (Dim('rows'), Dim('columns'))
    input_size, size = (tuple(patch * count for count in counts) for counts in (INPUT_PATCHES, TARGET_PATCHES))
    inputs: dict[str, Tensor] = dict(images = torch.rand(INPUTS, model.channels, *input_size), **example_cameras(INPUTS, input_size))

    if model.plane_sweep.knows_distances:
        inputs['depth_range'] = torch.tensor([1., 4.])

    if padded:
        inputs['num_images'] = torch.tensor(INPUTS - 1)

    height, width = (patch * count for count in input_patches)
    dynamic = dict(images = {0: v, 2: height, 3: width}, camera_to_world = {0: v}, intrinsics = {0: v}, depth_range = {}, num_images = {})
    encode = EncodeGraph(model).eval()
    scene = encode(**inputs)
    encode_program = traced(encode, inputs, {name: dynamic[name] for name in inputs})

    cameras = example_cameras(TARGETS, size)
    rows, columns = (torch.arange(length) + 0.5 for length in size)
    targets = dict(scene = scene, **cameras, rows = rows, columns = columns)
    dynamic_targets = dict(
        scene = {name: dynamic_axes(name, patch, v, input_patches) for name in scene},
        camera_to_world = {0: t}, intrinsics = {0: t}, rows = {0: patch * patches[0]}, columns = {0: patch * patches[1]},
    )
    render_program = traced(RenderGraph(model).eval(), targets, dynamic_targets)
    return {ENCODE: Graph(encode_program, list(inputs), list(scene)), RENDER: Graph(render_program, [*scene, *list(targets)[1:]], ['views'])}


def example_cameras(count: int, size: tuple[int, ...]) -> dict[str, Tensor]:
    height, width = size
    camera_to_world = torch.eye(4).repeat(count, 1, 1)
    camera_to_world[:, 0, 3] = torch.linspace(-0.5, 0.5, count)
    return dict(camera_to_world = camera_to_world, intrinsics = torch.tensor([[1.2 * width, 0., width / 2], [0., 1.2 * width, height / 2], [0., 0., 1.]]).repeat(count, 1, 1))


def dynamic_axes(name: str, patch: int, v: Any, patches: tuple[Any, Any]) -> dict[int, Any]:
    """Returns the axes of a tensor of an encoded scene whose lengths are dynamic."""
    rows, columns = patches

    if name.startswith((KEYS, VALUES)):
        return {2: Dim.DYNAMIC}

    if name in ('tokens', 'pose'):
        return {1: v, 2: rows, 3: columns}

    if name == 'valid_mask':
        return {1: Dim.DYNAMIC}

    # what is looked up, at a part of the resolution

    if name in (f'{SOURCE}images', f'{SOURCE}fine'):
        return {1: v, 3: patch * rows, 4: patch * columns}

    if name == f'{SOURCE}coarse':
        return {1: v, 3: patch // CELL * rows, 4: patch // CELL * columns}

    return {} if name in ('reference', f'{SOURCE}inverse_range', f'{SOURCE}blurred') else {1: v}


def traced(graph: torch.nn.Module, inputs: Mapping[str, Any], dynamic: Mapping[str, Any]) -> ExportedProgram:
    with quietly():
        return torch.export.export(graph, (), dict(inputs), dynamic_shapes = dict(dynamic), strict = False)


# ONNX

def onnx_library() -> Any:
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError('ONNX needs onnx and onnxscript: pip install "lvsm-pytorch[export]"') from error

    return onnx


def onnx_files(graphs: Mapping[str, Graph], *, float16: bool = False) -> dict[str, bytes]:
    """Returns the contents of the files by name: NAME.onnx for each graph, and weights.bin with the weights of all graphs without duplicates.

    Args:
        graphs: Graphs by name.
        float16: Store weights in half precision, with a cast to float32 before they are used.
    """
    weights = Weights()
    files = {f'{name}.onnx': weights.taken_from(onnx_model(graph), float16 = float16).SerializeToString() for name, graph in graphs.items()}
    return {**files, WEIGHTS: bytes(weights.content)}


def onnx_model(graph: Graph) -> Any:
    """Converts a graph to an onnx.ModelProto."""
    onnx_library()

    with quietly():
        program = torch.onnx.export(graph.program, dynamo = True, opset_version = OPSET, input_names = graph.inputs, output_names = graph.outputs, verbose = False)

    assert program is not None
    return program.model_proto


class Weights:
    """Content of the file of weights (ONNX external data)."""

    def __init__(self):
        self.content = bytearray()
        self.places: dict[bytes, int] = {}

    def taken_from(self, proto: Any, *, float16: bool) -> Any:
        """Moves the larger weights of an onnx.ModelProto to the file, and returns it."""
        onnx = onnx_library()
        most = torch.finfo(torch.float16).max
        casts = []

        for weight in proto.graph.initializer:
            values = onnx.numpy_helper.to_array(weight)

            if values.size < MIN_EXTERNAL_SIZE:
                continue

            # values beyond the range of half precision stay in float32

            if float16 and values.dtype == 'float32' and abs(values).max() <= most:
                casts.append(onnx.helper.make_node('Cast', [f'{weight.name}_float16'], [weight.name], to = onnx.TensorProto.FLOAT, name = f'{weight.name}_cast'))
                weight.CopyFrom(onnx.numpy_helper.from_array(values.astype('float16'), f'{weight.name}_float16'))

            raw = onnx.numpy_helper.to_array(weight).tobytes()
            weight.ClearField('raw_data')
            weight.data_location = onnx.TensorProto.EXTERNAL
            del weight.external_data[:]

            for key, value in dict(location = WEIGHTS, offset = self.place_of(raw), length = len(raw)).items():
                weight.external_data.add(key = key, value = str(value))

        # metadata of nodes contains the paths of source files on this machine

        for node in proto.graph.node:
            node.ClearField('metadata_props')
            node.ClearField('doc_string')

        nodes = [*casts, *proto.graph.node]
        del proto.graph.node[:]
        proto.graph.node.extend(nodes)
        return proto

    def place_of(self, raw: bytes) -> int:
        """Returns the position of these bytes in the file, and adds them if they are new."""
        digest = hashlib.sha256(raw).digest()

        if digest not in self.places:
            self.content.extend(bytes(-len(self.content) % ALIGNMENT))
            self.places[digest] = len(self.content)
            self.content.extend(raw)

        return self.places[digest]


@contextmanager
def quietly() -> Iterator[None]:
    """Silences messages of exporters about their internals and about packages that are not used."""
    logger = logging.getLogger('torch.onnx')
    level = logger.level
    logger.setLevel(logging.ERROR)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logger.setLevel(level)
