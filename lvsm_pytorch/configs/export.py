"""Options of `lvsm export`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lvsm_pytorch.configs.common import Expanded


@dataclass(frozen = True)
class ExportConfig(Expanded):
    """Write a model as two graphs, encode and render, for programs without this library."""

    model: Path = Path('photos-128')
    """Folder that `lvsm train` or `save_pretrained` wrote, or the name of a packaged model: photos-128, solids-128."""
    out: Path = Path('lvsm-export')
    """Folder for the graphs and export.json, which describes their tensors."""
    format: Literal['onnx', 'torch', 'aot-inductor'] = 'onnx'
    """onnx: encode.onnx, render.onnx and their weights.bin. torch: encode.pt2 and render.pt2, for torch.export.load. aot-inductor: the same, compiled for the CPU
    of this machine, for torch._inductor.aoti_load_package; it takes a C++ compiler."""
    float16: bool = False
    """For onnx: store weights in half precision, for a file of half the size. All computation is in float32."""
    padded: bool = False
    """Give the graph encode an input num_images, the number of valid views, for programs that always pass the same number of views. It costs speed."""
    overwrite: bool = False
    """Replace graphs that this command wrote into --out."""
