"""`lvsm demo`: renders held-out built-in scenes with a packaged model."""

from __future__ import annotations

import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from lvsm_pytorch.configs.demo import DemoConfig
from lvsm_pytorch.configs.render import RenderConfig
from lvsm_pytorch.data import SyntheticSource
from lvsm_pytorch.data.images import load_image, save_image
from lvsm_pytorch.evaluation.metrics import baselines, figures, render_batch, score, table
from lvsm_pytorch.evaluation.pictures import GAP, joined, save_comparison
from lvsm_pytorch.execution import pick_device
from lvsm_pytorch.inference.render import Film, render_frames
from lvsm_pytorch.inference.video import write_video
from lvsm_pytorch.lvsm.model import LVSM
from lvsm_pytorch.lvsm.pretrained import default_size
from lvsm_pytorch.packaged import SOLIDS

NUM_COMPARED, NUM_SHOWN = 8, 5
FPS = 15.
ZOOM = 2


def show(config: DemoConfig) -> list[Path]:
    """Writes comparison.png and orbit.gif, prints PSNR and SSIM, and returns the paths of the two files.

    Raises:
        ValueError: If a scene is a training scene.
        OSError: If the folder can't be written.
    """
    config.check()
    began = time.perf_counter()
    comparison, orbit = config.out / 'comparison.png', config.out / 'orbit.gif'
    found = compare(LVSM.from_pretrained(SOLIDS).to(pick_device(config.device)), comparison)
    print(f'{NUM_COMPARED} held-out scenes, by {SOLIDS}')
    print(table(found))

    films = [render_frames(RenderConfig(
        model = Path(SOLIDS), path = 'orbit', scene = scene, frames = config.frames, device = config.device, overwrite = True,
    ), config.out / f'scene-{scene}') for scene in config.scenes]
    inputs = [strip(film) for film in films]

    framed = [config.out / 'frames' / f'{number:05}.png' for number in range(config.frames)]
    framed[0].parent.mkdir(parents = True, exist_ok = True)

    for number, file in enumerate(framed):
        columns = [joined([above, enlarged(film.frames[number])], across = False) for above, film in zip(inputs, films, strict = True)]
        save_image(joined(columns, across = True), file)

    write_video(framed, orbit, FPS)
    print(f'{comparison} and {orbit} are made in {time.perf_counter() - began:.0f} seconds')
    return [comparison, orbit]


def compare(model: LVSM, path: Path) -> dict[str, float]:
    """Writes a picture of rendered views beside the ground truth, and returns the metrics of the model and of the baselines."""
    assert model.trained_for is not None
    source = SyntheticSource(num_inputs = model.trained_for.num_inputs, num_targets = 1, image_size = default_size(model)[0])
    batch = source.held_out(NUM_COMPARED)
    pred = render_batch(model, batch, batch_size = 4)
    save_comparison(path, batch, pred, max_rows = NUM_SHOWN)
    return figures(model = score(pred, batch.target_images), **baselines(batch)._asdict())


def strip(film: Film) -> Tensor:
    """Returns the input views side by side as an image (3 h w) of the width of an enlarged frame."""
    photos = torch.stack([view.load() for view in film.inputs])
    whole = enlarged(film.frames[0]).shape[-1]
    width = (whole - GAP * (len(photos) - 1)) // len(photos)
    height = width * photos.shape[-2] // photos.shape[-1]
    return joined(list(F.interpolate(photos, (height, width), mode = 'bicubic', antialias = True).clamp(0, 1)), across = True)


def enlarged(frame: Path) -> Tensor:
    """Loads an image file and enlarges it by `ZOOM`: (3 h w) in [0, 1]."""
    return F.interpolate(load_image(frame).unsqueeze(0), scale_factor = ZOOM, mode = 'bicubic').clamp(0, 1)[0]
