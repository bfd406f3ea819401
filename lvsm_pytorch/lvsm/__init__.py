"""The LVSM model and its training objectives."""

from lvsm_pytorch.quiet import import_x_transformers

import_x_transformers()  # before anything here imports it, with its warning

from lvsm_pytorch.lvsm.mae import MAE  # noqa: E402
from lvsm_pytorch.lvsm.model import LVSM  # noqa: E402
from lvsm_pytorch.lvsm.wrappers import CameraWrapper, MAECameraWrapper  # noqa: E402

__all__ = ['LVSM', 'MAE', 'CameraWrapper', 'MAECameraWrapper']
