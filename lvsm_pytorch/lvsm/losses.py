"""Training losses, and PSNR."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Generator, Tensor, nn
from torch.nn import Module, ModuleDict

from lvsm_pytorch.checks import check_floating, check_shape
from lvsm_pytorch.errors import fail
from lvsm_pytorch.files import read_tensors
from lvsm_pytorch.precision import at_least_float32, without_autocast

# layers of VGG-19 (Simonyan & Zisserman 2015) up to the last one that the loss uses: name, input channels, output channels

VGG_LAYERS = (
    ('conv1_1', 3, 64), ('conv1_2', 64, 64),
    ('conv2_1', 64, 128), ('conv2_2', 128, 128),
    ('conv3_1', 128, 256), ('conv3_2', 256, 256), ('conv3_3', 256, 256), ('conv3_4', 256, 256),
    ('conv4_1', 256, 512), ('conv4_2', 512, 512), ('conv4_3', 512, 512), ('conv4_4', 512, 512),
    ('conv5_1', 512, 512), ('conv5_2', 512, 512),
)

# indices of these layers in torchvision's `features`

TORCHVISION_LAYERS = dict(zip((name for name, *_ in VGG_LAYERS), (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30), strict = True))

FEATURE_WEIGHTS = dict(conv1_2 = 1 / 2.6, conv2_2 = 1 / 4.8, conv3_2 = 1 / 3.7, conv4_2 = 1 / 5.6, conv5_2 = 10 / 1.5)

MATCONVNET_MEAN = (123.68 / 255, 116.779 / 255, 103.939 / 255)
TORCHVISION_MEAN, TORCHVISION_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Weights = Mapping[str, tuple[Tensor, Tensor]]


def mse(pred: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of tensors of one shape, a scalar, computed in float32 or float64."""
    return F.mse_loss(at_least_float32(pred), at_least_float32(target))


def psnr(pred: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio (...) in dB of images (... c h w) in [0, 1]; infinite for equal images."""
    difference = at_least_float32(pred) - at_least_float32(target)
    return -10 * difference.square().mean(dim = (-3, -2, -1)).log10()


def root_mse(pred: Tensor, target: Tensor) -> Tensor:
    """Root mean squared error of each image, averaged over images (n c h w): a scalar, differentiable at 0."""
    difference = at_least_float32(pred) - at_least_float32(target)
    return (difference.square().mean(dim = (-3, -2, -1)) + 1e-5).sqrt().mean()


def ssim(pred: Tensor, target: Tensor, *, window: int = 7) -> Tensor:
    """Structural similarity of images (n c h w) in [0, 1], a scalar (Wang et al. 2004, "Image quality assessment", equation 13), in square windows of `window` pixels, which are cheap in training.

    Evaluation uses Gaussian windows (`evaluation.metrics`).
    """
    x, y = at_least_float32(pred), at_least_float32(target)
    window = min(window, *x.shape[-2:])

    def mean(images: Tensor) -> Tensor:
        return F.avg_pool2d(images, window, stride = 1)

    mean_x, mean_y = mean(x), mean(y)
    variance_x, variance_y, covariance = mean(x * x) - mean_x * mean_x, mean(y * y) - mean_y * mean_y, mean(x * y) - mean_x * mean_y
    c1, c2 = 0.01 ** 2, 0.03 ** 2
    return ((2 * mean_x * mean_y + c1) * (2 * covariance + c2) / ((mean_x ** 2 + mean_y ** 2 + c1) * (variance_x + variance_y + c2))).mean()


class LossBreakdown(NamedTuple):
    """The parts of the loss before weighting; zero for parts that are not computed.

    Attributes:
        mse: Mean squared error.
        perceptual: Perceptual loss.
        ssim: 1 - structural similarity.
        depth: Cross entropy of the distribution over depth planes.
    """
    mse: Tensor
    perceptual: Tensor
    ssim: Tensor
    depth: Tensor


class ViewLoss(Module):
    """The training loss: the paper's mean squared error + weight × perceptual loss, and optional terms.

    Args:
        weight: Weight of the perceptual loss.
        image_loss: 'mse', or 'rmse' for the mean of the root mean squared errors of views, which weighs views like a mean of their PSNR.
        ssim_weight: Weight of 1 - SSIM (Wang et al. 2004) in windows of 7 × 7 pixels.
        depth_weight: Weight of the depth loss.
        perceptual_loss: Called as `perceptual_loss(pred, target)` with images (n c h w) in [0, 1]; the loss uses its mean. It is frozen and moved to the device of the module, but is
            not part of `parameters()` and `state_dict()`.
    """

    place: Tensor

    def __init__(
        self, perceptual_loss: Callable[[Tensor, Tensor], Tensor] | None, weight: float, *, image_loss: Literal['mse', 'rmse'] = 'mse', ssim_weight: float = 0., depth_weight: float = 0.,
    ):
        super().__init__()
        self.weight = weight
        self.image_loss = image_loss
        self.ssim_weight = ssim_weight
        self.depth_weight = depth_weight
        self.hidden = (perceptual_loss,)  # a tuple, so that torch does not register a submodule
        self.register_buffer('place', torch.empty(0), persistent = False)

        if isinstance(perceptual_loss, Module):
            perceptual_loss.requires_grad_(False).eval()

    @property
    def perceptual_loss(self) -> Callable[[Tensor, Tensor], Tensor] | None:
        return self.hidden[0]

    def _apply(self, fn: Callable, recurse: bool = True) -> ViewLoss:
        """Moves the perceptual loss along with `.to`, `.cuda` and others, in its own precision. It is never moved to the meta device, which would lose its weights."""
        super()._apply(fn, recurse)

        if isinstance(self.perceptual_loss, Module) and not self.place.is_meta:
            self.perceptual_loss.to(self.place.device)

        return self

    def forward(self, pred: Tensor, target: Tensor, depth: Tensor | None = None) -> tuple[Tensor, LossBreakdown]:
        """Computes the loss and its parts for views (... c h w) in [0, 1].

        Args:
            pred: Rendered views.
            target: Target views.
            depth: The depth loss, a scalar.
        """
        pred, target = (rearrange(images, '... c h w -> (...) c h w') for images in (pred, target))
        error = mse(pred, target)
        perceptual = dissimilarity = torch.zeros_like(error)

        if self.perceptual_loss is not None and self.weight > 0:
            perceptual = self.perceptual_loss(pred, target.to(pred.dtype)).mean()

        if self.ssim_weight > 0:
            dissimilarity = 1 - ssim(pred, target)

        breakdown = LossBreakdown(error, perceptual, dissimilarity, torch.zeros_like(error) if depth is None else depth)
        image = error if self.image_loss == 'mse' else root_mse(pred, target)
        return image + self.weight * perceptual + self.ssim_weight * dissimilarity + self.depth_weight * breakdown.depth, breakdown


class PerceptualLoss(Module):
    """The paper's perceptual loss: Chen & Koltun 2017, "Photographic Image Synthesis with Cascaded Refinement Networks".

    A VGG-19 with average instead of max pooling encodes both images. The loss is the mean absolute difference of the pixels
    (in units of 1/255), plus those of relu1_2, 2_2, 3_2, 4_2 and 5_2, weighted by 1/2.6, 1/4.8, 1/3.7, 1/5.6 and 10/1.5,
    all over 255. It is frozen, and computes in float32 also inside autocast.

    Use `from_matconvnet` (the paper's weights) or `from_torchvision`; the library does not include the weights.

    Args:
        weights: (weight, bias) of each layer of `VGG_LAYERS`, by name.
        mean: Mean of the input normalisation (x - mean) / std, for images x in [0, 1].
        std: Standard deviation of the input normalisation.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, weights: Weights, *, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        check_weights(weights)

        self.layers = ModuleDict()

        for name, channels_in, channels_out in VGG_LAYERS:
            layer = nn.Conv2d(channels_in, channels_out, 3, padding = 1)
            layer.load_state_dict(dict(zip(('weight', 'bias'), weights[name], strict = True)))
            self.layers[name] = layer

        self.register_buffer('mean', torch.tensor(mean).view(3, 1, 1), persistent = False)
        self.register_buffer('std', torch.tensor(std).view(3, 1, 1), persistent = False)
        self.feature_scale = 255 * sum(std) / 3

        self.requires_grad_(False)
        self.eval()

    @classmethod
    def from_matconvnet(cls, path: str | PathLike[str]) -> PerceptualLoss:
        """Loads the paper's weights from a file `imagenet-vgg-verydeep-19.mat` of MatConvNet, whose input is 255 x - (123.68, 116.779, 103.939).

        Raises:
            ImportError: Without scipy (extra `perceptual`).
            ValueError: If the file is missing or has another network.
        """
        try:
            from scipy.io import loadmat
        except ImportError as error:
            raise ImportError('reading MatConvNet weights needs scipy: pip install "lvsm-pytorch[perceptual]"') from error

        if not Path(path).is_file():
            fail('path', 'must be a file of VGG-19 weights', repr(str(path)), 'Download it first; the library does not include it.')

        network = loadmat(path, squeeze_me = True, struct_as_record = False)

        if 'layers' not in network:
            fail('path', 'must be MatConvNet\'s imagenet-vgg-verydeep-19.mat', f'a file with {sorted(k for k in network if not k.startswith("__"))}', 'It has a variable `layers`.')

        weights = {}

        for layer in network['layers']:
            # newer files keep both in `weights`, older ones in two fields; filters are (h w in out)

            pair = getattr(layer, 'weights', None) if hasattr(layer, 'weights') else (getattr(layer, 'filters', None), getattr(layer, 'biases', None))

            if layer.name in TORCHVISION_LAYERS and pair is not None and len(pair) == 2:
                filters, bias = (torch.as_tensor(array, dtype = torch.float32) for array in pair)
                weights[layer.name] = (filters.permute(3, 2, 0, 1), bias.flatten())

        return cls(weights, mean = MATCONVNET_MEAN, std = (1 / 255,) * 3)

    @classmethod
    def from_torchvision(cls, weights: str | PathLike[str] | Mapping[str, Any] | None = None) -> PerceptualLoss:
        """Loads VGG-19 of torchvision, with its own input normalisation.

        The paper's weights of the layers are for a network whose input is in units of 1/255. Torchvision's input is in units of its std, about
        57 times as large, so features are multiplied by 255 × mean std. The two networks are trained separately, so that the losses are similar, not equal.

        Args:
            weights: A file of its state dict, or the state dict. With None, torchvision downloads IMAGENET1K_V1, which needs the extra `perceptual`.

        Raises:
            ImportError: Without torchvision for the download.
            ValueError: If the weights are of another network.
        """
        if weights is None:
            try:
                from torchvision.models import VGG19_Weights  # pyright: ignore[reportMissingImports]
            except ImportError as error:
                raise ImportError('downloading torchvision\'s weights needs torchvision: pip install "lvsm-pytorch[perceptual]"') from error

            weights = dict(VGG19_Weights.IMAGENET1K_V1.get_state_dict(progress = True, check_hash = True))

        state = weights if isinstance(weights, Mapping) else read_tensors(weights, argument = 'weights')

        if not isinstance(state, Mapping):
            fail('weights', 'must be the state dict of torchvision\'s vgg19', type(state).__name__, 'Save model.state_dict(), not the model.')

        pairs = {name: (state.get(f'features.{index}.weight'), state.get(f'features.{index}.bias')) for name, index in TORCHVISION_LAYERS.items()}
        found = {name: (weight, bias) for name, (weight, bias) in pairs.items() if weight is not None and bias is not None}
        return cls(found, mean = TORCHVISION_MEAN, std = TORCHVISION_STD)

    @classmethod
    def with_random_weights(cls, generator: Generator | None = None) -> PerceptualLoss:
        """Returns the paper's network with random filters that preserve the scale of features (He et al. 2015), for tests."""
        weights = {}

        for name, channels_in, channels_out in VGG_LAYERS:
            weight = torch.randn(channels_out, channels_in, 3, 3, generator = generator) * (2 / (9 * channels_in)) ** 0.5
            weights[name] = (weight, torch.randn(channels_out, generator = generator) * 0.1)

        return cls(weights, mean = MATCONVNET_MEAN, std = (1 / 255,) * 3)

    def train(self, mode: bool = True) -> PerceptualLoss:
        """Keeps the module in eval mode."""
        return super().train(False)

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Computes the loss, a scalar. Gradients flow to `pred` only.

        Args:
            pred: (b 3 h w) in [0, 1], h and w at least 16.
            target: (b 3 h w) in [0, 1], as `pred`.

        Raises:
            ValueError: If shapes or types are others.
        """
        check_floating(pred = pred, target = target)
        sizes = check_shape('b 3 h w', None, 'The network was trained on images of three channels.', pred = pred)
        check_shape('b 3 h w', sizes, target = target)

        if min(sizes['h'], sizes['w']) < 16:
            fail('pred', 'must be at least 16 high and wide, because the network halves it four times', (sizes['h'], sizes['w']), 'Use larger images or no perceptual loss.')

        with without_autocast(pred.device.type):
            pred, target = pred.float(), target.detach().float()
            loss = 255 * F.l1_loss(pred, target)

            with torch.no_grad():
                target_features = self.features(target)

            for name, feature in self.features(pred).items():
                loss = loss + FEATURE_WEIGHTS[name] * self.feature_scale * F.l1_loss(feature, target_features[name])

            return loss / 255

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """Returns the features of the layers that the loss uses, by the name of the convolution, after its ReLU, for images (b 3 h w) in [0, 1]."""
        x = (images - self.mean.to(images.dtype)) / self.std.to(images.dtype)
        block, features = '1', {}

        for name, layer in self.layers.items():
            if name[len('conv')] != block:
                block = name[len('conv')]
                x = F.avg_pool2d(x, 2)

            x = F.relu(layer(x))

            if name in FEATURE_WEIGHTS:
                features[name] = x

        return features


def check_weights(weights: Weights) -> None:
    wrong = []

    for name, channels_in, channels_out in VGG_LAYERS:
        expected = ((channels_out, channels_in, 3, 3), (channels_out,))
        got = tuple(tuple(t.shape) for t in weights[name]) if name in weights else None

        if got != expected:
            wrong.append(f'{name}: {expected}, got {got or "nothing"}')

    if wrong:
        fail('weights', 'must be those of VGG-19', '; '.join(wrong), 'Pass the file of VGG-19, not of another network.')
