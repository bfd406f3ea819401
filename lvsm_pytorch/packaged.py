"""Packaged models, by name."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

PRETRAINED = Path(__file__).parent / 'configs' / 'pretrained'

# for photos, and for built-in synthetic scenes; their folders have the training configs

PHOTOS = 'photos-128'
SOLIDS = 'solids-128'


def packaged_models() -> list[str]:
    return sorted(path.parent.name for path in PRETRAINED.glob('*/config.json'))


def folder_of(model: str | PathLike[str]) -> Path:
    """Returns the folder of a model: that of a packaged model for its name, unless the working directory has a folder of that name; otherwise the path itself."""
    path = Path(model)
    return PRETRAINED / path if str(path) in packaged_models() and not path.is_dir() else path


def folder_for(work: str, model: Path) -> Path:
    """Returns the default output folder of a command: in the folder of the model, or in the working directory for a model by name."""
    return model / work if model.is_dir() else Path(f'{model.name}-{work}')
