"""Validation on held-out views during training."""

from __future__ import annotations

from lvsm_pytorch.configs.train import TrainConfig
from lvsm_pytorch.configs.yaml import save_config
from lvsm_pytorch.data import Batch, SceneSource, Source
from lvsm_pytorch.evaluation.metrics import baselines, blurred_mean, figures, score
from lvsm_pytorch.evaluation.pictures import save_comparison
from lvsm_pytorch.text import counted
from lvsm_pytorch.training.checkpoint import Progress, Training
from lvsm_pytorch.training.runs import BEST

# training views of an overfitted scene are expected to be this many dB above the blurred mean of their inputs

MIN_OVERFIT_GAIN = 3.


class Validator:
    """Validates a run on its held-out views, and an overfitted scene also on its training views. All processes render, the main one writes."""

    def __init__(self, source: Source, config: TrainConfig):
        self.out = config.out
        self.config = config
        self.held_out = source.held_out()
        self.baselines = baselines(self.held_out)
        self.trained: Batch | None = None

        if config.overfit_one_scene and isinstance(source, SceneSource):
            self.trained = source.trained_with()
            self.trained_blur = blurred_mean(self.trained)

    def describe(self) -> str:
        copy, blur = (score.means()[0] for score in (self.baselines.copy, self.baselines.blur))
        count = len(self.held_out.names)
        return f'{counted(count, "view")} held out. An input copied: {copy:.2f} dB. Their blurred mean: {blur:.2f} dB.'

    def run(self, training: Training, progress: Progress) -> tuple[dict[str, float], Progress]:
        """Computes metrics of the model and the baselines, and saves the model and a comparison image; with `save_best` only if it is the best so far."""
        from accelerate.utils import broadcast_object_list

        pred = training.render(self.held_out)
        scores = dict(model = score(pred, self.held_out.target_images), **self.baselines._asdict())

        if self.trained is not None:
            scores.update(trained = score(training.render(self.trained), self.trained.target_images), trained_blur = self.trained_blur)

        # all processes use the metrics of the main one, since those of different GPUs differ a little

        shared = [figures(**scores)]
        broadcast_object_list(shared)
        found = shared[0]
        is_best = found['model_psnr'] > progress.best_psnr

        if is_best:
            progress = progress._replace(best_psnr = found['model_psnr'], best_step = progress.step, best = found)
            training.save_model(self.out / BEST)

        if is_best or not self.config.save_best:
            training.save_model(self.out)

        if training.is_main and is_best:
            save_config(self.out / BEST, self.config)

        if training.is_main and (is_best or not self.config.save_best):
            save_comparison(self.out / 'comparison.png', self.held_out, pred)

        return found, progress

    def verdict(self, found: dict[str, float]) -> str:
        """One sentence on whether overfitting one scene has worked; empty for other runs."""
        if self.trained is None:
            return ''

        gain_of_trained = found['trained_psnr'] - found['trained_blur_psnr']
        gain_of_held_out = found['model_psnr'] - found['blur_psnr']

        if not gain_of_trained >= MIN_OVERFIT_GAIN:
            return f'Its own training views are {gain_of_trained:+.2f} dB from their blurred inputs, where {MIN_OVERFIT_GAIN} or more is expected: something is broken, or the run too short.'

        if not gain_of_held_out > 0:
            return f'The training views are overfitted, but held-out ones are {gain_of_held_out:+.2f} dB from their blurred inputs: check the cameras with lvsm inspect.'

        return 'The training views are overfitted, and held-out ones are better than their blurred inputs: the pipeline works.'
