"""The benchmark of fine-tuning writes a file a set as it goes, and resumes."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lvsm_pytorch.configs.train import TrainConfig

sys.path.insert(0, str(Path(__file__).parents[2] / 'benchmarks'))

import finetune

FIGURES = {f'{name}_{figure}': value for name in ('model', 'initial', 'blur', 'copy') for figure, value in dict(psnr = 20., ssim = 0.5).items()}


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """Which runs are trained, by a stand-in whose steps take two seconds."""
    runs = []

    def train(config, **options):
        if (config.out.parent / 'stop').exists():
            raise KeyboardInterrupt

        runs.append((config.out.relative_to(tmp_path / 'out').as_posix(), config.steps, config.init_from))
        config.out.mkdir(parents = True, exist_ok = True)
        (config.out / 'metrics.jsonl').write_text(''.join(json.dumps(dict(step = step, seconds = 2. * step)) + '\n' for step in range(config.steps + 1)))
        return FIGURES | dict(model_psnr = 25. if config.init_from else 22.)

    monkeypatch.setattr(finetune, 'train', train)
    monkeypatch.setattr(finetune, 'configs_for', lambda data, bf16: dict(finetuned = TrainConfig(init_from = 'photos-128'), scratch = TrainConfig()))
    return runs


def test_sets_are_trained_for_so_many_minutes_and_not_again(trained, tmp_path):
    record, again = (finetune.record_of('a', tmp_path, tmp_path / 'out', minutes = 1., steps = None, bf16 = False) for _ in range(2))
    assert trained == [('a/finetuned-pace', 4, 'photos-128'), ('a/finetuned', 30, 'photos-128'), ('a/scratch-pace', 4, None), ('a/scratch', 30, None)]
    assert record == again == json.loads((tmp_path / 'out' / 'a.json').read_text())
    assert (record['zero_shot'], record['finetuned'], record['scratch'], record['steps']['scratch']) == ([20., 0.5], [25., 0.5], [22., 0.5], 30)


def test_the_table_has_means_over_sets(trained, tmp_path):
    records = [finetune.record_of(name, tmp_path, tmp_path / 'out', minutes = 1., steps = 3, bf16 = False) for name in ('a', 'b')]
    records[1]['finetuned'] = [27., 0.7]
    rows = finetune.table(records).splitlines()
    assert len(rows) == 5
    assert rows[2].startswith('| a | 20.00 / 0.500 | 25.00 / 0.500 | 22.00 / 0.500 |')
    assert rows[4].startswith('| mean of 2 | 20.00 / 0.500 | 26.00 / 0.600 |')


def test_both_runs_have_one_network_and_the_same_samples(tmp_path):
    configs = finetune.configs_for(tmp_path, False)
    from lvsm_pytorch.training.initialization import NETWORK, with_network_of_weights

    tuned, scratch = with_network_of_weights(configs['finetuned']), configs['scratch']
    assert scratch.init_from is None
    names = (*NETWORK, 'input_attends_target', 'image_size', 'num_inputs', 'num_targets', 'batch_size', 'seed', 'pose_frame', 'image_loss', 'ssim_loss_weight')
    differing = {name for name in names if getattr(tuned, name) != getattr(scratch, name)}
    assert differing <= {'heads'}    # which weights name, and a new network derives
    assert replace(scratch, heads = tuned.heads).dim // scratch.dim_head == tuned.heads
