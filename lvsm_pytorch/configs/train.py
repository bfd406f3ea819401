"""Options of `lvsm train`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lvsm_pytorch.configs.common import Expanded
from lvsm_pytorch.errors import check_above_zero, check_at_least, fail


@dataclass(frozen = True)
class TrainConfig(Expanded):
    """Options of a training run.

    The defaults are those of the preset `demo`, which trains in minutes on two CPU cores. The command, YAML files and this class share them.
    A preset lists everything that differs. `paper` is the run of the paper.
    """

    data: Path | tuple[Path, ...] | None = None
    """Posed photos: a folder with transforms.json, a COLMAP model, RealEstate10K chunks, WebDataset shards or JSON files of the LVSM authors,
    or a folder of such folders, or an address of chunks or shards (hf://, s3://, gs://, https://); or several of these, whose scenes are all
    trained with. With one scene every eighth view by name is held out, with several every eighth scene. By default: built-in synthetic
    scenes."""
    pose: bool = False
    """For photos without poses, or a video: estimate their poses first, as `lvsm pose` does, into a new folder beside them."""
    synthetic: Literal['solids', 'worlds'] = 'solids'
    """Scenes to train on without --data. solids: spheres and boxes on a ground plane. worlds: rooms, landscapes and objects with the image
    statistics of photos, for models that render photos."""
    init_from: str | None = None
    """Weights to start from: a run, a folder of save_pretrained, the name of a packaged model, a model on the Hugging Face hub, or a
    checkpoint of the LVSM authors. The network is that of the weights; image size, number of views and input_attends_target may differ."""
    out: Path = Path('lvsm-run')
    """Folder of the run: config.yaml, the latest model (config.json, model.safetensors), the best model in best/, checkpoints in checkpoints/,
    metrics.jsonl, comparison.png."""
    overfit_one_scene: bool = False
    """Train on the first scene only and validate on its own views. Shows within minutes whether the data and the pipeline are right."""

    image_size: int | tuple[int, int] = 64
    """Height and width in pixels that images are resized and cropped to: one number for squares, or two, height first."""
    num_inputs: int = 2
    """Input views of a sample."""
    random_num_inputs: tuple[int, int] | None = None
    """Minimum and maximum number of input views, drawn for each training step. Validation uses num_inputs."""
    num_targets: int = 1
    """Target views of a sample."""
    min_frame_distance: int = 25
    """For videos: minimum number of frames between the first and the last view of a sample. Shorter videos are used whole."""
    max_frame_distance: int = 192
    """For videos: maximum number of frames between the first and the last view of a sample."""
    pose_frame: Literal['scene', 'inputs'] | None = None
    """World frame of the rays. scene: one frame for all samples, that of the mean training camera. inputs: that of each sample's mean input
    camera, for models of many scenes. By default as the weights of init_from were trained, else scene for one scene, inputs for several."""
    scale: Literal['cameras', 'depth'] | None = None
    """Unit of length of photos. cameras: by how far apart the cameras of a scene are. depth: by how far the scene on the input views is, which
    also places the depth planes. By default as the weights of init_from were trained, else depth with plane_sweep features."""
    workers: int | None = None
    """Processes that load data, for each process that trains. By default 4 with a GPU, 0 on a CPU or outside Linux."""

    patch_size: int = 8
    """Height and width of a patch in pixels."""
    dim: int = 256
    """Width of a token."""
    depth: int = 4
    """Number of transformer blocks."""
    heads: int | None = None
    """Attention heads. By default dim / dim_head."""
    dim_head: int = 64
    """Width of an attention head."""
    decoder_kwargs: dict[str, bool | int | float | str] = field(default_factory = dict)
    """Flags of x_transformers.Encoder, over those that make it the paper's: --decoder-kwargs ff_mult 2."""
    dropout_input_ray_prob: float = 0.
    """Chance of an input view to lose its rays in a training step."""
    input_attends_target: bool = False
    """True: the paper's network, in which all tokens attend to each other. False: input tokens attend to input tokens only, so a scene is
    encoded once for all of its targets (key-value cache)."""

    camera_encoding: Literal['plucker', 'prope'] = 'prope'
    """plucker: the paper's Plücker rays. prope: relative camera poses in attention; results do not depend on the world frame."""
    num_depth_planes: int = 16
    """Depth planes of a plane sweep, which samples the input views along the rays of a target view and composites the samples with the
    decoded image. 0: the paper's network, without a plane sweep."""
    plane_sweep: Literal['colors', 'features'] = 'colors'
    """What the plane sweep compares: colors of the input views, or features of a small CNN, from coarse to fine."""
    near_plane: float = 0.5
    """Depth of the nearest plane, in units of the world frame. One unit is 3 units of the built-in scenes, and 1.35 × the
    largest offset of a camera from the mean camera for photos."""

    objective: Literal['views', 'mae'] = 'views'
    """views: render target views. mae: reconstruct masked images and masked rays of views, a pretraining without targets, for networks without
    depth planes."""
    steps: int = 400
    """Training steps."""
    batch_size: int = 16
    """Samples of a step, over all processes: a run is the same on one GPU and on several."""
    optimizer: Literal['adamw', 'muon'] = 'muon'
    """adamw: the paper's. muon: Muon for the matrices of the transformer blocks, AdamW for the rest; it needs far fewer steps."""
    learning_rate: float = 2e-3
    """Peak learning rate of AdamW, after a linear warmup and before a cosine decay to zero."""
    muon_learning_rate: float = 0.02
    """Peak learning rate of Muon, with the same schedule."""
    warmup_steps: int | None = None
    """Steps of linear warmup. By default 2500, or a twentieth of a shorter run."""
    weight_decay: float = 0.05
    """Weight decay of matrices; norms have none."""
    max_grad_norm: float = 1.
    """Gradients are clipped to this norm."""
    skip_grad_norm: float = 5.
    """Steps with a larger or non-finite gradient norm are skipped."""
    perceptual_loss: str | None = None
    """Weights of the paper's perceptual loss: a file imagenet-vgg-verydeep-19.mat of MatConvNet, a file of torchvision's vgg19, or the word
    torchvision, which downloads them."""
    perceptual_loss_weight: float = 0.5
    """Weight of the perceptual loss. The paper's is 0.5 for scenes, 1.0 for objects."""
    image_loss: Literal['mse', 'rmse'] = 'mse'
    """mse: mean squared error, the paper's. rmse: its root for each view, which weighs views as a mean of PSNR does."""
    ssim_loss_weight: float = 0.
    """Weight of 1 - SSIM in the loss."""
    depth_loss_weight: float = 0.05
    """Weight of the cross entropy of depths, with plane_sweep features and data that has depths, as worlds have."""
    ema_decay: float = 0.
    """Above 0: keep an exponential moving average of the weights, and validate and save it as the model. 0.999 for short runs, 0.9999 for
    long ones."""

    accumulate: int = 1
    """Gradient accumulation: the samples of a step are computed in this many parts, to save memory."""
    bf16: bool = False
    """Compute in bfloat16 (autocast). Rays and weights stay in float32."""
    gradient_checkpointing: bool = False
    """Recompute each block in the backward pass: less memory, a third more time."""
    compile: bool = False
    """Compile the model, which takes a minute or more at the start."""

    log_every: int = 10
    """Steps between two records in metrics.jsonl."""
    evaluate_every: int = 100
    """Steps between two validations on the held-out views. The model is saved at each."""
    save_every: int = 100
    """Steps between two checkpoints."""
    keep_checkpoints: int = 3
    """Number of latest checkpoints to keep, beside that of the best validation."""
    save_best: bool = False
    """Save the model of the best validation as the model of the run, not the latest. With init_from it is never worse than the initial weights."""
    tensorboard: bool = True
    """Log to TensorBoard: tensorboard --logdir OUT."""
    wandb: bool = False
    """Log to Weights & Biases."""
    seed: int = 0
    """Seed of weights, samples and scenes. The same seed gives the same run on one machine."""
    device: str = 'auto'
    """cpu, cuda, mps, ...; auto takes a GPU if there is one. With several GPUs, each process has its own."""

    def __post_init__(self) -> None:
        """Takes one path or several, as strings too; one in a list is one."""
        if isinstance(self.data, str | list | tuple):
            data = (Path(self.data),) if isinstance(self.data, str) else tuple(map(Path, self.data))
            object.__setattr__(self, 'data', data[0] if len(data) == 1 else data)

        super().__post_init__()

    @property
    def datasets(self) -> tuple[Path, ...]:
        """Paths and addresses of the data; none for built-in scenes."""
        return () if self.data is None else self.data if isinstance(self.data, tuple) else (self.data,)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of images."""
        return (self.image_size, self.image_size) if isinstance(self.image_size, int) else self.image_size

    def check(self) -> None:
        """Checks the values. Not called by the constructor, because the command line would cut the message short.

        Raises:
            ValueError: For values out of range.
        """
        at_least_one = (
            'num_inputs', 'num_targets', 'patch_size', 'dim', 'depth', 'heads', 'dim_head', 'steps', 'batch_size', 'accumulate',
            'log_every', 'evaluate_every', 'save_every', 'keep_checkpoints',
        )

        at_least_zero = 'num_depth_planes', 'workers', 'warmup_steps', 'weight_decay', 'perceptual_loss_weight', 'ssim_loss_weight', 'depth_loss_weight'
        above_zero = 'near_plane', 'learning_rate', 'muon_learning_rate', 'max_grad_norm', 'skip_grad_norm'

        if self.data == ():
            fail('data', 'must be at least one folder or address', 'none', 'Left out, built-in scenes are trained with.')

        check_at_least(1, **{name: getattr(self, name) for name in at_least_one})
        check_at_least(0, **{name: getattr(self, name) for name in at_least_zero})
        check_above_zero(**{name: getattr(self, name) for name in above_zero})

        if not all(length >= 1 and length % self.patch_size == 0 for length in self.size):
            fitting = ' '.join(str(max(length // self.patch_size, 1) * self.patch_size) for length in self.size[:1 if isinstance(self.image_size, int) else 2])
            fail('image_size', f'must be a multiple of patch_size {self.patch_size}', self.image_size, f'For example {fitting}.')

        self.samples_at_once(processes = 1)

        if self.pose_frame not in ('scene', 'inputs', None):
            fail('pose_frame', 'must be scene or inputs', self.pose_frame, 'Left out, it fits the data.')

        if not 1 <= self.min_frame_distance <= self.max_frame_distance:
            fail('min_frame_distance, max_frame_distance', 'must be at least 1, in this order', (self.min_frame_distance, self.max_frame_distance), 'RealEstate10K is trained with 25 and 192.')

        if self.random_num_inputs is not None:
            least, most = self.random_num_inputs

            if not 1 <= least <= most:
                fail('random_num_inputs', 'must be at least 1, in this order', self.random_num_inputs, 'For example 2 6.')

        if self.objective == 'mae' and self.num_depth_planes > 0:
            fail('num_depth_planes', 'must be 0 with objective mae, where pixels are of tokens alone', self.num_depth_planes, 'Say --num-depth-planes 0.')

        if not 0 <= self.dropout_input_ray_prob < 1:
            fail('dropout_input_ray_prob', 'must be from 0 up to below 1', self.dropout_input_ray_prob, 'Use 0 for none.')

        if not 0 <= self.ema_decay < 1:
            fail('ema_decay', 'must be from 0 up to below 1', self.ema_decay, 'Use 0 for no average, 0.999 or 0.9999 for one.')

    def samples_at_once(self, processes: int) -> int:
        """Samples that one process computes at once.

        Raises:
            ValueError: If the samples of a step can't be shared equally.
        """
        parts = processes * self.accumulate

        if self.batch_size % parts != 0:
            rule = f'must be a multiple of {processes} processes × {self.accumulate} parts'
            fail('batch_size', rule, self.batch_size, f'For example {max(self.batch_size // parts, 1) * parts}.')

        return self.batch_size // parts
