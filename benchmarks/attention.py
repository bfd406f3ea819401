"""Plain attention (product, softmax, product) beside torch's fused attention, forward and backward, as ratios from one run: what `lvsm/attention.py` chooses by.

python benchmarks/attention.py OUT [--device cpu] [--rounds 9]

By number of queries and keys, and by precision; on a CPU in time of its own, to which other processes add little. Writes OUT/attention.json with the conditions, and prints a table: time of the fused kernel
by that of plain attention, so that above 1 plain attention is faster.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from conditions import conditions, in_words
from torch import Tensor

from lvsm_pytorch.lvsm.attention import plain_attention

# (queries, keys): views of 64², 128², 192² and 256² in patches of 8 in the cacheable mode, and sequences of the paper's mode

LENGTHS = [(64, 192), (64, 576), (256, 512), (256, 1024), (256, 2304), (576, 1728), (768, 768), (1024, 2048), (1024, 3072), (3072, 3072)]
SAMPLES, HEADS, DIM_HEAD = 2, 4, 64
TURN = 0.05  # seconds


def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v)


def step_of(attend: Callable[[Tensor, Tensor, Tensor], Tensor], queries: int, keys: int, dtype: torch.dtype, device: torch.device, *, backward: bool) -> Callable[[], None]:
    q, k, v = (torch.randn(SAMPLES, HEADS, n, DIM_HEAD, device = device).to(dtype).requires_grad_(backward) for n in (queries, keys, keys))
    gradient = torch.randn(SAMPLES, HEADS, queries, DIM_HEAD, device = device).to(dtype)

    def step() -> None:
        out = attend(q, k, v)

        if backward:
            torch.autograd.grad(out, (q, k, v), gradient)

    return step


def seconds_of(step: Callable[[], None], times: int, device: torch.device) -> float:
    """Of one step, in the mean of so many."""
    clock = time.process_time if device.type == 'cpu' else time.perf_counter
    start = clock()

    for _ in range(times):
        step()

    if device.type == 'cuda':
        torch.cuda.synchronize(device)

    return (clock() - start) / times


def ratio(steps: list[Callable[[], None]], rounds: int, device: torch.device) -> tuple[float, list[float]]:
    """Of the medians of two that take turns, and their seconds."""
    repeats = []

    for step in steps:
        seconds_of(step, 1, device)
        repeats.append(max(round(TURN / seconds_of(step, 1, device)), 1))

    rounds_of = [[seconds_of(step, count, device) for step, count in zip(steps, repeats, strict = True)] for _ in range(rounds)]
    medians = [statistics.median(each) for each in zip(*rounds_of, strict = True)]
    return medians[0] / medians[1], medians


def main() -> None:
    parser = argparse.ArgumentParser(description = (__doc__ or '').split('\n')[0])
    parser.add_argument('out', type = Path)
    parser.add_argument('--device', default = 'cpu')
    parser.add_argument('--rounds', type = int, default = 9)
    options = parser.parse_args()
    device = torch.device(options.device)
    measured_on = conditions(device, threads = torch.get_num_threads(), precision = ['float32', 'bfloat16'])
    print(in_words(measured_on))
    print(f'{"fused / plain":16} {"scores":>10} {"float32":>10} {"training":>10} {"bfloat16":>10} {"training":>10}')
    results = []

    for queries, keys in LENGTHS:
        row = []

        for dtype in (torch.float32, torch.bfloat16):
            for backward in (False, True):
                times, seconds = ratio([step_of(attend, queries, keys, dtype, device, backward = backward) for attend in (fused, plain_attention)], options.rounds, device)
                results.append(dict(queries = queries, keys = keys, precision = str(dtype).removeprefix('torch.'), backward = backward, ratio = times, fused = seconds[0], plain = seconds[1]))
                row.append(times)

        print(f'{f"{queries} x {keys}":16} {queries * keys:>10} {"".join(f" {each:10.2f}" for each in row)}', flush = True)

    options.out.mkdir(parents = True, exist_ok = True)
    (options.out / 'attention.json').write_text(json.dumps(dict(conditions = measured_on, results = results), indent = 1), encoding = 'utf-8')


if __name__ == '__main__':
    main()
