"""Report of an evaluation by index: means, a table, and an HTML page with the worst, median and best scenes."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from html import escape
from io import BytesIO
from pathlib import Path
from statistics import mean
from typing import Any

from torch import Tensor

from lvsm_pytorch.data.images import image_library, to_pixels
from lvsm_pytorch.data.sources import Batch
from lvsm_pytorch.files import write_whole
from lvsm_pytorch.text import counted

Record = dict[str, Any]
SHOWN = 3

# absolute difference of colours at the end of the colour map

BRIGHTEST = 0.5

STYLE = '''
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1200px; padding: 0 1rem; color: #222; background: #fff }
table { border-collapse: collapse; margin: 1rem 0 } td, th { padding: .3rem .8rem; border-bottom: 1px solid #ddd; text-align: right } td:first-child, th:first-child { text-align: left }
figure { display: inline-block; margin: 0 .5rem .5rem 0 } figcaption { font-size: 12px; color: #666 } img { height: 192px; image-rendering: pixelated; display: block }
h3 { margin: 1.2rem 0 .3rem } .row { overflow-x: auto; white-space: nowrap } code { font-size: 12px; overflow-wrap: anywhere }
'''


def summary(records: list[Record]) -> dict[str, Any]:
    """Means over scenes of the means over their views, as is usual on RealEstate10K."""
    found: dict[str, Any] = {figure: mean_of(records, figure) for figure in ('psnr', 'ssim', 'lpips') if all(figure in record for record in records)}
    checked = [record for record in records if 'moved' in record]

    if checked:
        found['moved_world'] = dict({name: mean(record['moved'][name] for record in checked) for name in ('change', 'psnr', 'psnr_before')}, scenes = len(checked))
        counts = sorted({int(count) for record in checked for count in record['by_inputs']})
        with_count = {count: [each[str(count)] for record in checked if str(count) in (each := record['by_inputs'])] for count in counts}
        found['by_inputs'] = {str(count): dict(psnr = mean(values), scenes = len(values)) for count, values in with_count.items()}

    return found


def baselines(records: list[Record]) -> dict[str, dict[str, float]]:
    """Returns the means of the baselines that need no model. The blur is the best for each scene."""
    return {name: {figure: mean_of(records, f'{name}_{figure}') for figure in ('psnr', 'ssim')} for name in ('copy', 'blur')}


def mean_of(records: list[Record], figure: str) -> float:
    return mean(mean(record[figure]) for record in records)


def rows_of(report: dict[str, Any]) -> list[tuple[str, ...]]:
    """Rows of the table: name, PSNR, SSIM, LPIPS."""
    figures = report['metrics']
    model = 'model', f'{figures["psnr"]:.2f} dB', f'{figures["ssim"]:.3f}', f'{figures["lpips"]:.3f}' if 'lpips' in figures else '-'
    names = dict(blur = 'blurred mean of the inputs', copy = 'better input, copied')
    return [model, *((label, f'{report["baselines"][name]["psnr"]:.2f} dB', f'{report["baselines"][name]["ssim"]:.3f}', '-') for name, label in names.items())]


def remarks_of(report: dict[str, Any]) -> list[str]:
    scenes, figures = report['scenes'], report['metrics']
    said = [f'{counted(scenes["evaluated"], "scene")} evaluated, {len(scenes["null"])} null in the index, {len(scenes["missing"])} missing']
    said += [f'missing: {name}: {why}' for name, why in list(scenes['missing'].items())[:5]]
    said += [] if 'lpips' in figures else [f'LPIPS: {report["lpips"]}']

    if 'moved_world' in figures:
        moved = figures['moved_world']
        said.append(f'moved world, {moved["scenes"]} scenes: views change by {moved["change"]:.2f} / 256 on average; {moved["psnr"]:.2f} dB, before {moved["psnr_before"]:.2f} dB')
        said.append('by number of inputs: ' + ', '.join(f'{count}: {each["psnr"]:.2f} dB ({each["scenes"]})' for count, each in figures['by_inputs'].items()))

    return said


def table(report: dict[str, Any]) -> str:
    """The table as text."""
    rows = [f'{name:30} {psnr:>9} {ssim:>7} {lpips:>7}' for name, psnr, ssim, lpips in (('', 'PSNR', 'SSIM', 'LPIPS'), *rows_of(report))]
    return '\n'.join((*rows, *remarks_of(report)))


def extremes(records: list[Record]) -> dict[str, list[Record]]:
    """The worst, median and best scenes by PSNR, each once."""
    ranked = sorted(records, key = lambda record: mean(record['psnr']))
    count = min(SHOWN, max(len(ranked) // 3, 1))
    middle = (len(ranked) - count) // 2
    groups = dict(worst = ranked[:count], median = ranked[middle:middle + count], best = ranked[-count:][::-1])
    shown: set[str] = set()
    return {name: [record for record in group if record['scene'] not in shown and not shown.add(record['scene'])] for name, group in groups.items()}


def write_page(path: Path, report: dict[str, Any], render: Callable[[str], tuple[Batch, Tensor]]) -> None:
    """Writes the report as one HTML file with embedded images.

    Args:
        path: HTML file.
        report: The report.
        render: Function from the name of a scene to its batch and the rendered views (1 t 3 h w).
    """
    cells = ''.join(f'<tr>{"".join(f"<td>{escape(cell)}</td>" for cell in row)}</tr>' for row in rows_of(report))
    parts = [
        page_head('Evaluation', STYLE),
        f'<h1>Evaluation</h1><table><tr><th></th><th>PSNR</th><th>SSIM</th><th>LPIPS</th></tr>{cells}</table>',
        *(f'<p>{escape(remark)}</p>' for remark in remarks_of(report)),
    ]

    for group, records in extremes(report['per_scene']).items():
        parts.append(f'<h2>{group.capitalize()}</h2>' if records else '')
        parts += [section(record, *render(record['scene'])) for record in records]

    parts.append(settings_table({name: report[name] for name in ('weights', 'index', 'index_file', 'data', 'image_size', 'resize_filter', 'pose_frame', 'versions')}) + '</html>')
    write_whole(path, lambda temporary: temporary.write_text('\n'.join(parts), encoding = 'utf-8'))


def page_head(title: str, style: str) -> str:
    return f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title><style>{style}</style>'


def settings_table(settings: dict[str, Any]) -> str:
    return '<h2>Settings</h2><table>' + ''.join(f'<tr><td>{name}</td><td><code>{escape(str(value))}</code></td></tr>' for name, value in settings.items()) + '</table>'


def section(record: Record, batch: Batch, pred: Tensor) -> str:
    """Returns HTML of the inputs of a scene, and for each target of the rendered view, the ground truth and their difference."""
    inputs = ''.join(figure(image, f'input {number + 1}') for number, image in enumerate(batch.input_images[0]))
    rows = [f'<div class="row">{inputs}</div>']

    for number, (view, truth) in enumerate(zip(pred[0], batch.target_images[0], strict = True)):
        rendered = figure(view, f'rendered, {record["psnr"][number]:.2f} dB, SSIM {record["ssim"][number]:.3f}')
        rows.append(f'<div class="row">{rendered}{figure(truth, "truth")}{figure(error_map(view, truth), f"difference, yellow from {BRIGHTEST} on")}</div>')

    return f'<h3>{escape(record["scene"])}: {mean(record["psnr"]):.2f} dB</h3>' + ''.join(rows)


def error_map(view: Tensor, truth: Tensor) -> Tensor:
    """Returns the absolute difference of images (3 h w), averaged over channels, in the inferno colour map: (3 h w) in [0, 1]."""
    import torch
    from matplotlib import colormaps

    difference = (view - truth).abs().mean(dim = 0) / BRIGHTEST
    return torch.from_numpy(colormaps['inferno'](difference.clamp(0, 1).numpy())[..., :3]).permute(2, 0, 1).float()


def figure(image: Tensor, caption: str) -> str:
    stream = BytesIO()
    image_library().fromarray(to_pixels(image)).save(stream, format = 'PNG')
    return f'<figure><img src="data:image/png;base64,{b64encode(stream.getvalue()).decode()}" alt="{escape(caption)}"><figcaption>{escape(caption)}</figcaption></figure>'
