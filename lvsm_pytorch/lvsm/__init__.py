"""The model and its objectives."""

from lvsm_pytorch.lvsm.mae import MAE
from lvsm_pytorch.lvsm.model import LVSM
from lvsm_pytorch.lvsm.wrappers import CameraWrapper, MAECameraWrapper

__all__ = ['LVSM', 'MAE', 'CameraWrapper', 'MAECameraWrapper']
