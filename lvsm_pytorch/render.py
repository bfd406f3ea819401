"""A trained run, and views that it has never seen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from lvsm_pytorch.data.images import save_image
from lvsm_pytorch.pictures import save_comparison
from lvsm_pytorch.runs import load_run, pick_device, source_of
from lvsm_pytorch.scores import figures, guesses, paint, score, table


@dataclass(frozen = True)
class RenderConfig:
    """Paint the held-out views of a scene with a trained run."""

    run: Path
    """Folder that `lvsm train` wrote."""
    data: Path | None = None
    """Folder with a transforms.json and its photos. Left out: what the run was trained on."""
    out: Path | None = None
    """Folder for the views. Left out: RUN/render."""
    device: str = 'auto'
    """cpu, cuda, mps, ...; auto takes a GPU where there is one."""


def render(config: RenderConfig) -> dict[str, float]:
    """Writes each held-out view as a PNG, and comparison.png; returns their figures.

    Errors: ValueError for a folder that is no run, and for data that can't be read.
    """
    from tqdm import tqdm

    trained, model = load_run(config.run)
    out = config.out or config.run / 'render'
    held_out = source_of(replace(trained, data = config.data or trained.data)).held_out_batch()
    pred = paint(model.to(pick_device(config.device)), held_out)

    out.mkdir(parents = True, exist_ok = True)

    for name, views in tqdm(list(zip(held_out.names, pred, strict = True)), unit = 'view'):
        save_image(views[0], out / f'{Path(name).with_suffix("").as_posix().replace("/", "_")}.png')

    save_comparison(out / 'comparison.png', held_out, pred)
    result = figures(model = score(pred, held_out.target_images), **guesses(held_out)._asdict())
    print(table(result))
    print(f'{len(pred)} views are in {out}')
    return result
