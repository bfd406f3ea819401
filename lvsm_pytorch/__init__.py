"""LVSM, decoder-only: a transformer that encodes a few posed photos and renders the view of a new camera."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = '0.2.0'

__all__ = [
    'LVSM',
    'MAE',
    'CameraWrapper',
    'Cameras',
    'EncodedPhotos',
    'EncodedScene',
    'MAECameraWrapper',
    'PerceptualLoss',
    'ShapeError',
    'encode_photos',
    'plucker_rays',
    'synthesize',
    'to_plucker_rays',
]

# torch takes seconds to load, and `lvsm --help` does not need it: names are imported on first use

if TYPE_CHECKING:
    from lvsm_pytorch.errors import ShapeError
    from lvsm_pytorch.geometry import Cameras, plucker_rays, to_plucker_rays
    from lvsm_pytorch.inference.pipeline import EncodedPhotos, encode_photos, synthesize
    from lvsm_pytorch.lvsm import LVSM, MAE, CameraWrapper, MAECameraWrapper
    from lvsm_pytorch.lvsm.encoded import EncodedScene
    from lvsm_pytorch.lvsm.losses import PerceptualLoss
else:
    MODULES = dict(
        LVSM = 'lvsm',
        MAE = 'lvsm',
        CameraWrapper = 'lvsm',
        Cameras = 'geometry',
        EncodedScene = 'lvsm.encoded',
        MAECameraWrapper = 'lvsm',
        PerceptualLoss = 'lvsm.losses',
        EncodedPhotos = 'inference.pipeline',
        ShapeError = 'errors',
        plucker_rays = 'geometry',
        encode_photos = 'inference.pipeline',
        synthesize = 'inference.pipeline',
        to_plucker_rays = 'geometry',
    )

    def __getattr__(name: str) -> Any:
        if name not in MODULES:
            raise AttributeError(f'module {__name__!r} has no attribute {name!r}')

        return getattr(import_module(f'{__name__}.{MODULES[name]}'), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
