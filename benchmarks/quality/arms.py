"""What is compared: networks, and how they are trained."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lvsm_pytorch import LVSM
from lvsm_pytorch.data import Batch

sys.path.append(str(Path(__file__).parents[1]))

from seed import install_seed

SIZES = dict(dim = 128, depth = 6, dim_head = 32, patch_size = 4)


@dataclass(frozen = True)
class Arm:
    """network: ours, or lvsm-pytorch 0.1.6. options: of LVSM, beside its sizes. targets: of each scene in a step.

    optimizer: adamw is the paper's; muon has torch's Muon (Jordan et al. 2024) for the matrices of the blocks, AdamW for the rest.
    learning_rate: of AdamW. torch_init: every linear map begins as torch has it, instead of the paper's small numbers.
    """
    name: str
    network: Literal['ours', 'seed'] = 'ours'
    options: dict[str, Any] = field(default_factory = dict)
    targets: int = 1
    optimizer: Literal['adamw', 'muon'] = 'adamw'
    learning_rate: float = 4e-4
    torch_init: bool = False


CACHEABLE = dict(input_attends_target = False)
PROPE = dict(camera_encoding = 'prope')
GATED = dict(decoder_kwargs = dict(ff_glu = True))

ARMS = {
    arm.name: arm for arm in (
        Arm('paper'),
        Arm('paper, 2e-3', learning_rate = 2e-3),
        Arm('0.1.6', network = 'seed'),
        Arm('0.1.6, 2e-3', network = 'seed', learning_rate = 2e-3),
        Arm('prope', options = PROPE),
        Arm('prope, 2e-3', options = PROPE, learning_rate = 2e-3),
        Arm('cacheable, 3 targets, 2e-3', options = CACHEABLE, targets = 3, learning_rate = 2e-3),
        Arm('cacheable prope, 3 targets, 2e-3', options = PROPE | CACHEABLE, targets = 3, learning_rate = 2e-3),
        Arm('gated prope, torch init, 2e-3', options = PROPE | GATED, learning_rate = 2e-3, torch_init = True),
        Arm('paper, muon', optimizer = 'muon', learning_rate = 2e-3),
        Arm('gated prope, torch init, muon', options = PROPE | GATED, optimizer = 'muon', learning_rate = 2e-3, torch_init = True),
        Arm('gated cacheable prope, 3 targets, torch init, muon', options = PROPE | CACHEABLE | GATED, targets = 3, optimizer = 'muon', learning_rate = 2e-3, torch_init = True),
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
        told: dict[str, Any] = dict(input_images = batch.input_images, input_rays = batch.input_rays, target_rays = batch.target_rays)

        if self.is_ours:
            return self.model(**told, target_images = batch.target_images if loss else None, cameras = batch.cameras)

        # 0.1.6 has one target a scene: a scene with several is several scenes

        b, t = batch.target_images.shape[:2]
        told = {name: each.flatten(0, 1) if name == 'target_rays' else each.repeat_interleave(t, dim = 0) for name, each in told.items()}
        out = self.model(**told, target_images = batch.target_images.flatten(0, 1) if loss else None)
        return out if loss else out.unflatten(0, (b, t))


class Optimizers:
    """One or two of them, as one. Their learning rates follow the same schedule."""

    def __init__(self, network: nn.Module, arm: Arm):
        matrices = {p for name, p in network.named_parameters() if p.ndim == 2 and 'decoder.' in name} if arm.optimizer == 'muon' else set()
        rest = [p for p in network.parameters() if p not in matrices]
        groups = [dict(params = [p for p in rest if p.ndim > 1], weight_decay = 0.05), dict(params = [p for p in rest if p.ndim <= 1], weight_decay = 0.)]
        self.all: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr = arm.learning_rate, betas = (0.9, 0.95))]

        if matrices:
            self.all.append(torch.optim.Muon([p for p in network.parameters() if p in matrices], lr = 0.02, weight_decay = 0.))

        self.highest = [[group['lr'] for group in optimizer.param_groups] for optimizer in self.all]

    def step(self, fraction: float) -> None:
        """fraction: of the highest learning rate."""
        for optimizer, highest in zip(self.all, self.highest, strict = True):
            for group, rate in zip(optimizer.param_groups, highest, strict = True):
                group['lr'] = rate * fraction

            optimizer.step()
            optimizer.zero_grad()

    def state_dict(self) -> list[dict]:
        return [optimizer.state_dict() for optimizer in self.all]

    def load_state_dict(self, states: list[dict]) -> None:
        for optimizer, state in zip(self.all, states, strict = True):
            optimizer.load_state_dict(state)


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
