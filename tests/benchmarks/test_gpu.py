"""`benchmarks/gpu.py` runs on a CPU at toy size, and finds a device that computes something else."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip('matplotlib')
sys.path.insert(0, str(Path(__file__).parents[2] / 'benchmarks'))

import agreement
import gpu
from conditions import bfloat16_units

from lvsm_pytorch import LVSM

TOY = ['--scale', 'toy', '--device', 'cpu']


@pytest.fixture
def quick(monkeypatch):
    """Each turn is one step."""
    monkeypatch.setattr('turns.TURN', 0.)
    monkeypatch.setattr(agreement, 'VARIANTS', {name: agreement.VARIANTS[name] for name in ('cacheable', 'plane sweep of features')})


def test_all_parts_run_at_toy_size_on_the_cpu(tmp_path, quick, monkeypatch):
    assert gpu.main([str(tmp_path), *TOY]) == 0
    content = json.loads((tmp_path / 'gpu.json').read_text())
    assert content['conditions']['torch'] == torch.__version__
    assert {'cacheable: views', 'cacheable: bfloat16', 'the plain reference'} <= set(content['agreement'])
    assert set(content['speed']) == {f'{job}, {precision}' for job in ('train', 'render') for precision in ('float32', 'bfloat16')}
    assert set(content['growth']) == {f'{job} {point}' for job in ('train', 'render') for point in ('inputs 1', 'inputs 2', 'targets 1', 'targets 2', 'size 16')}
    assert content['loader']['0']['images_per_second'] > 0

    for measured in (*content['speed'].values(), *content['growth'].values()):
        for each in measured.values():
            assert each['median'] > 0
            assert each['bytes'] > 0 or each['parameters'] == 0  # products write into memory that is there

    # a second run measures nothing anew

    assert (tmp_path / 'gpu.png').stat().st_size > 10_000
    before = (tmp_path / 'gpu.json').read_text()
    monkeypatch.setattr(gpu, 'draw_gpu', lambda *_: None)
    assert gpu.main([str(tmp_path), *TOY]) == 0
    assert (tmp_path / 'gpu.json').read_text() == before


def test_what_does_not_agree_is_found(tmp_path, quick, monkeypatch):
    render = LVSM.render
    monkeypatch.setattr(LVSM, 'render', lambda *args, **kwargs: render(*args, **kwargs) + 0.001)
    assert gpu.main([str(tmp_path), *TOY, '--parts', 'agreement']) == 1
    found = json.loads((tmp_path / 'gpu.json').read_text())['agreement']
    assert {name for name, check in found.items() if not check['holds']} == {'cacheable: encoded and rendered', 'plane sweep of features: encoded and rendered'}


def test_what_fails_has_no_figures_and_the_rest_has(tmp_path, quick, monkeypatch):
    prepare = gpu.take_turns.__globals__['prepare']

    def out_of_memory(work, implementation, *args):
        if implementation.cacheable:
            raise torch.OutOfMemoryError('too large')
        return prepare(work, implementation, *args)

    monkeypatch.setattr('turns.prepare', out_of_memory)
    measured = gpu.in_turns('t', gpu.SCALES['toy'].work, [gpu.OURS, gpu.CACHEABLE], gpu.Machine('cpu', [], tmp_path, in_process = True), 1)
    assert measured['ours']['median'] > 0
    assert measured['ours, cacheable'] == dict(failed = 'too large')


def test_figures_of_other_conditions_are_not_mixed(tmp_path):
    (tmp_path / 'gpu.json').write_text(json.dumps(dict(conditions = dict(torch = '1.0'))))
    with pytest.raises(SystemExit, match = 'other conditions'):
        gpu.main([str(tmp_path), *TOY])


@pytest.mark.parametrize('flags, words', [('fpu avx512_bf16 sse', 'bfloat16 units (AVX512)'), ('amx_bf16 avx512_bf16', 'bfloat16 units (AMX)'), ('avx2', 'no bfloat16 units')])
def test_units_for_bfloat16_are_named(flags, words):
    assert bfloat16_units(flags) == words
