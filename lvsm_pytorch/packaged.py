"""Models that come with the library, by name."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

PRETRAINED = Path(__file__).parent / 'configs' / 'pretrained'

# for photos, and for built-in synthetic scenes; their folders say how they were trained

PHOTOS = 'photos-128'
SOLIDS = 'solids-128'


def packaged_models() -> list[str]:
    return sorted(path.parent.name for path in PRETRAINED.glob('*/config.json'))


def folder_of(model: str | PathLike[str]) -> Path:
    """Where a model lies: of the name of a packaged one its folder, unless a folder here has that name; of anything else, the path itself."""
    path = Path(model)
    return PRETRAINED / path if str(path) in packaged_models() and not path.is_dir() else path


def folder_for(work: str, model: Path) -> Path:
    """For what is made with a model: in its folder, or here where it is known by a name alone."""
    return model / work if model.is_dir() else Path(f'{model.name}-{work}')
