"""One scene as the field evaluates it: views cut to a square, poses normalised by a name, what is rendered, and how good it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from lvsm_pytorch.configs.common import Filter, Frame
from lvsm_pytorch.data import Batch, Scene, cameras_of
from lvsm_pytorch.data.scene import unit_of_set
from lvsm_pytorch.evaluation.index import Entry, views_of
from lvsm_pytorch.evaluation.metrics import blurred_mean, copied_input, score
from lvsm_pytorch.geometry.cameras import Cameras, move_poses
from lvsm_pytorch.geometry.normalization import normalize_poses
from lvsm_pytorch.geometry.scene_scale import rescaled, scene_scale
from lvsm_pytorch.lvsm.model import LVSM


class Protocol(NamedTuple):
    """How views are evaluated.

    Attributes:
        model: That renders.
        size: (height, width) that photos are resized and cropped to, by `filter`.
        frame: The world of the rays.
        chunk_size: Rendered together.
    """
    model: LVSM
    size: tuple[int, int]
    filter: Filter
    frame: Frame
    chunk_size: int

    def batch(self, scene: Scene, entry: Entry) -> Batch:
        """Of b = 1.

        Raises:
            BadView: For an image that can't be read, and for views that the scene doesn't have.
        """
        chosen, num_inputs = views_of(scene, entry), len(entry.context)
        fitted = [view.fitted(self.size, filter = self.filter) for view in chosen.views]
        images, intrinsics = (torch.stack(each).unsqueeze(0) for each in zip(*fitted, strict = True))
        poses = self.posed(scene, cameras_of(chosen.views).camera_to_world, num_inputs)
        cameras, depth_range = self.scaled(images[0, :num_inputs], Cameras(poses, intrinsics[0]))
        return Batch(images, cameras[None], [scene.name], num_inputs, depth_range)

    def scaled(self, inputs: Tensor, cameras: Cameras) -> tuple[Cameras, Tensor | None]:
        """Cameras (n), inputs first, in the unit that goes by how far the scene on the inputs (v 3 h w) is, and its depth range (1 2), for models that go by them."""
        known = self.model.trained_for
        by_depth = self.frame == 'inputs' and known is not None and known.scale == 'depth'

        if not by_depth and not self.model.plane_sweep.knows_distances:
            return cameras, None

        scale = scene_scale(inputs, cameras[:len(inputs)])
        unit = scale.unit if by_depth else 1.
        return rescaled(cameras, unit), scale.depth_range(unit)[None]

    def posed(self, scene: Scene, poses: Tensor, num_inputs: int) -> Tensor:
        """Poses (n 4 4), inputs first, in the world of the rays. In that of the inputs a set of photos keeps one unit, as in training."""
        known = self.model.trained_for

        if self.frame == 'scene':
            assert known is not None
            return move_poses(torch.tensor(known.world, dtype = torch.float64), poses.double()).float()

        unit = None if known is None else known.unit

        if self.frame == 'inputs' and unit is None and (known is None or known.scale == 'cameras'):
            unit = unit_of_set(scene)

        inputs, targets, _ = normalize_poses(poses[:num_inputs], poses[num_inputs:], protocol = 'inputs' if self.frame == 'inputs' else 'inputs_and_further', unit = unit)
        assert targets is not None
        return torch.cat((inputs, targets)).float()

    @torch.no_grad()
    def render(self, batch: Batch) -> Tensor:
        """The targets (1 t 3 h w), on the CPU."""
        device = next(self.model.parameters()).device
        batch = batch.to(device)
        inputs, targets = batch.cameras[:, :batch.num_inputs], batch.cameras[:, batch.num_inputs:]
        scene = self.model.encode(batch.input_images, batch.input_rays, cameras = inputs, depth_range = batch.depth_range)
        return self.model.render(scene, batch.target_rays, cameras = targets, chunk_size = self.chunk_size).cpu()


def judged(batch: Batch, pred: Tensor, similarity: Callable[[Tensor, Tensor], list[float]] | None = None) -> dict[str, Any]:
    """Figures of each view, and of the baselines beside it."""
    found, copy, blur = score(pred, batch.target_images), copied_input(batch), blurred_mean(batch)
    lpips = {} if similarity is None else dict(lpips = similarity(pred[0], batch.target_images[0]))
    scores = {'': found, 'copy_': copy, 'blur_': blur}
    return {f'{name}{figure}': values.tolist() for name, each in scores.items() for figure, values in each._asdict().items()} | lpips


def lpips_of(network: Literal['vgg', 'alex'], device: torch.device) -> Callable[[Tensor, Tensor], list[float]]:
    """LPIPS (Zhang et al. 2018) of views (n 3 h w) in [0, 1], one by one.

    Raises:
        ImportError: Without torchvision, whose weights it takes.
    """
    try:
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        metric = LearnedPerceptualImagePatchSimilarity(network, normalize = True).to(device).eval()
    except (ImportError, ModuleNotFoundError) as error:
        raise ImportError(f'LPIPS needs torchvision: pip install "lvsm-pytorch[perceptual]" ({error})') from error

    @torch.no_grad()
    def similarity(pred: Tensor, target: Tensor) -> list[float]:
        return [float(metric(one.unsqueeze(0).to(device).clamp(0, 1), other.unsqueeze(0).to(device))) for one, other in zip(pred, target, strict = True)]

    return similarity
