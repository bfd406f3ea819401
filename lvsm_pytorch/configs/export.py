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
    """Folder that `lvsm train` or `save_pretrained` wrote, or the name of a model that comes with the library: photos-128, solids-128."""
    out: Path = Path('lvsm-export')
    """Folder for the graphs and export.json, which describes their tensors."""
    format: Literal['onnx', 'torch', 'aot-inductor'] = 'onnx'
    """onnx: encode.onnx, render.onnx and their weights.bin. torch: encode.pt2 and render.pt2, for torch.export.load. aot-inductor: the same, compiled for the CPU
    of this machine, for torch._inductor.aoti_load_package; it takes a C++ compiler."""
    float16: bool = False
    """Of onnx: keep weights in half precision, for a file of half the size. All is computed in float32."""
    padded: bool = False
    """The graph encode has num_images, how many of its views are valid, for programs that always pass as many. It costs speed."""
    overwrite: bool = False
    """Replace graphs that this command wrote into --out."""
