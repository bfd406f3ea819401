"""Registries of the optional camera conditioning beyond rays: camera encodings of attention, and plane sweeps. The paper's network has none."""

from lvsm_pytorch.lvsm.conditioning.base import CameraEncoding, NoPlaneSweep
from lvsm_pytorch.lvsm.conditioning.feature_sweep import FeatureSweep
from lvsm_pytorch.lvsm.conditioning.plane_sweep import PlaneSweep
from lvsm_pytorch.lvsm.conditioning.prope import Prope

CAMERA_ENCODINGS: dict[str, type[CameraEncoding]] = dict(plucker = CameraEncoding, prope = Prope)

# constructed with the arguments of `PlaneSweep` if there are depth planes

PLANE_SWEEPS: dict[str, type[NoPlaneSweep]] = dict(colors = PlaneSweep, features = FeatureSweep)

__all__ = ['CAMERA_ENCODINGS', 'PLANE_SWEEPS', 'CameraEncoding', 'FeatureSweep', 'NoPlaneSweep', 'PlaneSweep', 'Prope']
