"""How good views are, beside two baselines that need no model."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from lvsm_pytorch.data.sources import Batch
from lvsm_pytorch.execution import in_eval_mode
from lvsm_pytorch.lvsm.losses import psnr
from lvsm_pytorch.lvsm.model import LVSM
from lvsm_pytorch.lvsm.views import chunks

# standard deviations of the blur, as fractions of the image's height

BLURS = (1 / 64, 1 / 32, 1 / 24, 1 / 16, 1 / 12, 1 / 8, 1 / 6, 1 / 4)


class Score(NamedTuple):
    """PSNR in dB and SSIM, for each view (n)."""
    psnr: Tensor
    ssim: Tensor

    def means(self) -> tuple[float, float]:
        return self.psnr.mean().item(), self.ssim.mean().item()


class Baselines(NamedTuple):
    """What needs no model. copy: the better input view. blur: the blurred mean of the inputs."""
    copy: Score
    blur: Score


def score(pred: Tensor, target: Tensor) -> Score:
    """Of images (... c h w) in [0, 1]. SSIM (Wang et al. 2004) is torchmetrics', with a Gaussian window of 11."""
    try:
        from torchmetrics.functional.image import structural_similarity_index_measure as ssim
    except ImportError as error:
        raise ImportError('SSIM needs torchmetrics: pip install "lvsm-pytorch[train]"') from error

    pred, target = (rearrange(images.float(), '... c h w -> (...) c h w') for images in (pred, target))
    similarity = ssim(pred, target, data_range = 1., reduction = 'none')
    assert isinstance(similarity, Tensor)
    return Score(psnr(pred, target), similarity.reshape(len(pred)))


@torch.no_grad()
def render_batch(model: LVSM, batch: Batch, *, batch_size: int = 16) -> Tensor:
    """The targets of a batch as the model sees them, (b t 3 h w) on the CPU, rendered in eval mode and `batch_size` scenes at a time."""
    device = next(model.parameters()).device
    views = batch.input_images, batch.input_rays, batch.target_rays

    with in_eval_mode(model):
        return torch.cat([
            model(*(t[some].to(device) for t in views), cameras = batch.cameras[some].to(device)).cpu() for some in chunks(len(batch.names), batch_size)
        ])


def baselines(batch: Batch) -> Baselines:
    return Baselines(copied_input(batch), blurred_mean(batch))


def figures(**scores: Score) -> dict[str, float]:
    """Means of scores by name, as they are logged."""
    return {f'{name}_{figure}': value for name, score in scores.items() for figure, value in zip(score._fields, score.means(), strict = True)}


def copied_input(batch: Batch) -> Score:
    """The better input view of each target, by PSNR: copied."""
    num_inputs, num_targets = batch.input_images.shape[1], batch.target_images.shape[1]
    pairs = [images.unsqueeze(axis).expand(-1, num_inputs, num_targets, -1, -1, -1) for images, axis in ((batch.input_images, 2), (batch.target_images, 1))]
    all_pairs = Score(*(rearrange(values, '(b v t) -> b v t', v = num_inputs, t = num_targets) for values in score(*pairs)))
    best = all_pairs.psnr.argmax(dim = 1, keepdim = True)
    return Score(*(values.gather(1, best).flatten() for values in all_pairs))


def blurred_mean(batch: Batch) -> Score:
    """The mean of the inputs, blurred as much as is best by mean PSNR: the best guess without knowing anything of cameras."""
    mean = batch.input_images.mean(dim = 1)
    height = mean.shape[-2]
    candidates = [gaussian_blur(mean, sigma * height).unsqueeze(1).expand_as(batch.target_images) for sigma in BLURS]
    best = max(candidates, key = lambda blurred: psnr(blurred, batch.target_images).mean())
    return score(best, batch.target_images)


def gaussian_blur(images: Tensor, sigma: float) -> Tensor:
    """Images (b c h w) blurred by a Gaussian of `sigma` pixels, cut off at 3 sigma; edges are repeated outwards."""
    reach = max(round(3 * sigma), 1)
    x = torch.arange(-reach, reach + 1, device = images.device)
    kernel = torch.exp(-(x / sigma) ** 2 / 2)
    kernel = kernel / kernel.sum()

    flat = rearrange(images, 'b c h w -> (b c) 1 h w')
    flat = F.conv2d(F.pad(flat, (reach, reach, 0, 0), mode = 'replicate'), kernel.view(1, 1, 1, -1))
    flat = F.conv2d(F.pad(flat, (0, 0, reach, reach), mode = 'replicate'), kernel.view(1, 1, -1, 1))
    return rearrange(flat, '(b c) 1 h w -> b c h w', b = len(images))


def table(found: dict[str, float]) -> str:
    """Of figures, for people."""
    labels = dict(model = 'model', blur = 'blurred mean of the inputs', copy = 'better input, copied', trained = 'model, of views it trained on')
    rows = [f'{"held-out views":30} {"PSNR":>9} {"SSIM":>7}']
    rows += [f'{label:30} {found[f"{name}_psnr"]:6.2f} dB {found[f"{name}_ssim"]:7.3f}' for name, label in labels.items() if f'{name}_psnr' in found]
    return '\n'.join(rows)
