"""Conditioning on cameras beside their rays, by name: the paper's has none."""

from lvsm_pytorch.lvsm.conditioning.base import CameraEncoding, NoPlaneSweep
from lvsm_pytorch.lvsm.conditioning.feature_sweep import FeatureSweep
from lvsm_pytorch.lvsm.conditioning.plane_sweep import PlaneSweep
from lvsm_pytorch.lvsm.conditioning.prope import Prope

CAMERA_ENCODINGS: dict[str, type[CameraEncoding]] = dict(plucker = CameraEncoding, prope = Prope)

# made as `PlaneSweep` is, where there are any depth planes

PLANE_SWEEPS: dict[str, type[NoPlaneSweep]] = dict(colors = PlaneSweep, features = FeatureSweep)

__all__ = ['CAMERA_ENCODINGS', 'PLANE_SWEEPS', 'CameraEncoding', 'FeatureSweep', 'NoPlaneSweep', 'PlaneSweep', 'Prope']
