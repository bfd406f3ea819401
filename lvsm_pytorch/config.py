"""What a training run can be told, and the file that remembers it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from lvsm_pytorch.checks import fail


@dataclass(frozen = True)
class TrainConfig:
    """Learn to see from posed photos, or without any from built-in synthetic scenes."""

    data: Path | None = None
    """Posed photos: a folder with a transforms.json, a COLMAP model, RealEstate10K chunks or the LVSM authors' JSON files, or with such
    folders. Of one scene every eighth view by name is held out, of several every eighth scene. Left out: built-in synthetic scenes without end."""
    out: Path = Path('lvsm-run')
    """Folder of the run: config.yaml, the model (config.json, model.safetensors), metrics.jsonl, comparison.png."""
    overwrite: bool = False
    """Write over a run that is there already."""

    image_size: int = 64
    """Height and width that images are resized and cropped to, in pixels."""
    num_inputs: int = 2
    """Views that the model sees."""
    num_targets: int = 1
    """Views that are asked for at once."""
    min_frame_distance: int = 25
    """Of videos: least number of frames from the first to the last view of a sample. Shorter videos are used whole."""
    max_frame_distance: int = 192
    """Of videos: most frames from the first to the last view of a sample."""

    pose_frame: Literal['scene', 'inputs'] | None = None
    """World of the rays. scene: one for all samples, that of the mean training camera. inputs: that of each sample's mean
    input camera, as a model for many scenes needs it. Left out: scene where there is one, inputs where there are many."""

    patch_size: int = 8
    """Height and width of a patch, in pixels."""
    dim: int = 256
    """Width of a token."""
    depth: int = 4
    """Number of transformer blocks."""
    dim_head: int = 64
    """Width of an attention head."""
    input_attends_target: bool = True
    """True: the paper's network. False: inputs see inputs alone, so that a scene is read once for all of its targets."""

    steps: int = 600
    """Training steps."""
    batch_size: int = 16
    """Samples a step."""
    learning_rate: float = 1e-3
    """Highest learning rate; it rises linearly at first, then falls as a cosine to zero."""
    warmup_steps: int = 50
    """Steps in which the learning rate rises."""
    weight_decay: float = 0.05
    """Of matrices; norms have none."""
    gradient_checkpointing: bool = False
    """Compute each block anew for its gradients: less memory for a third more time."""
    max_grad_norm: float = 1.
    """Gradients with a larger norm are scaled down to it."""

    evaluate_every: int = 100
    """Steps between two looks at the held-out views; weights are saved then too."""
    seed: int = 0
    """Of weights, samples and scenes: on one machine, the same seed gives the same run."""
    device: str = 'auto'
    """cpu, cuda, mps, ...; auto takes a GPU where there is one."""

    def check(self) -> None:
        """Errors: ValueError for values out of range. Not in the constructor: the command line would cut the message short."""
        for name in ('image_size', 'num_inputs', 'num_targets', 'patch_size', 'dim', 'depth', 'dim_head', 'steps', 'batch_size', 'evaluate_every'):
            if getattr(self, name) < 1:
                fail(name, 'must be at least 1', getattr(self, name), 'Left out, it has a default that works.')

        if self.image_size % self.patch_size != 0:
            fail('image_size', f'must be a multiple of patch_size {self.patch_size}', self.image_size, f'For example {max(self.image_size // self.patch_size, 1) * self.patch_size}.')

        if self.pose_frame not in ('scene', 'inputs', None):
            fail('pose_frame', 'must be scene or inputs', self.pose_frame, 'Left out, it fits the data.')

        if not 1 <= self.min_frame_distance <= self.max_frame_distance:
            fail('min_frame_distance, max_frame_distance', 'must be at least 1, in this order', (self.min_frame_distance, self.max_frame_distance), 'RealEstate10K is trained with 25 and 192.')

        if self.learning_rate <= 0 or self.max_grad_norm <= 0:
            fail('learning_rate, max_grad_norm', 'must be above 0', (self.learning_rate, self.max_grad_norm), 'Left out, they have defaults that work.')


def config_to_yaml(config: TrainConfig) -> str:
    import yaml

    return yaml.safe_dump({name: str(value) if isinstance(value, Path) else value for name, value in asdict(config).items()}, sort_keys = False)


def config_from_yaml(text: str) -> TrainConfig:
    """Errors: ValueError for unknown keys, with the nearest known one."""
    import yaml

    values = yaml.safe_load(text)
    known = {field.name for field in fields(TrainConfig)}

    if not isinstance(values, dict):
        fail('config', 'must be a YAML mapping', type(values).__name__, 'Take the config.yaml that a run wrote.')

    for name in values:
        if name not in known:
            nearest = get_close_matches(str(name), known, n = 1)
            fail('config', 'must have known keys alone', name, f'Did you mean {nearest[0]}?' if nearest else f'Known are {sorted(known)}.')

    paths = {name: Path(values[name]) for name in ('data', 'out') if values.get(name) is not None}
    config = TrainConfig(**{**values, **paths})
    config.check()
    return config
