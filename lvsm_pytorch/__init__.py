"""LVSM, decoder-only: a transformer that reads a few posed photos and paints what a new camera sees."""

from lvsm_pytorch.cameras import Cameras, plucker_rays, to_plucker_rays
from lvsm_pytorch.checks import ShapeError
from lvsm_pytorch.encoded import EncodedScene
from lvsm_pytorch.losses import PerceptualLoss
from lvsm_pytorch.lvsm import LVSM
from lvsm_pytorch.mae import MAE
from lvsm_pytorch.synthesize import synthesize
from lvsm_pytorch.wrappers import CameraWrapper, MAECameraWrapper

__version__ = '0.2.0'

__all__ = [
    'LVSM',
    'MAE',
    'CameraWrapper',
    'Cameras',
    'EncodedScene',
    'MAECameraWrapper',
    'PerceptualLoss',
    'ShapeError',
    'plucker_rays',
    'synthesize',
    'to_plucker_rays',
]
