"""The training loop."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from lvsm_pytorch.checks import fail
from lvsm_pytorch.config import TrainConfig
from lvsm_pytorch.data import DatasetSource, Problems, SceneSource, Source, SyntheticSource, has_split, open_dataset, split_dataset, split_scenes
from lvsm_pytorch.evaluate import figures, guesses, paint, score
from lvsm_pytorch.lvsm import LVSM
from lvsm_pytorch.pictures import save_comparison
from lvsm_pytorch.runs import CONFIG, model_of, pick_device, save_config


def train(config: TrainConfig) -> dict[str, float]:
    """Trains a model as the config says, and returns the figures of the last look at the held-out views.

    Writes into `config.out`: config.yaml and metrics.jsonl, and at every look the model (`LVSM.save_pretrained`) and comparison.png.
    Errors: ValueError for data and settings that can't be trained with, and for a loss that is no number.
    """
    from tqdm import tqdm

    config.check()
    run = config.out

    if (run / CONFIG).exists() and not config.overwrite:
        fail('out', 'must be a new folder', f'{run}, which has a run', 'Choose another, or say --overwrite.')

    torch.manual_seed(config.seed)
    device = pick_device(config.device)
    problems = Problems()
    source = source_of(config, problems)
    config = replace(config, pose_frame = source.frame)
    model = model_of(config).to(device)

    if isinstance(source, SceneSource) and source.frame == 'scene' and model.trained_for is not None:
        model.trained_for = model.trained_for._replace(world = source.world.tolist())

    optimizer = optimizer_of(model, config)

    run.mkdir(parents = True, exist_ok = True)
    save_config(run, config)

    held_out = source.held_out_batch()
    baselines = guesses(held_out)
    print(f'{len(held_out.names)} views held out. An input copied: {baselines.copy.means()[0]:.2f} dB. Their blurred mean: {baselines.blur.means()[0]:.2f} dB.')

    start = time.monotonic()
    latest: dict[str, float] = {}

    with open(run / 'metrics.jsonl', 'w', encoding = 'utf-8') as metrics, tqdm(total = config.steps, unit = 'step', dynamic_ncols = True) as bar:
        for step in range(config.steps):
            batch = source.training_batch(step, config.batch_size)
            loss = model(*(t.to(device) for t in (batch.input_images, batch.input_rays, batch.target_rays, batch.target_images)))

            for group in optimizer.param_groups:
                group['lr'] = learning_rate(step, config)

            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
            optimizer.step()

            # look at the held-out views now and then, and at the end

            done = step + 1
            is_look = done % config.evaluate_every == 0 or done == config.steps
            bar.update()

            if done % 10 != 0 and not is_look:
                continue

            record = dict(step = done, seconds = round(time.monotonic() - start, 2), learning_rate = learning_rate(step, config), loss = loss.item())

            if not math.isfinite(record['loss']):
                fail('loss', 'must be a number', f'{record["loss"]} at step {done}', 'Lower --learning-rate; the weights of the last look are kept.')

            if is_look:
                pred = paint(model, held_out, batch_size = config.batch_size)
                latest = figures(model = score(pred, held_out.target_images), **baselines._asdict())
                record.update(latest)
                model.save_pretrained(run)
                save_comparison(run / 'comparison.png', held_out, pred)

            metrics.write(json.dumps(record) + '\n')
            metrics.flush()
            bar.set_postfix(loss = f'{record["loss"]:.4f}', held_out = f'{latest["model_psnr"]:.2f} dB' if latest else '…')

    for text in filter(None, (problems.summary(), table(latest))):
        print(text)

    print(f'{run}: look at comparison.png')
    return latest


def source_of(config: TrainConfig, problems: Problems | None = None) -> Source:
    """Where the config's batches come from; what can't be used is noted in `problems`."""
    options: dict[str, Any] = dict(num_inputs = config.num_inputs, num_targets = config.num_targets, image_size = config.image_size, seed = config.seed)

    if config.pose_frame is not None:
        options.update(frame = config.pose_frame)

    if config.data is None:
        return SyntheticSource(**options)

    if has_split(config.data):
        split = split_dataset(config.data, problems)
        print(f'{config.data}: {split.training.format}, {len(split.training)} scenes to train with, {len(split.held_out)} held out')
    else:
        dataset = open_dataset(config.data, problems)
        print(f'{config.data}: {dataset.format}, {len(dataset)} scene{"s" if len(dataset) != 1 else ""}')

        if len(dataset) == 1:
            return SceneSource(dataset[0], problems = problems, **options)

        split = split_scenes(dataset)

    return DatasetSource(split, frame_distances = (config.min_frame_distance, config.max_frame_distance), **options)


def optimizer_of(model: LVSM, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW as the paper has it: weight decay on matrices alone."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [dict(params = matrices, weight_decay = config.weight_decay), dict(params = vectors, weight_decay = 0.)]
    return torch.optim.AdamW(groups, lr = config.learning_rate, betas = (0.9, 0.95))


def learning_rate(step: int, config: TrainConfig) -> float:
    """Up in a line, down in a cosine."""
    warmup = min((step + 1) / max(config.warmup_steps, 1), 1.)
    return config.learning_rate * warmup * 0.5 * (1 + math.cos(math.pi * step / config.steps))


def table(latest: dict[str, float]) -> str:
    names = dict(model = 'model', blur = 'blurred mean of the inputs', copy = 'better input, copied')
    rows = [f'{"held-out views":28} {"PSNR":>9} {"SSIM":>7}']
    rows += [f'{label:28} {latest[f"{name}_psnr"]:6.2f} dB {latest[f"{name}_ssim"]:7.3f}' for name, label in names.items()]
    return '\n'.join(rows)
