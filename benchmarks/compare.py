"""Speed and memory beside lvsm-pytorch 0.1.6, a plain reference and the limit of the machine, as ratios from one run.

python benchmarks/compare.py OUT            # all parts, about 40 minutes on two CPU cores
python benchmarks/compare.py OUT --parts peers modes

parts: peers (training and rendering against the others), modes (the cacheable against the paper's by number of inputs), flags (what
checkpointing, compile, bfloat16 and flash attention give), growth (with inputs, targets, resolution and depth). With --bfloat16 peers,
modes and growth run under autocast to bfloat16, 0.1.6 too.
Every part writes its JSON, with the conditions, and its picture or table, into OUT when it is done, so that an interrupted run resumes. 0.1.6
is installed from PyPI into OUT/seed, beside ours. Needs the extra `train`, for matplotlib.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch
from case import Implementation, Work
from conditions import conditions, in_words
from pictures import draw_growth, draw_ratios
from products import flops, forward_products
from seed import install_seed
from turns import Machine, Measured, take_turns

Results = dict[str, dict[str, dict]]

SEED = Implementation('0.1.6', kind = 'seed')
PLAIN = Implementation('plain reference', kind = 'plain')
PAPER = Implementation('ours')
CACHEABLE = Implementation('ours, cacheable', cacheable = True)
LIMIT = Implementation('products of ours', kind = 'products')
LIMIT_CACHEABLE = Implementation('products of ours, cacheable', kind = 'products', cacheable = True)
EQUAL_PARAMETERS = Implementation('ours, 8 blocks: as many parameters as 0.1.6', depth = 8)
COMPILED = Implementation('ours, compiled', compile = True)

PEERS: dict[str, tuple[Work, list[Implementation]]] = {
    'train, 1 target': (Work('train'), [SEED, PLAIN, PAPER, COMPILED, CACHEABLE, EQUAL_PARAMETERS, LIMIT]),
    'train, 6 targets': (Work('train', targets = 6), [SEED, PAPER, CACHEABLE, LIMIT_CACHEABLE]),
    'train, 256², 384 wide': (Work('train', size = 256, dim = 384), [SEED, PAPER, CACHEABLE, LIMIT]),
    'render, 2 inputs': (Work('render', batch = 1), [SEED, PLAIN, PAPER, COMPILED, CACHEABLE, EQUAL_PARAMETERS, LIMIT, LIMIT_CACHEABLE]),
    'render, 8 inputs': (Work('render', batch = 1, inputs = 8), [SEED, PLAIN, PAPER, CACHEABLE, LIMIT, LIMIT_CACHEABLE]),
}

MODES = {f'render, {inputs} inputs': (Work('render', batch = 1, inputs = inputs), [PAPER, CACHEABLE, LIMIT, LIMIT_CACHEABLE]) for inputs in (2, 4, 8, 16)}

FLAGS = [
    Implementation('none'),
    Implementation('no flash attention', flash = False),
    Implementation('checkpointing', checkpointing = True),
    Implementation('compile', compile = True),
    Implementation('bfloat16', bfloat16 = True),
    Implementation('compile, checkpointing', compile = True, checkpointing = True),
    Implementation('compile, bfloat16', compile = True, bfloat16 = True),
    Implementation('compile, bfloat16, checkpointing', compile = True, bfloat16 = True, checkpointing = True),
]

GROWTH = {
    'inputs': [(count, dict(inputs = count)) for count in (1, 2, 4, 8, 16)],
    'targets': [(count, dict(targets = count)) for count in (1, 2, 4, 8)],
    'size': [(size, dict(size = size)) for size in (64, 128, 256)],
    'depth': [(depth, dict(depth = depth)) for depth in (3, 6, 12, 24)],
}


def peers(machine: Machine, rounds: int, bfloat16: bool) -> Results:
    return {name: in_turn(name, work, in_precision(implementations, bfloat16), machine, rounds) for name, (work, implementations) in PEERS.items()}


def modes(machine: Machine, rounds: int, bfloat16: bool) -> Results:
    return {name: in_turn(name, work, in_precision(implementations, bfloat16), machine, 2 * rounds) for name, (work, implementations) in MODES.items()}


def flags(machine: Machine, rounds: int, bfloat16: bool) -> Results:
    results = {}

    for mode, targets in (('paper', 1), ('cacheable', 6)):
        work = Work('train', targets = targets)
        of_mode = [replace(each, cacheable = mode == 'cacheable') for each in FLAGS]
        results[f'train, {mode}, {targets} targets'] = in_turn(mode, work, of_mode, machine, rounds)

    return results


def growth(machine: Machine, rounds: int, bfloat16: bool) -> Results:
    results: Results = {}

    for job in ('train', 'render'):
        for axis, points in GROWTH.items():
            for value, change in points:
                work = replace(Work(job, batch = 1), **change)
                lines = [PAPER, CACHEABLE]

                if axis == 'depth' and job == 'train':
                    lines.append(Implementation('ours, checkpointing', checkpointing = True))

                results[f'{job} {axis} {value}'] = in_turn(f'{job}, {axis} {value}', work, in_precision(lines, bfloat16), machine, rounds)

    return results


def in_precision(implementations: list[Implementation], bfloat16: bool) -> list[Implementation]:
    return [replace(each, bfloat16 = bfloat16) for each in implementations]


def in_turn(name: str, work: Work, implementations: list[Implementation], machine: Machine, rounds: int) -> dict[str, dict]:
    print(f'{name} …', file = sys.stderr, flush = True)
    measured = take_turns(work, implementations, machine, rounds = rounds)
    result = {name: dict(asdict(each), median = each.median) for name, each in measured.items()}
    print(table(name, work, implementations, measured), flush = True)
    return result


def table(title: str, work: Work, implementations: list[Implementation], measured: dict[str, Measured]) -> str:
    """Median seconds, spread, memory, and how many times as fast as the first."""
    first = measured[implementations[0].name]
    rows = [f'\n{title}  ({work})', f'{"":46} {"median":>9} {"least … most":>17} {"times":>6} {"memory":>9} {"GFLOP/s":>8} {"million":>8}']

    for implementation in implementations:
        each = measured[implementation.name]
        rate = ''

        if implementation.kind in ('ours', 'products'):
            once = flops(forward_products(work, cacheable = implementation.cacheable, depth = implementation.depth or work.depth))
            rate = f'{once * (3 if work.job == "train" else 1) / each.median / 1e9:.0f}'

        spread = f'{min(each.seconds):.3f} … {max(each.seconds):.3f}'
        rows.append(f'{implementation.name:46} {each.median:7.3f} s {spread:>17} {first.median / each.median:6.2f} {each.bytes / 2 ** 20:5.0f} MiB {rate:>8} {each.parameters / 1e6:8.1f}')

    return '\n'.join(rows)


PARTS = dict(peers = peers, modes = modes, flags = flags, growth = growth)
PICTURES = dict(peers = draw_ratios, growth = draw_growth)


def main() -> None:
    parser = argparse.ArgumentParser(description = (__doc__ or '').split('\n')[0])
    parser.add_argument('out', type = Path)
    parser.add_argument('--parts', nargs = '+', choices = list(PARTS), default = list(PARTS))
    parser.add_argument('--rounds', type = int, default = 9)
    parser.add_argument('--device', default = 'cpu')
    parser.add_argument('--bfloat16', action = 'store_true')
    parser.add_argument('--again', action = 'store_true', help = 'measure anew what is there already')
    arguments = parser.parse_args()

    out = arguments.out
    out.mkdir(parents = True, exist_ok = True)
    install_seed(out / 'seed')
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else []
    machine = Machine(arguments.device, cores, (out / 'seed').resolve())
    for part in arguments.parts:
        precision = ['float32', 'bfloat16'] if part == 'flags' else ['bfloat16'] if arguments.bfloat16 else ['float32']
        written = out / f'{part}{"-bfloat16" if precision == ["bfloat16"] else ""}.json'

        if not written.exists() or arguments.again:
            measured_on = conditions(torch.device(arguments.device), threads = machine.threads, precision = precision)
            print(in_words(measured_on), flush = True)
            results = PARTS[part](machine, arguments.rounds, arguments.bfloat16)
            written.write_text(json.dumps(dict(conditions = measured_on, results = results), indent = 1), encoding = 'utf-8')

        if part in PICTURES:
            content = json.loads(written.read_text(encoding = 'utf-8'))
            PICTURES[part](content['results'], written.with_suffix('.png'), in_words(content['conditions']))
            print(f'{written.with_suffix(".png")} is drawn')


if __name__ == '__main__':
    main()
