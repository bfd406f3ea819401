"""The `lvsm` command: arguments in, one function called."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path


def import_official(checkpoint: Path, out: Path, /, max_image_size: int = 256) -> Callable[[], None]:
    """Convert a decoder-only checkpoint of the LVSM authors, whose licence is non-commercial, for LVSM.from_pretrained.

    Args:
        checkpoint: Their file.
        out: Folder for config.json and model.safetensors.
        max_image_size: Largest height and width of an image, in pixels.
    """
    def run() -> None:
        from lvsm_pytorch.checkpoint import LICENSE
        from lvsm_pytorch.lvsm import LVSM

        model = LVSM.from_official(checkpoint, max_image_size = max_image_size)
        model.save_pretrained(out)
        print(f'{out} has the network with {", ".join(f"{name} {model.config[name]}" for name in ("dim", "depth", "heads", "patch_size"))}. {LICENSE}')

    return run


def inspect_cameras(data: Path, /, out: Path = Path('cameras.png'), scenes: int = 8, pairs: int = 12) -> Callable[[], object]:
    """Print what a dataset holds, check its cameras against its pictures, and draw them.

    Args:
        data: Posed photos in any format that `lvsm train --data` takes.
        out: The picture: cameras with thumbnails, from a side and from above, and epipolar lines of a pair of photos.
        scenes: Most scenes to look at; they are spread over the dataset.
        pairs: Most pairs of photos of a scene to match.
    """
    def run() -> object:
        from lvsm_pytorch.inspect import inspect

        return inspect(data, out, scenes = scenes, pairs = pairs)

    return run


def main() -> None:
    warnings.formatwarning = lambda message, *_, **__: f'lvsm: {message}\n'  # a line of source tells a reader nothing

    try:
        from tyro.extras import subcommand_cli_from_dict

        from lvsm_pytorch.config import TrainConfig
        from lvsm_pytorch.render import RenderConfig, render
        from lvsm_pytorch.train import train

        commands = {'train': TrainConfig, 'render': RenderConfig, 'inspect': inspect_cameras, 'import-official': import_official}
        chosen = subcommand_cli_from_dict(commands, prog = 'lvsm', description = 'See a scene from where nobody stood.')

        if isinstance(chosen, TrainConfig):
            chosen = partial(train, chosen)
        elif isinstance(chosen, RenderConfig):
            chosen = partial(render, chosen)

        chosen()
    except ImportError as error:
        told = 'pip install' in str(error)
        sys.exit(f'lvsm: {error}' if told else f'lvsm: {error}. The command needs what pip install "lvsm-pytorch[train]" installs.')
    except (ValueError, OSError) as error:
        sys.exit(f'lvsm: {error}')
    except KeyboardInterrupt:
        sys.exit('lvsm: stopped; what was saved at the last look is kept.')
