"""What the presets of `lvsm train` take, by counting: weights, floating-point operations of a run, and memory of the tensors of each process.

python benchmarks/presets.py [--perceptual-loss] [--config NAME] [--processes N]

Nothing is computed: tensors are torch's fake ones, which have shapes and no values. On top of the memory come a GPU's context, what its
allocator leaves between tensors, and workspaces of its kernels.
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

import torch
from memory import PeakMemory
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lvsm_pytorch import LVSM, PerceptualLoss
from lvsm_pytorch.configs.train import TrainConfig
from lvsm_pytorch.configs.yaml import load_config
from lvsm_pytorch.geometry.cameras import Cameras
from lvsm_pytorch.training.runs import model_of

PROCESSES = {'demo': 1, 'solids-128': 1, 'one-gpu': 1, 'two-gpus': 2, 'paper': 64, 'modern': 64}

# beside a weight and its gradient, AdamW has two moments (Muon one, of most weights); all in float32

BYTES_PER_WEIGHT = 3 * 4


class Takes(NamedTuple):
    """weights: their number. flops: of a whole run, by all processes. memory: bytes of the tensors of one process, at their most."""
    weights: int
    flops: int
    memory: int


class Step(nn.Module):
    """Loss and gradients, in one call, since checkpointed blocks look for their weights once more in the backward pass."""

    def __init__(self, model: LVSM, *, bf16: bool):
        super().__init__()
        self.model = model
        self.bf16 = bf16

    def forward(self, *views: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast('cpu', torch.bfloat16, enabled = self.bf16):
            loss = self.model(*views[:4], cameras = Cameras(*views[4:]))

        return torch.autograd.grad(loss, list(self.model.parameters()))


def count(config: TrainConfig, processes: int, perceptual_loss: PerceptualLoss | None = None) -> Takes:
    """What a run of the config takes, shared by so many processes."""
    at_once = config.samples_at_once(processes)
    model = LVSM(**model_of(config).config, gradient_checkpointing = config.gradient_checkpointing, perceptual_loss = perceptual_loss)
    step = Step(model, bf16 = config.bf16)
    fake = FakeTensorMode(allow_non_fake_inputs = True)  # of the perceptual loss
    weights = {name: fake.from_tensor(weight.detach()).requires_grad_() for name, weight in step.named_parameters()}

    def run() -> None:
        def view(views: int, channels: int) -> Tensor:
            return torch.rand(at_once, views, channels, *config.size)

        views = view(config.num_inputs, 3), view(config.num_inputs, 6), view(config.num_targets, 6), view(config.num_targets, 3)
        cameras = (torch.rand(at_once, config.num_inputs + config.num_targets, n, n) for n in (4, 3))
        torch.func.functional_call(step, weights, (*views, *cameras))

    with fake:
        with PeakMemory() as memory:
            run()

        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display = False) as counter:
            run()

    num_weights = sum(weight.numel() for weight in weights.values())
    flops = counter.get_total_flops() * config.accumulate * processes * config.steps
    return Takes(num_weights, flops, memory.peak + num_weights * BYTES_PER_WEIGHT)


def main() -> None:
    parser = argparse.ArgumentParser(description = (__doc__ or '').split('\n')[0])
    parser.add_argument('--perceptual-loss', action = 'store_true', help = "with the paper's")
    parser.add_argument('--config', help = 'a preset or a YAML file; left out, all presets')
    parser.add_argument('--processes', type = int, default = 1)
    arguments = parser.parse_args()
    perceptual_loss = PerceptualLoss.with_random_weights() if arguments.perceptual_loss else None

    for name, processes in PROCESSES.items() if arguments.config is None else [(arguments.config, arguments.processes)]:
        weights, flops, memory = count(load_config(name), processes, perceptual_loss)
        print(f'{name}, {processes} processes: {weights / 1e6:.1f} million weights, {flops:.1e} operations, {memory / 2 ** 30:.1f} GiB in each')


if __name__ == '__main__':
    main()
