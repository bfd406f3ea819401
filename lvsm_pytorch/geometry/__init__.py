"""Camera geometry as pure functions: rays, conventions, pose normalisation, trajectories and view selection.

Axes are OpenCV's (x right, y down, z forward), pixel centres lie at +0.5, sizes are (height, width). Functions take any leading
dimensions unless they say otherwise, are differentiable, and compute in float32 (or float64), also inside autocast.
"""

from lvsm_pytorch.geometry.cameras import Cameras, crop_intrinsics, move_poses, scale_intrinsics
from lvsm_pytorch.geometry.conventions import colmap_to_opencv, opencv_to_colmap, opencv_to_opengl, opengl_to_opencv
from lvsm_pytorch.geometry.normalization import NormalizedPoses, normalize_poses
from lvsm_pytorch.geometry.rays import pixel_grid, plucker_rays, to_plucker_rays
from lvsm_pytorch.geometry.trajectories import interpolate_poses, look_at, orbit_poses

__all__ = [
    'Cameras',
    'NormalizedPoses',
    'colmap_to_opencv',
    'crop_intrinsics',
    'interpolate_poses',
    'look_at',
    'move_poses',
    'normalize_poses',
    'opencv_to_colmap',
    'opencv_to_opengl',
    'opengl_to_opencv',
    'orbit_poses',
    'pixel_grid',
    'plucker_rays',
    'scale_intrinsics',
    'to_plucker_rays',
]
