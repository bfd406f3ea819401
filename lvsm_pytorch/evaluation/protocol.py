"""Evaluation of one scene by an index: cropping of views, normalisation of poses, rendering, and metrics."""

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
    """Settings of an evaluation.

    Attributes:
        model: Model to evaluate.
        size: (height, width) to which photos are resized and cropped.
        filter: Resampling filter.
        frame: Normalisation of poses.
        chunk_size: Number of target views to render at once.
    """
    model: LVSM
    size: tuple[int, int]
    filter: Filter
    frame: Frame
    chunk_size: int

    def batch(self, scene: Scene, entry: Entry) -> Batch:
        """Returns the views of an entry as a batch of b = 1.

        Raises:
            BadView: If an image can't be read, or the scene does not have a view.
        """
        chosen, num_inputs = views_of(scene, entry), len(entry.context)
        fitted = [view.fitted(self.size, filter = self.filter) for view in chosen.views]
        images, intrinsics = (torch.stack(each).unsqueeze(0) for each in zip(*fitted, strict = True))
        poses = self.posed(scene, cameras_of(chosen.views).camera_to_world, num_inputs)
        cameras, depth_range = self.scaled(images[0, :num_inputs], Cameras(poses, intrinsics[0]))
        return Batch(images, cameras[None], [scene.name], num_inputs, depth_range)

    def scaled(self, inputs: Tensor, cameras: Cameras) -> tuple[Cameras, Tensor | None]:
        """Rescales cameras (n ...), inputs first, by the estimated distance of the scene in the inputs (v 3 h w), and returns its depth range (1 2).

        Cameras of models that are not trained so are unchanged; the depth range is None for models that use neither.
        """
        known = self.model.trained_for
        by_depth = self.frame == 'inputs' and known is not None and known.scale == 'depth'

        if not by_depth and not self.model.plane_sweep.knows_distances:
            return cameras, None

        scale = scene_scale(inputs, cameras[:len(inputs)])
        unit = scale.unit if by_depth else 1.
        return rescaled(cameras, unit), scale.depth_range(unit)[None]

    def posed(self, scene: Scene, poses: Tensor, num_inputs: int) -> Tensor:
        """Normalises poses (n 4 4), inputs first. In the frame of the inputs, a photo set has one unit of length for all inputs, as in training."""
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
        """Renders the target views (1 t 3 h w), and returns them on the CPU."""
        device = next(self.model.parameters()).device
        batch = batch.to(device)
        inputs, targets = batch.cameras[:, :batch.num_inputs], batch.cameras[:, batch.num_inputs:]
        scene = self.model.encode(batch.input_images, batch.input_rays, cameras = inputs, depth_range = batch.depth_range)
        return self.model.render(scene, batch.target_rays, cameras = targets, chunk_size = self.chunk_size).cpu()


def evaluate_views(batch: Batch, pred: Tensor, similarity: Callable[[Tensor, Tensor], list[float]] | None = None) -> dict[str, Any]:
    """Returns lists of metrics of the target views, by name, for the rendered views (1 t 3 h w) and for the baselines."""
    found, copy, blur = score(pred, batch.target_images), copied_input(batch), blurred_mean(batch)
    lpips = {} if similarity is None else dict(lpips = similarity(pred[0], batch.target_images[0]))
    scores = {'': found, 'copy_': copy, 'blur_': blur}
    return {f'{name}{figure}': values.tolist() for name, each in scores.items() for figure, values in each._asdict().items()} | lpips


def lpips_of(network: Literal['vgg', 'alex'], device: torch.device) -> Callable[[Tensor, Tensor], list[float]]:
    """Returns a function that computes LPIPS (Zhang et al. 2018) of each of n views (n 3 h w) in [0, 1].

    Raises:
        ImportError: Without torchvision, whose weights it uses.
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
