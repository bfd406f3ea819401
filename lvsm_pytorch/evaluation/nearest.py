"""Evaluation of a photo set by the protocol nearest: every eighth photo is held out and rendered from the nearest of the others. Baselines need no model."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import islice
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from lvsm_pytorch.configs.common import Filter
from lvsm_pytorch.data.problems import BadView
from lvsm_pytorch.data.scene import Scene, View, cameras_of, hold_out
from lvsm_pytorch.errors import fail
from lvsm_pytorch.evaluation.classical_sweep import best_plane_sweep
from lvsm_pytorch.evaluation.metrics import best_blur, score
from lvsm_pytorch.geometry.cameras import Cameras
from lvsm_pytorch.geometry.view_selection import nearest_views
from lvsm_pytorch.inference.pipeline import synthesize
from lvsm_pytorch.lvsm.losses import psnr
from lvsm_pytorch.lvsm.model import LVSM

Similarity = Callable[[Tensor, Tensor], list[float]]

# number of resized photos to keep in memory

CACHED = 256


class HeldOutView(NamedTuple):
    """A rendered held-out view. All images are (3 h w) in [0, 1].

    Attributes:
        figures: PSNR, SSIM and LPIPS of the report.
        inputs: (v 3 h w), nearest first.
        sweep: View of the classical plane sweep.
        pred: View of the model.
        truth: The photo.
    """
    figures: dict[str, Any]
    inputs: Tensor
    sweep: Tensor
    pred: Tensor
    truth: Tensor


class Photos:
    """Photos of a set, resized, cropped and cached. `missing` has the errors of unreadable photos by name."""

    def __init__(self, scene: Scene, size: tuple[int, int], filter: Filter):
        self.by_name = {view.name: view for view in scene.views}
        self.size = size
        self.filter: Filter = filter
        self.missing: dict[str, str] = {}
        self.load = lru_cache(CACHED)(self.load_anew)

    def load_anew(self, name: str) -> tuple[Tensor, Tensor]:
        view = self.by_name[name]
        return view.fitted(self.size, filter = self.filter)

    def fitted(self, view: View) -> tuple[Tensor, Tensor]:
        """Returns the image (3 h w) in [0, 1] and its intrinsics (3 3).

        Raises:
            BadView: If it can't be read.
        """
        return self.load(view.name)

    def is_readable(self, view: View) -> bool:
        if view.name not in self.missing:
            try:
                self.fitted(view)
            except BadView as error:
                self.missing[view.name] = str(error)

        return view.name not in self.missing


class NearestInputs(NamedTuple):
    """Settings of the protocol.

    Attributes:
        model: Model to evaluate.
        size: (height, width) to which photos are resized and cropped.
        filter: Resampling filter.
        pose_frame: As in `synthesize`.
        num_inputs: Numbers of input views to evaluate.
        max_views: Maximum number of held-out views of a set, the first by name; None for all.
        similarity: LPIPS, or None.
        unit: Function from a scene to its unit of length for `synthesize`, or None for the default.
    """
    model: LVSM
    size: tuple[int, int]
    filter: Filter
    pose_frame: Literal['inputs'] | None
    num_inputs: tuple[int, ...]
    max_views: int | None
    similarity: Similarity | None
    unit: Callable[[Scene], float | None]

    def views(self, scene: Scene, photos: Photos, num_inputs: int) -> Iterator[HeldOutView | None]:
        """Yields the held-out views in the order of their names, None for an unreadable photo or too few others.

        The next nearest photo replaces an unreadable input.
        """
        others, held_out = hold_out(scene)
        poses, unit = cameras_of(others.views).camera_to_world, self.unit(scene)

        for target in held_out.views[:self.max_views]:
            nearest = (others.views[number] for number in nearest_views(poses, target.camera_to_world, len(poses)))
            inputs = list(islice(filter(photos.is_readable, nearest), num_inputs)) if photos.is_readable(target) else []
            yield self.rendered(target, inputs, photos, unit) if len(inputs) == num_inputs else None

    def rendered(self, target: View, inputs: list[View], photos: Photos, unit: float | None) -> HeldOutView:
        images, intrinsics = (torch.stack(each) for each in zip(*map(photos.fitted, inputs), strict = True))
        truth, target_intrinsics = photos.fitted(target)
        cameras, target_camera = Cameras(cameras_of(inputs).camera_to_world, intrinsics), Cameras(target.camera_to_world, target_intrinsics)

        with warnings.catch_warnings():
            warnings.simplefilter('ignore')    # several numbers of inputs are compared on purpose
            pred = synthesize(self.model, images, cameras, target_camera, self.size, input_size = self.size, pose_frame = self.pose_frame, unit = unit).cpu()

        views = dict(
            model = pred,
            sweep = best_plane_sweep(images, cameras, target_camera, truth),
            blur = best_blur(images.mean(dim = 0, keepdim = True), truth)[0],
            copy = max(images, key = lambda image: float(psnr(image, truth))),
        )
        found = figures_of(views, truth, self.similarity)
        return HeldOutView(dict(view = target.name, inputs = [view.name for view in inputs], **found), images, views['sweep'], pred, truth)


def figures_of(views: dict[str, Tensor], truth: Tensor, similarity: Similarity | None) -> dict[str, dict[str, float]]:
    """PSNR, SSIM and optionally LPIPS of views (3 h w) by name."""
    pred = torch.stack(tuple(views.values()))
    target = truth.expand_as(pred)
    found = score(pred, target)
    columns = dict(psnr = found.psnr.tolist(), ssim = found.ssim.tolist(), **({} if similarity is None else dict(lpips = similarity(pred, target))))
    return {name: {figure: values[place] for figure, values in columns.items()} for place, name in enumerate(views)}


def cameras_digest(scene: Scene) -> str:
    """Hash of the names and cameras of the views. Results of a set are reused while it is the same."""
    digest = hashlib.sha256('\n'.join(view.name for view in scene.views).encode())

    for t in cameras_of(scene.views):
        digest.update(t.contiguous().numpy().tobytes())

    return digest.hexdigest()


def evaluate_set(protocol: NearestInputs, scene: Scene, shown_inputs: int, step: Callable[[], object]) -> tuple[dict[str, Any], dict[str, HeldOutView]]:
    """Evaluates a set. Returns its record, and the worst, the best and the first view with `shown_inputs` inputs, for pictures.

    Args:
        step: Called after each view.

    Raises:
        BadView: If the set has too few photos, or no view that can be evaluated.
    """
    try:
        others, held_out = hold_out(scene)
    except ValueError as error:
        raise BadView(str(error)) from error

    photos = Photos(scene, protocol.size, protocol.filter)
    by_inputs: dict[str, list[dict[str, Any]]] = {}
    shown: dict[str, HeldOutView] = {}

    for num_inputs in protocol.num_inputs:
        found = []

        for view in protocol.views(scene, photos, num_inputs):
            step()

            if view is not None:
                found.append(view.figures)
                shown = with_extremes(shown, view) if num_inputs == shown_inputs else shown

        if found:
            by_inputs[str(num_inputs)] = found

    if not by_inputs:
        why = next(iter(photos.missing.values()), f'{len(others.views)} views beside those held out')
        fail(scene.name, f'must have a held-out view that can be rendered from {" or ".join(map(str, protocol.num_inputs))} others', why, 'Take fewer inputs by --num-inputs, or add photos.', BadView)

    held_out_names = {view.name for view in held_out.views}
    missing = [dict(photo = name, held_out = name in held_out_names, why = why) for name, why in photos.missing.items()]
    return dict(scene = scene.name, photos = len(scene.views), held_out = len(held_out.views[:protocol.max_views]), views = by_inputs, missing_photos = missing), shown


def with_extremes(shown: dict[str, HeldOutView], view: HeldOutView) -> dict[str, HeldOutView]:
    def quality(view: HeldOutView) -> float:
        return view.figures['model']['psnr']

    return dict(worst = min(shown.get('worst', view), view, key = quality), best = max(shown.get('best', view), view, key = quality), first = shown.get('first', view))
