"""What is compared: networks, and how they are trained."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lvsm_pytorch import LVSM
from lvsm_pytorch.configs.train import TrainConfig
from lvsm_pytorch.configs.yaml import load_config
from lvsm_pytorch.data import Batch

sys.path.append(str(Path(__file__).parents[1]))

from seed import install_seed

SIZES = dict(dim = 128, depth = 6, dim_head = 32, patch_size = 4)


@dataclass(frozen = True)
class Arm:
    """network: ours, or lvsm-pytorch 0.1.6. options: of LVSM, beside its sizes. targets: of each scene in a step. recipe: of `TrainConfig`, over the paper's.

    torch_init: every linear map begins as torch has it, instead of the paper's small numbers.
    """
    name: str
    network: Literal['ours', 'seed'] = 'ours'
    options: dict[str, Any] = field(default_factory = dict)
    targets: int = 1
    recipe: dict[str, Any] = field(default_factory = dict)
    torch_init: bool = False

    def config(self, **changes: Any) -> TrainConfig:
        """The paper's run, with the changes of `recipe`."""
        return replace(load_config('paper'), **self.recipe, **changes)

    def path(self, out: Path, seed: int, steps: int) -> Path:
        """Of the file that remembers a run."""
        return out / f'{self.name.replace(", ", "-").replace(" ", "-")}-seed-{seed}-of-{steps}.pt'


FAST = dict(learning_rate = 2e-3)
MUON = dict(learning_rate = 2e-3, optimizer = 'muon')

CACHEABLE = dict(input_attends_target = False)
GATED = dict(decoder_kwargs = dict(ff_glu = True))
VALUE_RESIDUAL = dict(decoder_kwargs = dict(add_value_residual = True, learned_value_residual_mix = True))
PROPE = dict(camera_encoding = 'prope')
SWEPT = dict(num_depth_planes = 16)

ARMS = {
    arm.name: arm for arm in (
        Arm('paper'),
        Arm('paper, 2e-3', recipe = FAST),
        Arm('paper, muon', recipe = MUON),
        Arm('0.1.6', network = 'seed'),
        Arm('0.1.6, 2e-3', network = 'seed', recipe = FAST),
        Arm('0.1.6, muon', network = 'seed', recipe = MUON),
        Arm('prope, 2e-3', options = PROPE, recipe = FAST),
        Arm('prope, muon', options = PROPE, recipe = MUON),
        Arm('sweep, muon', options = SWEPT, recipe = MUON),
        Arm('sweep prope', options = SWEPT | PROPE),
        Arm('sweep prope, 2e-3', options = SWEPT | PROPE, recipe = FAST),
        Arm('sweep prope, muon', options = SWEPT | PROPE, recipe = MUON),
        Arm('cacheable sweep prope, muon', options = SWEPT | PROPE | CACHEABLE, recipe = MUON),
        Arm('cacheable sweep prope, 3 targets, muon', options = SWEPT | PROPE | CACHEABLE, targets = 3, recipe = MUON),
        Arm('gated sweep prope, muon', options = SWEPT | PROPE | GATED, recipe = MUON),
        Arm('sweep prope, torch init, muon', options = SWEPT | PROPE, recipe = MUON, torch_init = True),
        Arm('value residual, 2e-3', options = VALUE_RESIDUAL, recipe = FAST),
    )
}


class Network(nn.Module):
    """One call for all: the views (b t 3 h w) of a batch, or with `loss` how far off they are."""

    def __init__(self, arm: Arm, image_size: int, folder: Path, **sizes: int):
        super().__init__()
        self.is_ours = arm.network == 'ours'
        sizes = {**SIZES, **sizes}

        if self.is_ours:
            self.model: nn.Module = LVSM(**sizes, max_image_size = image_size, **arm.options)
        else:
            heads = sizes['dim'] // sizes['dim_head']
            self.model = seed_library(folder).LVSM(**sizes, heads = heads, max_image_size = image_size, perceptual_loss_weight = 0, **arm.options)

        if arm.torch_init:
            for module in self.model.modules():
                if isinstance(module, nn.Linear):
                    module.reset_parameters()

    def forward(self, batch: Batch, *, loss: bool) -> Tensor:
        if self.is_ours:
            return self.model(**batch.arguments(), target_images = batch.target_images if loss else None)

        # 0.1.6 has one target a scene: a scene with several is several scenes

        b, t = batch.target_images.shape[:2]
        inputs = dict(input_images = batch.input_images.repeat_interleave(t, dim = 0), input_rays = batch.input_rays.repeat_interleave(t, dim = 0))
        out = self.model(**inputs, target_rays = batch.target_rays.flatten(0, 1), target_images = batch.target_images.flatten(0, 1) if loss else None)
        return out if loss else out.unflatten(0, (b, t))

    @torch.no_grad()
    def views(self, batch: Batch) -> Tensor:
        """(b t 3 h w), in eval mode."""
        self.eval()
        views = self(batch, loss = False)
        self.train()
        return views


@lru_cache
def seed_library(folder: Path) -> ModuleType:
    """0.1.6, which has the name of ours: its one file as a module of another name, installed into the folder where it is not there yet."""
    install_seed(folder)
    package = folder / 'lvsm_pytorch'
    sys.path.append(str(folder))
    has_torchvision = importlib.util.find_spec('torchvision') is not None

    def load(name: str, file: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, package / file)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    if not has_torchvision:
        sys.modules['torchvision'] = ModuleType('torchvision')  # it is for the perceptual loss, which is off, and for nothing else

    load('lvsm_pytorch.tensor_typing', 'tensor_typing.py')
    library = load('lvsm_pytorch_016', 'lvsm.py')

    if not has_torchvision:
        del sys.modules['torchvision']

    return library
