"""The `lvsm` command: parses arguments and calls one function.

In every command, `--model` is a model, `--data` a dataset, `--index` an evaluation index, `--out` the output folder, and no argument is positional.
"""

from __future__ import annotations

import codecs
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path

from lvsm_pytorch.configs.demo import DemoConfig
from lvsm_pytorch.configs.evaluate import EvaluateConfig
from lvsm_pytorch.configs.export import ExportConfig
from lvsm_pytorch.configs.pose import PoseConfig
from lvsm_pytorch.configs.render import RenderConfig
from lvsm_pytorch.configs.train import TrainConfig
from lvsm_pytorch.configs.view import ViewConfig
from lvsm_pytorch.configs.yaml import CONFIG, load_config, load_run_config


def import_official(*, checkpoint: Path, out: Path, max_image_size: int = 256) -> Callable[[], None]:
    """Convert a decoder-only checkpoint of the LVSM authors for LVSM.from_pretrained. Its licence is non-commercial.

    Args:
        checkpoint: File of the authors.
        out: Folder for config.json and model.safetensors.
        max_image_size: Largest height and width of an image, in pixels.
    """
    def run() -> None:
        from lvsm_pytorch.lvsm.model import LVSM
        from lvsm_pytorch.lvsm.official import LICENSE

        model = LVSM.from_official(checkpoint.expanduser(), max_image_size = max_image_size)
        model.save_pretrained(out.expanduser())
        print(f'{out} has a model with {", ".join(f"{name} {model.config[name]}" for name in ("dim", "depth", "heads", "patch_size"))}. {LICENSE}')

    return run


def pose_photos(*, data: Path, out: Path, options: PoseConfig = PoseConfig()) -> Callable[[], object]:  # noqa: B008, which is frozen
    """Estimate the poses of photos or of a video, and write a COLMAP model that the other commands read. The same command resumes an interrupted run.

    Args:
        data: A folder of photos, or a video.
        out: A new folder for images, sparse/0 and cameras.png, or one that this command wrote.
    """
    def run() -> object:
        from lvsm_pytorch.evaluation.pose import pose

        return pose(data, out, options)

    return run


def inspect_cameras(*, data: Path, out: Path = Path('lvsm-inspect'), scenes: int = 8, pairs: int = 12, pose: bool = False) -> Callable[[], object]:
    """Summarize a dataset, check its cameras against its images, and plot them.

    Args:
        data: Posed photos in any format that `lvsm train --data` takes.
        out: Folder for cameras.png: the cameras with thumbnails from the side and from above, and epipolar lines of a pair of photos.
        scenes: Maximum number of scenes to inspect, spread over the dataset.
        pairs: Maximum number of pairs of photos to match in a scene.
        pose: For photos without poses, or a video: estimate their poses first, as `lvsm pose` does, into a new folder beside them.
    """
    def run() -> object:
        from lvsm_pytorch.evaluation.inspection import inspect
        from lvsm_pytorch.files import make_folder

        folder = out.expanduser()
        make_folder(folder)
        return inspect(data.expanduser(), folder / 'cameras.png', scenes = scenes, pairs = pairs, pose = pose)

    return run


def pack_scenes(*, data: tuple[Path, ...], out: Path, image_size: int | None = None, scenes_per_shard: int = 50, overwrite: bool = False) -> Callable[[], None]:
    """Write a dataset as WebDataset shards, which all commands read from anywhere: tar files of scenes, and their index.json. The same command resumes what was stopped.

    Args:
        data: Posed photos in any format that `lvsm train --data` takes, one folder or address, or several; of a folder with `train` and `test`, both are written.
        out: A new folder, to be uploaded as it is.
        image_size: Maximum length of the shorter side of images, in pixels. By default image files are copied unchanged.
        scenes_per_shard: Number of scenes in a file. A file is downloaded as a whole; some hundred megabytes are usual.
        overwrite: Delete other shards in --out.
    """
    def run() -> None:
        from lvsm_pytorch.data import Problems
        from lvsm_pytorch.data.pack import pack

        problems = Problems()
        written = pack(data[0] if len(data) == 1 else data, out.expanduser(), image_size = image_size, scenes_per_shard = scenes_per_shard, overwrite = overwrite, problems = problems)
        print('\n'.join(filter(None, (problems.summary(), *(f'{folder} has {count} scenes' for folder, count in written.items())))))

    return run


def show(demo: DemoConfig) -> Callable[[], object]:
    """Render an orbit and held-out views with a packaged model, in seconds."""
    def run() -> object:
        from lvsm_pytorch.inference.demo import show

        return show(demo)

    return run


def view_scene(viewing: ViewConfig) -> Callable[[], object]:
    """Explore a scene in the browser."""
    def run() -> object:
        from lvsm_pytorch.viewer.server import view

        return view(viewing)

    return run


def render_views(rendering: RenderConfig) -> Callable[[], object]:
    """Render frames and a video along a camera path, or held-out views."""
    def run() -> object:
        from lvsm_pytorch.inference.render import render

        return render(rendering)

    return run


def export_model(exporting: ExportConfig) -> Callable[[], object]:
    """Write a model as two graphs, encode and render, for programs without this library: ONNX, or PyTorch's own formats."""
    def run() -> object:
        from lvsm_pytorch.inference.export import export

        return export(exporting)

    return run


def evaluate_views(evaluation: EvaluateConfig) -> Callable[[], object]:
    """Render held-out views and report PSNR, SSIM and LPIPS."""
    def run() -> object:
        from lvsm_pytorch.evaluation.evaluate import evaluate

        return evaluate(evaluation)

    return run


def write_evaluation_index(
    *, data: tuple[Path, ...], index: Path, num_inputs: int = 2, num_targets: int = 3, min_frame_distance: int = 25, max_frame_distance: int = 192, seed: int = 0,
) -> Callable[[], None]:
    """Write an evaluation index for a dataset: the input views and target views of each scene.

    Args:
        data: Posed photos in any format that `lvsm train --data` takes; one folder or address, or several.
        index: The JSON file to write, which `lvsm evaluate --index` reads.
        num_inputs: Input views of a scene.
        num_targets: Target views of a scene.
        min_frame_distance: For videos, minimum number of frames between the first and the last view.
        max_frame_distance: For videos, maximum number of frames between the first and the last view.
        seed: Random seed.
    """
    def run() -> None:
        from lvsm_pytorch.data import Problems, open_test
        from lvsm_pytorch.data.several import joined_by_name, separate
        from lvsm_pytorch.evaluation.index import make_index, write_index

        problems = Problems()
        dataset = joined_by_name({each: open_test(each, problems) for each in separate(data)}, problems)
        made = make_index(dataset, num_inputs = num_inputs, num_targets = num_targets, frame_distances = (min_frame_distance, max_frame_distance), seed = seed)
        write_index(made, index.expanduser())
        print('\n'.join(filter(None, (problems.summary(), f'{index} has {len(made)} scenes, of which {sum(entry is None for entry in made.values())} are null'))))

    return run


@dataclass(frozen = True)
class RunOptions:
    """Options of `lvsm train` about the run itself."""

    config: str | None = None
    """Config that the other options override: a preset (demo, photos-128, solids-128, one-gpu, two-gpus, paper, modern) or a YAML file. By
    default the preset demo; with --resume, the config of the run."""
    resume: bool = False
    """Resume the run in --out from its last checkpoint. Without one, start it."""
    overwrite: bool = False
    """Delete the run in --out and start again."""


def train_command(base: TrainConfig) -> Callable[..., Callable[[], object]]:
    """`lvsm train`, whose options override `base`."""
    def command(training: TrainConfig = base, options: RunOptions = RunOptions()) -> Callable[[], object]:
        """Train on posed photos, or on built-in synthetic scenes."""
        def run() -> object:
            import torch

            from lvsm_pytorch.training.loop import train

            # gradients of small attention weights are below 1e-38 (denormal), which CPUs compute many times slower; threads started later inherit this

            torch.set_flush_denormal(True)
            return train(training, resume = options.resume, overwrite = options.overwrite, handle_signals = True)

        return run

    return command


def base_config(arguments: list[str]) -> TrainConfig:
    """Config that the options of `lvsm train` override: --config; else, with --resume, the config of the run in --out; else the preset demo.

    The arguments are parsed twice, here for these options only: tyro.extras.overridable_config_cli selects configs by subcommand, and can't
    read one from a file or a run.

    Args:
        arguments: After `lvsm train`.

    Raises:
        ValueError: For a config that is neither a preset nor a file.
    """
    import tyro

    def chosen(options: RunOptions = RunOptions(), out: Path = TrainConfig.out) -> tuple[RunOptions, Path]:
        return options, out

    (options, out), _ = tyro.cli(chosen, args = arguments, prog = 'lvsm train', add_help = False, return_unknown_args = True, config = (tyro.conf.OmitArgPrefixes,))
    out = out.expanduser()
    is_resumed = options.config is None and options.resume and (out / CONFIG).is_file()
    return load_run_config(out) if is_resumed else load_config(options.config or 'demo')


# replacements of characters in help and reports that the encoding of a terminal lacks

PLAIN = {'×': 'x', '…': '...', '–': '-', '—': '-', '•': '*', '→': '->', 'ᵀ': "'", '⁻': '-', '¹': '1', '²': '2', '³': '3', '°': ' degrees', '’': "'", 'ü': 'ue', 'é': 'e'}
LINES = {'-': '─━╌┄┈═', '|': '│┃╎┆║', '+': '╭╮╰╯┌┐└┘├┤┬┴┼╒╕╘╛╔╗╚╝╠╣╦╩╬', '#': '█▉▊▋▌▍▎▏'}


def plain(error: UnicodeError) -> tuple[str, int]:
    """Error handler for `codecs.register_error`: replaces characters that an encoding lacks by ASCII."""
    if not isinstance(error, UnicodeEncodeError):
        raise error

    lines = {letter: line for line, letters in LINES.items() for letter in letters}
    return ''.join(PLAIN.get(letter, lines.get(letter, '?')) for letter in error.object[error.start:error.end]), error.end


def let_every_terminal_show_it() -> None:
    """Replaces characters that the encoding of stdout or stderr lacks, instead of raising UnicodeEncodeError."""
    codecs.register_error('lvsm', plain)

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors = 'lvsm')


def main() -> None:
    let_every_terminal_show_it()
    warnings.formatwarning = lambda message, *_, **__: f'lvsm: {message}\n'  # without the line of source

    try:
        from tyro.conf import OmitArgPrefixes
        from tyro.extras import subcommand_cli_from_dict

        base = base_config(sys.argv[2:]) if sys.argv[1:2] == ['train'] else load_config('demo')
        commands = {'demo': show, 'train': train_command(base), 'evaluate': evaluate_views, 'make-index': write_evaluation_index, 'render': render_views, 'view': view_scene, 'pose': pose_photos, 'pack': pack_scenes, 'inspect': inspect_cameras, 'export': export_model, 'import-official': import_official}
        run = subcommand_cli_from_dict(commands, prog = 'lvsm', description = 'Novel view synthesis from posed images.', config = (OmitArgPrefixes,))

        from lvsm_pytorch.allocator import tune_malloc

        tune_malloc()
        run()
    except ImportError as error:
        has_advice = 'pip install' in str(error)
        sys.exit(f'lvsm: {error}' if has_advice else f'lvsm: {error}. The command needs what pip install "lvsm-pytorch[train]" installs.')
    except (ValueError, OSError) as error:
        sys.exit(f'lvsm: {error}')
    except KeyboardInterrupt as stopped:
        how = 'resume from the last checkpoint with --resume' if sys.argv[1:2] == ['train'] else 'the same command resumes it'
        print(f'lvsm: {stopped or f"stopped; {how}"}', file = sys.stderr)
        sys.exit(128 + getattr(stopped, 'signal', 2))
