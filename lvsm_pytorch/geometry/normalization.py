"""Normalisation of poses by the input cameras."""

from __future__ import annotations

from typing import NamedTuple

import einx
import torch
import torch.nn.functional as F
from einops import einsum
from torch import Tensor

from lvsm_pytorch.checks import check_floating, check_shape
from lvsm_pytorch.errors import fail
from lvsm_pytorch.geometry.cameras import first_of, pose
from lvsm_pytorch.precision import in_float32


class NormalizedPoses(NamedTuple):
    """Poses in the normalised frame.

    Attributes:
        inputs: Poses of the input views (... v 4 4).
        further: Poses of the further views (... t 4 4), or None.
        similarity: Similarity (... 4 4) from the original to the normalised world, for `move_poses` and `Cameras.transform`.
    """
    inputs: Tensor
    further: Tensor | None
    similarity: Tensor


# pose normalisation

@in_float32
def normalize_poses(inputs: Tensor, further: Tensor | None = None, *, protocol: str = 'inputs', unit: float | None = None) -> NormalizedPoses:
    """Moves the world so that the mean input camera is the identity and the scene has about unit size.

    Mean camera, as in the LVSM authors' protocol: centre = mean of centres, forward = normalised mean of z axes,
    right = normalised (mean of y axes × forward), down = forward × right. Then translations are divided by the unit.

    Degenerate sets give finite results. Cameras in one place (also a single one) keep their unit of length. If z axes
    cancel out, forward is the z axis of the first camera. If the mean y axis is parallel to forward, the y axis of the
    first camera is used; if that is parallel too, right is its x axis.

    Args:
        inputs: Camera to world (... v 4 4) of the input views, OpenCV axes.
        further: Camera to world (... t 4 4) of further views, moved alike.
        protocol: 'inputs': the input cameras define the frame, independent of target views. 'inputs_and_further': all cameras define it, as in the evaluation of the LVSM authors.
        unit: The length in world units that becomes 1. By default 1.35 × the largest absolute coordinate of the defining centres in the frame of the mean camera.
    """
    protocols = ('inputs', 'inputs_and_further')
    check_floating(inputs = inputs)
    check_shape('... v 4 4', inputs = inputs)

    if inputs.shape[-3] == 0:
        fail('inputs', 'must have at least one camera', 'none', 'Pass the cameras of the input views.')

    if further is not None:
        check_floating(further = further)
        check_shape('... t 4 4', further = further)

    if unit is not None and not unit > 0:
        fail('unit', 'must be a length above 0', unit, 'Omit it to determine it from the cameras.')

    if protocol not in protocols:
        fail('protocol', f'must be one of {protocols}', repr(protocol), 'Use the default except to reproduce the authors\' results.')

    from_all = protocol == 'inputs_and_further' and further is not None
    defining = torch.cat((inputs, further), dim = -3) if from_all and further is not None else inputs

    centres = defining[..., :3, 3]
    centre = centres.mean(dim = -2)
    rotation = mean_rotation(defining[..., :3, :3])
    scale = centres.new_full((), unit) if unit is not None else 1.35 * largest_offset(centres, centre, rotation)
    scale = scale.expand(centre.shape[:-1])

    def normalized(camera_to_world: Tensor) -> Tensor:
        turned = einsum(rotation, camera_to_world[..., :3, :3], '... j i, ... v j k -> ... v i k')
        moved = einsum(rotation, einx.subtract('... v j, ... j', camera_to_world[..., :3, 3], centre), '... j i, ... v j -> ... v i')
        return pose(turned, einx.divide('... v i, ...', moved, scale))

    similarity = pose(einx.divide('... i j, ...', rotation.mT, scale), -einx.divide('... i, ...', einsum(rotation, centre, '... j i, ... j -> ... i'), scale))
    return NormalizedPoses(normalized(inputs), None if further is None else normalized(further), similarity)


def largest_offset(centres: Tensor, centre: Tensor, rotation: Tensor) -> Tensor:
    """Returns the largest absolute coordinate (...) of centres (... v 3) in a frame; 1 / 1.35 for cameras in one place."""
    offsets = einsum(rotation, einx.subtract('... v j, ... j', centres, centre), '... j i, ... v j -> ... v i')
    largest = offsets.abs().amax(dim = (-2, -1))


    # centres that differ by rounding errors are in one place; float64 resolves worlds millions of metres from their origin

    digits = 1e-9 if centres.dtype == torch.float64 else 1e-5
    rounding = digits * centres.abs().amax(dim = (-2, -1)) + 1e-8
    return torch.where(largest > rounding, largest, 1 / 1.35)


def mean_rotation(rotations: Tensor) -> Tensor:
    """Returns the mean rotation (... 3 3) of cameras (... v 3 3), as defined in `normalize_poses`."""
    first_x, first_y, first_z = rotations[..., 0, :, :].unbind(dim = -1)
    mean_y, mean_z = rotations[..., 1].mean(dim = -2), rotations[..., 2].mean(dim = -2)

    forward = F.normalize(first_of(mean_z, first_z), dim = -1)
    across = first_of(torch.linalg.cross(mean_y, forward), torch.linalg.cross(first_y, forward), first_x)
    right = F.normalize(across, dim = -1)
    return torch.stack((right, torch.linalg.cross(forward, right), forward), dim = -1)


def unit_of(world: Tensor) -> float:
    """Returns the length that a similarity (4 4) maps to 1."""
    return 1 / float(world[:3, 0].norm())
