"""The benchmarks measure what they say: run on work of milliseconds, and the limit counted against the model."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import PAPER, tiny_model
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lvsm_pytorch import PerceptualLoss
from lvsm_pytorch.configs.train import TrainConfig
from lvsm_pytorch.training.runs import model_of

BENCHMARKS = Path(__file__).parents[2] / 'benchmarks'
sys.path.insert(0, str(BENCHMARKS))

from case import Implementation, Work  # noqa: E402
from memory import PeakMemory  # noqa: E402
from presets import count  # noqa: E402
from products import all_products, flops, forward_products  # noqa: E402
from turns import Machine, take_turns  # noqa: E402

SMALL = dict(dim = 32, depth = 2, size = 16, dim_head = 16, inputs = 3, targets = 2, batch = 2)


@pytest.mark.parametrize('job', ['train', 'render'])
@pytest.mark.parametrize('cacheable', [False, True])
def test_the_limit_has_the_matrix_products_of_the_model(cacheable, job):
    work = Work(job, **SMALL)
    model = tiny_model(input_attends_target = not cacheable)
    views = torch.rand(2, 3, 3, 16, 16), torch.rand(2, 3, 6, 16, 16), torch.rand(2, 2, 6, 16, 16)
    scene = model.encode(*views[:2])

    with sdpa_kernel(SDPBackend.MATH), torch.no_grad(), FlopCounterMode(display = False) as counter:
        if job == 'render' and cacheable:
            model.render(scene, views[2])
        else:
            model(*views)

    assert flops(forward_products(work, cacheable = cacheable, depth = 2)) == counter.get_total_flops()


def test_the_limit_of_training_has_the_gradients_too():
    """Two products more for each, but one where there is no gradient of the left factor: that of what comes in."""
    def counted(job):
        run = all_products(Work(job, **SMALL), cacheable = False, depth = 2, dtype = torch.float32, device = torch.device('cpu'))
        with FlopCounterMode(display = False) as counter:
            run()
        return counter.get_total_flops()

    products = forward_products(Work('train', **SMALL), cacheable = False, depth = 2)
    assert counted('render') == flops(products)
    assert counted('train') == 3 * flops(products) - flops([product for product in products if not product.wants_input])


def test_what_a_preset_takes_is_counted():
    config = TrainConfig(**PAPER, image_size = 16, num_inputs = 3, num_targets = 2, dim = 32, depth = 2, dim_head = 16, steps = 5, batch_size = 4)
    takes = count(config, processes = 1)
    assert takes.weights == sum(weight.numel() for weight in model_of(config).parameters())

    # gradients take two products for each of the forward pass, but of what comes in one

    products = forward_products(Work('train', **{**SMALL, 'batch': 4}), cacheable = False, depth = 2)
    assert takes.flops == 5 * (3 * flops(products) - flops([product for product in products if not product.wants_input]))

    # the same work in parts, by more processes, or anew for the gradients

    assert count(replace(config, accumulate = 2), processes = 2).flops == takes.flops
    assert count(replace(config, accumulate = 2), processes = 1).memory < takes.memory
    checkpointed = count(replace(config, gradient_checkpointing = True), processes = 1)
    assert checkpointed.memory < takes.memory
    assert checkpointed.flops > takes.flops
    assert count(config, 1, PerceptualLoss.with_random_weights()).memory > takes.memory


def test_the_peak_is_of_what_lives_at_once():
    with PeakMemory() as memory:
        for _ in range(3):
            torch.zeros(1000).add_(1).view(10, 100)
        kept = torch.zeros(500)
        torch.zeros(200)
    assert memory.peak == 4000
    assert memory.now == 4 * kept.numel()


@pytest.mark.slow
def test_workers_take_turns(tmp_path):
    work = Work('train', dim = 64, depth = 1, size = 16, batch = 1)
    ours = Implementation('ours', checkpointing = True)
    limit = Implementation('limit', kind = 'products')
    cores = sorted(os.sched_getaffinity(0))[:1] if hasattr(os, 'sched_getaffinity') else []
    measured = take_turns(work, [ours, limit, Implementation('plain', kind = 'plain')], Machine('cpu', cores, tmp_path), rounds = 3, warm_up = 1)
    assert list(measured) == ['ours', 'limit', 'plain']
    for each in measured.values():
        assert len(each.seconds) == 3
        assert all(0 < seconds < 60 and math.isfinite(seconds) for seconds in each.seconds)
        assert each.bytes > 0
    assert measured['ours'].parameters > 64 * 64 * 12


@pytest.mark.slow
def test_a_worker_that_fails_says_whose_it_was(tmp_path):
    with pytest.raises(RuntimeError, match = 'the worker of 0.1.6'):
        take_turns(Work('render'), [Implementation('0.1.6', kind = 'seed')], Machine('cpu', [], tmp_path / 'missing'), rounds = 1)


FAULTS = '''
import json, resource, torch
from lvsm_pytorch.allocator import tune_malloc

def faults():
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        blocks = [torch.empty(3 * 2 ** 20, dtype = torch.uint8).fill_(1) for _ in range(6)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults()
tune_malloc()
print(json.dumps([before, faults()]))
'''


@pytest.mark.skipif(not sys.platform.startswith('linux') or os.confstr('CS_GNU_LIBC_VERSION') is None, reason = 'it is about glibc')
def test_freed_memory_is_kept():
    environment = {name: value for name, value in os.environ.items() if not name.startswith(('MALLOC_', 'GLIBC_', 'LD_PRELOAD'))}
    result = subprocess.run([sys.executable, '-c', FAULTS], env = environment, capture_output = True, text = True, check = True)
    before, after = json.loads(result.stdout)
    assert before > 10 * max(after, 10)
