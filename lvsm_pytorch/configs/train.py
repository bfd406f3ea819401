"""Options of `lvsm train`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lvsm_pytorch.configs.common import Expanded
from lvsm_pytorch.errors import fail


@dataclass(frozen = True)
class TrainConfig(Expanded):
    """Options of a training run.

    The defaults are the preset `demo`, minutes on two CPU cores: of the command, of a YAML file and of this class alike. Presets name all
    that differs; `paper` is the paper's run.
    """

    data: Path | None = None
    """Posed photos: a folder with a transforms.json, a COLMAP model, RealEstate10K chunks or the LVSM authors' JSON files, or with such
    folders. Of one scene every eighth view by name is held out, of several every eighth scene. Left out: built-in synthetic scenes without end."""
    pose: bool = False
    """Where the data are photos without poses, or a video: find their poses first, as `lvsm pose` does, in a new folder beside them."""
    synthetic: Literal['solids', 'worlds'] = 'solids'
    """Without data: solids, spheres and boxes on a ground; or worlds, rooms and land and objects with the statistics of photos, from which models learn to see photos."""
    init_from: str | None = None
    """Weights to start from: a run, a folder of save_pretrained, the name of a model that comes with the library, a model of the Hugging Face hub, or a
    checkpoint of the LVSM authors. The network is theirs; image size, number of views and input_attends_target may differ."""
    out: Path = Path('lvsm-run')
    """Folder of the run: config.yaml, the model (config.json, model.safetensors), the best one in best/, states to go on from in states/,
    metrics.jsonl, comparison.png."""
    overfit_one_scene: bool = False
    """Learn the first scene alone, and judge by its own views: within minutes this tells a broken pipeline from a slow one."""

    image_size: int = 64
    """Height and width that images are resized and cropped to, in pixels."""
    num_inputs: int = 2
    """Views that the model sees."""
    random_num_inputs: tuple[int, int] | None = None
    """Least and most input views of a training sample, drawn anew for each step; num_inputs is then for the held-out views."""
    num_targets: int = 1
    """Target views of a sample."""
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
    dim: int = 256
    """Width of a token."""
    depth: int = 4
    """Number of transformer blocks."""
    heads: int | None = None
    """Attention heads. By default dim / dim_head."""
    dim_head: int = 64
    """Width of an attention head."""
    input_attends_target: bool = False
    """True: the paper's network. False: inputs see inputs alone, so that a scene is read once for all of its targets."""

    camera_encoding: Literal['plucker', 'prope'] = 'prope'
    """plucker: the paper's network. prope: attention sees how cameras lie to each other, so that moving the world changes nothing."""
    num_depth_planes: int = 16
    """Depths along the rays of a new view at which it is looked up what the inputs show there, to be composited with what it renders. 0: the
    paper's network, which renders every pixel from tokens."""
    plane_sweep: Literal['colors', 'features'] = 'colors'
    """By what the input views are compared at these depths: by their colors, or by features of a small CNN, from coarse to fine."""
    near_plane: float = 0.5
    """The nearest of these depths, in units of the world of the rays: that of built-in scenes is 3 of theirs, that of photos 1.35 × how far
    cameras are from their mean."""

    steps: int = 400
    """Training steps."""
    batch_size: int = 16
    """Samples a step, whatever they are shared by: a run is the same on one GPU and on many."""
    optimizer: Literal['adamw', 'muon'] = 'muon'
    """adamw: the paper's. muon: Muon for the matrices of the blocks, AdamW for the rest; it learns in far fewer steps."""
    learning_rate: float = 2e-3
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
    image_loss: Literal['mse', 'rmse'] = 'mse'
    """Of views: mean squared error, the paper's, or its root, in which easy views count as much as in a mean of PSNR."""
    ssim_loss_weight: float = 0.
    """Factor of 1 - SSIM in the loss."""
    depth_loss_weight: float = 0.05
    """Factor of the cross entropy of distances, for plane_sweep features and where data has distances, as worlds do."""
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
    evaluate_every: int = 100
    """Steps between two validations on the held-out views; the model is saved then too."""
    save_every: int = 100
    """Steps between two states to go on from."""
    keep_checkpoints: int = 3
    """So many of the last checkpoints are kept, and that of the best validation."""
    tensorboard: bool = True
    """Write for TensorBoard: tensorboard --logdir OUT."""
    wandb: bool = False
    """Report to Weights & Biases."""
    seed: int = 0
    """Of weights, samples and scenes: on one machine, the same seed gives the same run."""
    device: str = 'auto'
    """cpu, cuda, mps, ...; auto takes a GPU where there is one. With several, each process has its own."""

    def check(self) -> None:
        """Checks values, not in the constructor: the command line would cut the message short.

        Raises:
            ValueError: For values out of range. Not in the constructor: the command line would cut the message short.
        """
        at_least_one = (
            'image_size', 'num_inputs', 'num_targets', 'patch_size', 'dim', 'depth', 'dim_head', 'steps', 'batch_size', 'accumulate',
            'log_every', 'evaluate_every', 'save_every', 'keep_checkpoints',
        )

        for name in at_least_one:
            if getattr(self, name) < 1:
                fail(name, 'must be at least 1', getattr(self, name), 'Left out, it has a default that works.')

        for name in ('num_depth_planes', 'workers', 'warmup_steps', 'weight_decay', 'perceptual_loss_weight', 'ssim_loss_weight', 'depth_loss_weight'):
            if (getattr(self, name) or 0) < 0:
                fail(name, 'must be at least 0', getattr(self, name), 'Left out, it has a default that works.')

        for name in ('near_plane', 'learning_rate', 'muon_learning_rate', 'max_grad_norm', 'skip_grad_norm'):
            if not getattr(self, name) > 0:
                fail(name, 'must be above 0', getattr(self, name), 'Left out, it has a default that works.')

        if self.image_size % self.patch_size != 0:
            fail('image_size', f'must be a multiple of patch_size {self.patch_size}', self.image_size, f'For example {max(self.image_size // self.patch_size, 1) * self.patch_size}.')

        self.samples_at_once(processes = 1)

        if self.pose_frame not in ('scene', 'inputs', None):
            fail('pose_frame', 'must be scene or inputs', self.pose_frame, 'Left out, it fits the data.')

        if not 1 <= self.min_frame_distance <= self.max_frame_distance:
            fail('min_frame_distance, max_frame_distance', 'must be at least 1, in this order', (self.min_frame_distance, self.max_frame_distance), 'RealEstate10K is trained with 25 and 192.')

        if self.random_num_inputs is not None:
            least, most = self.random_num_inputs

            if not 1 <= least <= most:
                fail('random_num_inputs', 'must be at least 1, in this order', self.random_num_inputs, 'For example 2 6.')

        if not 0 <= self.ema_decay < 1:
            fail('ema_decay', 'must be from 0 up to below 1', self.ema_decay, 'Use 0 for no average, 0.999 or 0.9999 for one.')

    def samples_at_once(self, processes: int) -> int:
        """That one process computes together.

        Raises:
            ValueError: Where a step's samples can't be shared so.
        """
        parts = processes * self.accumulate

        if self.batch_size % parts != 0:
            rule = f'must be a multiple of {processes} processes × {self.accumulate} parts'
            fail('batch_size', rule, self.batch_size, f'For example {max(self.batch_size // parts, 1) * parts}.')

        return self.batch_size // parts
