"""What minutes of training bring on photo sets: zero-shot, fine-tuned from photos-128, and from random weights.

    python benchmarks/finetune.py ../shared/scenes --out finetune --minutes 5

Both runs train on the set's photos alone, every eighth by name held out and rendered from the nearest of the others, and take as many steps
as the minutes hold, by the pace of a few steps at first (or `--steps`); validations are not counted. The same command resumes where it was:
finished sets are read from OUT/SET.json, an unfinished run goes on from its last checkpoint.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

from lvsm_pytorch.configs.train import TrainConfig
from lvsm_pytorch.configs.yaml import CONFIG, load_config, load_run_config
from lvsm_pytorch.data import open_dataset
from lvsm_pytorch.files import write_json
from lvsm_pytorch.training.logging import read_metrics
from lvsm_pytorch.training.loop import train

PROBE = 4    # steps by which the pace is measured, the first left out
COLUMNS = dict(zero_shot = 'zero-shot', finetuned = 'fine-tuned', scratch = 'from random weights', blur = 'blurred mean', copy = 'best input, copied')


def configs_for(data: Path, bf16: bool) -> dict[str, TrainConfig]:
    """By column: the preset finetune, and the network, losses and rates of photos-128 from random weights, with as many samples a step."""
    tuned = replace(load_config('finetune'), data = data, bf16 = bf16, tensorboard = False, device = 'cpu')
    scratch = replace(
        load_config('photos-128'), data = data, bf16 = bf16, tensorboard = False, device = 'cpu', pose_frame = 'inputs', random_num_inputs = None, ema_decay = 0., warmup_steps = None, save_best = True,
        image_size = tuned.image_size, num_inputs = tuned.num_inputs, num_targets = tuned.num_targets, batch_size = tuned.batch_size,
    )
    return dict(finetuned = tuned, scratch = scratch)


def run_for(config: TrainConfig, out: Path, *, minutes: float, steps: int | None) -> dict[str, float]:
    """Figures of a run of so many minutes of steps, resumed if it was begun."""
    if (out / CONFIG).is_file():
        steps = load_run_config(out).steps
    elif steps is None:
        probe = out.with_name(f'{out.name}-pace')
        train(replace(config, out = probe, steps = PROBE, log_every = 1, evaluate_every = PROBE), overwrite = True)
        seconds = [record['seconds'] for record in read_metrics(probe) if record['step'] > 0]
        steps = max(round(minutes * 60 * (PROBE - 1) / (seconds[-1] - seconds[0])), 1)

    found = train(replace(config, out = out, steps = steps, evaluate_every = max(steps // 4, 1), save_every = 10), resume = True)
    return dict(found, steps = steps, seconds = read_metrics(out)[-1]['seconds'])


def record_of(name: str, data: Path, out: Path, *, minutes: float, steps: int | None, bf16: bool) -> dict[str, Any]:
    """All figures of a set, from its file if it is finished."""
    file = out / f'{name}.json'

    if not file.is_file():
        found = {column: run_for(config, out / name / column, minutes = minutes, steps = steps) for column, config in configs_for(data, bf16).items()}
        tuned = found['finetuned']
        figures = dict(zero_shot = pair(tuned, 'initial'), blur = pair(tuned, 'blur'), copy = pair(tuned, 'copy'), **{column: pair(each, 'model') for column, each in found.items()})
        write_json(file, dict(set = name, **figures, steps = {column: each['steps'] for column, each in found.items()}, seconds = {column: each['seconds'] for column, each in found.items()}))

    return json.loads(file.read_text(encoding = 'utf-8'))


def pair(found: dict[str, float], name: str) -> list[float]:
    """PSNR and SSIM."""
    return [found[f'{name}_psnr'], found[f'{name}_ssim']]


def table(records: Sequence[dict[str, Any]]) -> str:
    """Markdown, with means over the sets."""
    def row(name: str, figures: dict[str, Any]) -> str:
        return f'| {name} | ' + ' | '.join(f'{figures[column][0]:.2f} / {figures[column][1]:.3f}' for column in COLUMNS) + ' |'

    means = {column: [mean(record[column][place] for record in records) for place in (0, 1)] for column in COLUMNS}
    head = ['| set | ' + ' | '.join(COLUMNS.values()) + ' |', '|---' * (len(COLUMNS) + 1) + '|']
    return '\n'.join([*head, *(row(record['set'], record) for record in records), row(f'mean of {len(records)}', means)])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description = __doc__, formatter_class = argparse.RawDescriptionHelpFormatter)
    parser.add_argument('sets', type = Path, nargs = '+', help = 'sets of photos, or folders of such')
    parser.add_argument('--out', type = Path, default = Path('finetune'))
    parser.add_argument('--minutes', type = float, default = 5.)
    parser.add_argument('--steps', type = int, help = 'in place of minutes')
    parser.add_argument('--bf16', action = 'store_true')
    given = parser.parse_args(arguments)
    folders = [folder for each in given.sets for folder in ([each] if len(open_dataset(each)) == 1 else sorted(entry for entry in each.iterdir() if entry.is_dir()))]
    records = []

    for folder in folders:
        records.append(record_of(folder.name, folder, given.out, minutes = given.minutes, steps = given.steps, bf16 = given.bf16))
        print(table(records), flush = True)


if __name__ == '__main__':
    main()
