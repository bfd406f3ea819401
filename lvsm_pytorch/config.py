"""What a training run can be told, and the files that say it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from lvsm_pytorch.checks import fail

PRESETS = Path(__file__).parent / 'presets'


@dataclass(frozen = True)
class TrainConfig:
    """What there is to choose in a training run. The defaults are the paper's run on RealEstate10K; a preset says how it differs."""

    data: Path | None = None
    """Posed photos: a folder with a transforms.json, a COLMAP model, RealEstate10K chunks or the LVSM authors' JSON files, or with such
    folders. Of one scene every eighth view by name is held out, of several every eighth scene. Left out: built-in synthetic scenes without end."""
    out: Path = Path('lvsm-run')
    """Folder of the run: config.yaml, the model (config.json, model.safetensors), the best one in best/, states to go on from in states/,
    metrics.jsonl, comparison.png."""
    overfit_one_scene: bool = False
    """Learn the first scene alone, and judge by its own views: within minutes this tells a broken pipeline from a slow one."""

    image_size: int = 256
    """Height and width that images are resized and cropped to, in pixels."""
    num_inputs: int = 2
    """Views that the model sees."""
    num_targets: int = 6
    """Views that are asked for at once."""
    min_frame_distance: int = 25
    """Of videos: least number of frames from the first to the last view of a sample. Shorter videos are used whole."""
    max_frame_distance: int = 192
    """Of videos: most frames from the first to the last view of a sample."""
    pose_frame: Literal['scene', 'inputs'] | None = None
    """World of the rays. scene: one for all samples, that of the mean training camera. inputs: that of each sample's mean
    input camera, as a model for many scenes needs it. Left out: scene where there is one, inputs where there are many."""
    workers: int | None = None
    """Processes that read data in advance, beside each that trains. Left out: 4 beside a GPU, none beside a CPU or where there is no Linux."""

    patch_size: int = 8
    """Height and width of a patch, in pixels."""
    dim: int = 768
    """Width of a token."""
    depth: int = 24
    """Number of transformer blocks."""
    dim_head: int = 64
    """Width of an attention head."""
    input_attends_target: bool = True
    """True: the paper's network. False: inputs see inputs alone, so that a scene is read once for all of its targets."""

    camera_encoding: Literal['plucker', 'prope'] = 'plucker'
    """plucker: the paper's network. prope: attention sees how cameras lie to each other, so that moving the world changes nothing."""
    sweep_depths: int = 0
    """Depths along the rays of a new view at which it is looked up what the inputs show there, to be taken over or painted over. 0: the
    paper's network, which paints all."""
    sweep_nearest: float = 0.5
    """The nearest of these depths, in units of the world of the rays: that of built-in scenes is 3 of theirs, that of photos 1.35 × how far
    cameras are from their mean."""

    steps: int = 100_000
    """Training steps."""
    batch_size: int = 512
    """Samples a step, whatever they are shared by: a run is the same on one GPU and on many."""
    optimizer: Literal['adamw', 'muon'] = 'adamw'
    """adamw: the paper's. muon: Muon for the matrices of the blocks, AdamW for the rest; it learns in far fewer steps."""
    learning_rate: float = 4e-4
    """Highest learning rate of AdamW; it rises linearly at first, then falls as a cosine to zero."""
    muon_learning_rate: float = 0.02
    """Highest learning rate of Muon, which rises and falls as that of AdamW."""
    warmup_steps: int | None = None
    """Steps in which the learning rate rises. Left out: 2500, or a twentieth of the run where that is shorter."""
    weight_decay: float = 0.05
    """Of matrices; norms have none."""
    max_grad_norm: float = 1.
    """Gradients with a larger norm are scaled down to it."""
    skip_grad_norm: float = 5.
    """Steps whose gradient has a larger norm, or one that is no number, are not taken."""
    perceptual_loss: str | None = None
    """Weights of the paper's perceptual loss: MatConvNet's imagenet-vgg-verydeep-19.mat, or a file of torchvision's vgg19; the word torchvision
    lets torchvision download them."""
    perceptual_loss_weight: float = 0.5
    """Its factor: 0.5 is the paper's for scenes, 1.0 for objects."""
    ema_decay: float = 0.
    """Above 0: keep a moving average of the weights, which is what is judged and saved as the model. 0.999 for short runs, 0.9999 for long ones."""

    accumulate: int = 1
    """Parts that the samples of a step are computed in, one after the other, where they don't fit into memory together."""
    bf16: bool = False
    """Compute in bfloat16 where that is safe. Rays and weights stay in float32."""
    gradient_checkpointing: bool = False
    """Compute each block anew for its gradients: less memory for a third more time."""
    compile: bool = False
    """Compile the model, which takes a minute or more at the start."""

    log_every: int = 10
    """Steps between two records in metrics.jsonl."""
    evaluate_every: int = 1000
    """Steps between two looks at the held-out views; the model is saved then too."""
    save_every: int = 1000
    """Steps between two states to go on from."""
    keep_states: int = 3
    """So many of the last states are kept, and the one of the best look."""
    tensorboard: bool = True
    """Write for TensorBoard: tensorboard --logdir OUT."""
    wandb: bool = False
    """Report to Weights & Biases."""
    seed: int = 0
    """Of weights, samples and scenes: on one machine, the same seed gives the same run."""
    device: str = 'auto'
    """cpu, cuda, mps, ...; auto takes a GPU where there is one. With several, each process has its own."""

    def check(self) -> None:
        """Errors: ValueError for values out of range. Not in the constructor: the command line would cut the message short."""
        at_least_one = (
            'image_size', 'num_inputs', 'num_targets', 'patch_size', 'dim', 'depth', 'dim_head', 'steps', 'batch_size', 'accumulate',
            'log_every', 'evaluate_every', 'save_every', 'keep_states',
        )

        for name in at_least_one:
            if getattr(self, name) < 1:
                fail(name, 'must be at least 1', getattr(self, name), 'Left out, it has a default that works.')

        for name in ('sweep_depths', 'workers', 'warmup_steps', 'weight_decay', 'perceptual_loss_weight'):
            if (getattr(self, name) or 0) < 0:
                fail(name, 'must be at least 0', getattr(self, name), 'Left out, it has a default that works.')

        for name in ('sweep_nearest', 'learning_rate', 'muon_learning_rate', 'max_grad_norm', 'skip_grad_norm'):
            if not getattr(self, name) > 0:
                fail(name, 'must be above 0', getattr(self, name), 'Left out, it has a default that works.')

        if self.image_size % self.patch_size != 0:
            fail('image_size', f'must be a multiple of patch_size {self.patch_size}', self.image_size, f'For example {max(self.image_size // self.patch_size, 1) * self.patch_size}.')

        self.samples_at_once(processes = 1)

        if self.pose_frame not in ('scene', 'inputs', None):
            fail('pose_frame', 'must be scene or inputs', self.pose_frame, 'Left out, it fits the data.')

        if not 1 <= self.min_frame_distance <= self.max_frame_distance:
            fail('min_frame_distance, max_frame_distance', 'must be at least 1, in this order', (self.min_frame_distance, self.max_frame_distance), 'RealEstate10K is trained with 25 and 192.')

        if not 0 <= self.ema_decay < 1:
            fail('ema_decay', 'must be from 0 up to below 1', self.ema_decay, 'Use 0 for no average, 0.999 or 0.9999 for one.')

    def samples_at_once(self, processes: int) -> int:
        """That one process computes together. Errors: ValueError where a step's samples can't be shared so."""
        parts = processes * self.accumulate

        if self.batch_size % parts != 0:
            rule = f'must be a multiple of {processes} processes × {self.accumulate} parts'
            fail('batch_size', rule, self.batch_size, f'For example {max(self.batch_size // parts, 1) * parts}.')

        return self.batch_size // parts


def config_to_yaml(config: TrainConfig) -> str:
    import yaml

    return yaml.safe_dump({name: str(value) if isinstance(value, Path) else value for name, value in asdict(config).items()}, sort_keys = False)


def changes(before: str, now: TrainConfig) -> list[str]:
    """What is no longer as a run's YAML says, in words."""
    import yaml

    then, values = yaml.safe_load(before), yaml.safe_load(config_to_yaml(now))
    return [f'{name} {value} instead of {then.get(name)}' for name, value in values.items() if value != then.get(name)]


def config_from_yaml(text: str, where: str = 'config') -> TrainConfig:
    """Keys that are left out have the paper's values. where: what errors call it.

    Errors: ValueError for what is no mapping, for unknown keys, with the nearest known one, and for values of another type.
    """
    import yaml

    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f'{where}: must be YAML, but {error}. Take the config.yaml that a run wrote.') from error

    if not isinstance(values, dict):
        fail(where, 'must be a YAML mapping', type(values).__name__, 'Take the config.yaml that a run wrote.')

    known = {field.name for field in fields(TrainConfig)}
    types = get_type_hints(TrainConfig)

    for name in values:
        if name not in known:
            nearest = get_close_matches(str(name), known, n = 1)
            fail(where, 'must have known keys alone', name, f'Did you mean {nearest[0]}?' if nearest else f'Known are {sorted(known)}.')

    config = TrainConfig(**{name: as_type(f'{where}, {name}', value, types[name]) for name, value in values.items()})
    config.check()
    return config


def as_type(where: str, value: Any, hint: Any) -> Any:  # noqa: RET503, since fail never returns
    """A value as YAML reads it, as a field of that type. YAML takes 1e-4 for a word, and an integer may stand for a number."""
    choices = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)

    for choice in choices:
        if type(value) is choice or (get_origin(choice) is Literal and value in get_args(choice)):
            return value

        if choice is Path and isinstance(value, str):
            return Path(value)

        if choice is float and type(value) in (int, str):
            with suppress(ValueError):
                return float(value)

    names = ' or '.join(' or '.join(get_args(choice)) if get_origin(choice) is Literal else 'nothing' if choice is type(None) else choice.__name__ for choice in choices)
    fail(where, f'must be {names}', repr(value), 'See lvsm train --help.')


def load_config(name: str) -> TrainConfig:
    """A preset by its name, or a YAML file by its path. Errors: ValueError for what is neither, and as `config_from_yaml`."""
    path = PRESETS / f'{name}.yaml' if name in presets() else Path(name)

    if not path.is_file():
        fail('config', f'must be one of {presets()} or a YAML file', repr(name), 'Leave it out for the demo.')

    return config_from_yaml(path.read_text(encoding = 'utf-8'), str(name))


def presets() -> list[str]:
    return sorted(path.stem for path in PRESETS.glob('*.yaml'))
