"""Image metrics (PSNR, SSIM), and two baselines that need no model."""

from __future__ import annotations

from typing import NamedTuple

import torch
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
    """Scores of the baselines that need no model.

    Attributes:
        copy: Score of the better input view.
        blur: Score of the blurred mean of the input views.
    """
    copy: Score
    blur: Score


def score(pred: Tensor, target: Tensor) -> Score:
    """Computes PSNR and SSIM of images (... c h w) in [0, 1]. SSIM (Wang et al. 2004) is that of torchmetrics, with a Gaussian window of 11 pixels."""
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
    """Renders the target views (b t 3 h w) of a batch in eval mode, `batch_size` scenes at a time, and returns them on the CPU."""
    if batch.target_images.numel() == 0:
        return torch.zeros_like(batch.target_images)

    device = next(model.parameters()).device

    with in_eval_mode(model):
        return torch.cat([model(**batch.samples(some).to(device).arguments()).cpu() for some in chunks(len(batch.names), batch_size)])


def baselines(batch: Batch) -> Baselines:
    return Baselines(copied_input(batch), blurred_mean(batch))


def figures(**scores: Score) -> dict[str, float]:
    """Returns the means of scores by name, for example `model_psnr`, as they are logged."""
    return {f'{name}_{figure}': value for name, score in scores.items() for figure, value in zip(score._fields, score.means(), strict = True)}


def copied_input(batch: Batch) -> Score:
    """Scores the baseline that copies the better input view, by PSNR, for each target view."""
    pairs = psnr(rearrange(batch.input_images, 'b v c h w -> b v 1 c h w'), rearrange(batch.target_images, 'b t c h w -> b 1 t c h w'))
    best = pairs.argmax(dim = 1)
    copies = batch.input_images.gather(1, best[..., None, None, None].expand_as(batch.target_images))
    return score(copies, batch.target_images)


def blurred_mean(batch: Batch) -> Score:
    """Scores the baseline of the blurred mean of the input views, with the best blur by mean PSNR. It does not use cameras."""
    mean = batch.input_images.mean(dim = 1, keepdim = True).expand_as(batch.target_images)
    return score(best_blur(mean, batch.target_images), batch.target_images)


def best_blur(images: Tensor, target: Tensor) -> Tensor:
    """Blurs images (... c h w) by that of `BLURS` which gives the best mean PSNR to the target (... c h w). All images have the same blur."""
    blurred = (gaussian_blur(images, sigma * images.shape[-2]) for sigma in BLURS)
    return max(blurred, key = lambda each: float(psnr(each, target).mean()))


def gaussian_blur(images: Tensor, sigma: float) -> Tensor:
    """Blurs images (... c h w) with a Gaussian of `sigma` pixels, truncated at 3 sigma, with replicate padding."""
    rows, columns = (blur_matrix(length, sigma).to(images) for length in images.shape[-2:])
    return rows @ images @ columns.mT


def blur_matrix(length: int, sigma: float) -> Tensor:
    """Returns the blur of a line of pixels as a matrix (length length). For wide blurs on CPUs it is many times as fast as a convolution."""
    reach = max(round(3 * sigma), 1)
    x = torch.arange(-reach, reach + 1)
    kernel = torch.exp(-(x / sigma) ** 2 / 2)
    sources = (torch.arange(length).unsqueeze(1) + x).clamp(0, length - 1)
    return torch.zeros(length, length).scatter_add_(1, sources, (kernel / kernel.sum()).expand_as(sources))


def table(found: dict[str, float]) -> str:
    """Formats metrics of `figures` as a table."""
    labels = dict(model = 'model', initial = 'model before training', blur = 'blurred mean of the inputs', copy = 'better input, copied', trained = 'model, of views it trained on')
    rows = [f'{"held-out views":30} {"PSNR":>9} {"SSIM":>7}']
    rows += [f'{label:30} {found[f"{name}_psnr"]:6.2f} dB {found[f"{name}_ssim"]:7.3f}' for name, label in labels.items() if f'{name}_psnr' in found]
    return '\n'.join(rows)
