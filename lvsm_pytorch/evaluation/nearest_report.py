"""Report of an evaluation of photo sets: a table of all sets, and an HTML page with pictures, the worst sets first."""

from __future__ import annotations

from html import escape
from pathlib import Path
from statistics import mean
from typing import Any

from lvsm_pytorch.evaluation.report import STYLE, page_head, settings_table
from lvsm_pytorch.files import write_whole
from lvsm_pytorch.text import counted

Record = dict[str, Any]
Figures = dict[str, dict[str, float]]

# columns of the table, and their descriptions

METHODS = dict(model = 'model', sweep = 'plane sweep', blur = 'blurred mean', copy = 'copied')
NOTES = (
    'model: rendered from the input views',
    'plane sweep: classical, 64 planes and 7 × 7 windows; its depth range is the best of three by the truth, which makes it a generous baseline',
    'blurred mean: mean of the input views, with the best blur by the truth',
    'copied: the best input view by the truth',
)

# dB; sets where the model is below the blurred mean by more are listed

MARGIN = 0.3

NEAREST_STYLE = '''
.strip { width: max-content; max-width: 100%; overflow-x: auto; margin-bottom: .8rem } .strip img { height: auto; width: 100% } .labels { display: grid; font-size: 12px; color: #666 }
'''


def set_figures(record: Record, num_inputs: int) -> Figures:
    """Means over the views of a set, by method."""
    views = record['views'][str(num_inputs)]
    return {method: {figure: mean(view[method][figure] for view in views) for figure in views[0][method]} for method in METHODS}


def mean_figures(records: list[Record], num_inputs: int) -> Figures:
    """Means over sets of the means over their views: each set counts once, however many photos it has."""
    found = [set_figures(record, num_inputs) for record in records]
    return {method: {figure: mean(each[method][figure] for each in found) for figure in found[0][method]} for method in METHODS}


def summary(records: list[Record], num_inputs: tuple[int, ...], shown_inputs: int) -> dict[str, Any]:
    """Summary for the report: means of the model and the baselines with `shown_inputs` input views, for each set, and by number of input views over the sets with enough photos."""
    with_shown = [record for record in records if str(shown_inputs) in record['views']]
    complete = [record for record in records if all(str(count) in record['views'] for count in num_inputs)]
    means = mean_figures(with_shown, shown_inputs) if with_shown else {}
    per_set: dict[str, dict[str, Any]] = {record['scene']: dict(set_figures(record, shown_inputs), views = len(record['views'][str(shown_inputs)])) for record in with_shown}
    return dict(
        num_inputs = shown_inputs,
        metrics = means.get('model', {}),
        baselines = {method: figures for method, figures in means.items() if method != 'model'},
        sets = per_set,
        by_inputs = dict(sets = len(complete), metrics = {str(count): mean_figures(complete, count) for count in num_inputs}) if complete and len(num_inputs) > 1 else None,
        below_blurred_mean = {name: each['model']['psnr'] - each['blur']['psnr'] for name, each in per_set.items() if each['model']['psnr'] < each['blur']['psnr'] - MARGIN},
    )


def cell(figures: dict[str, float]) -> str:
    return ' / '.join([f'{figures["psnr"]:.2f}', *(f'{figures[name]:.3f}' for name in ('ssim', 'lpips') if name in figures)])


def table_rows(report: dict[str, Any]) -> list[tuple[str, ...]]:
    """A heading, a row for each set in the order of the data, and the means."""
    rows = [(name, str(each['views']), *(cell(each[method]) for method in METHODS)) for name, each in report['sets'].items()]
    means = dict(report['baselines'], model = report['metrics'])
    heading = f'{report["num_inputs"]} input views', 'views', *METHODS.values()
    return [heading, *rows, (f'mean of {counted(len(rows), "set")}', str(sum(each['views'] for each in report['sets'].values())), *(cell(means[method]) for method in METHODS))] if rows else [heading]


def input_rows(report: dict[str, Any]) -> list[tuple[str, ...]]:
    """Means by number of input views; empty for a single number."""
    found = report['by_inputs']

    if found is None:
        return []

    sets = f'{found["sets"]} sets with enough photos'
    return [(sets, 'inputs', *METHODS.values()), *(('mean', count, *(cell(figures[method]) for method in METHODS)) for count, figures in found['metrics'].items())]


def remarks(report: dict[str, Any]) -> list[str]:
    scenes = report['scenes']
    missing_photos = {name: photos for name, photos in scenes['missing_photos'].items() if photos}
    said = ['PSNR in dB / SSIM' + (' / LPIPS' if 'lpips' in report['metrics'] else ''), *NOTES]
    said += [f'below the blurred mean by more than {MARGIN} dB: ' + (', '.join(f'{name} ({difference:+.2f} dB)' for name, difference in report['below_blurred_mean'].items()) or 'none')]
    said += [f'{counted(scenes["evaluated"], "set")} evaluated, {len(scenes["missing"])} missing; {sum(map(len, missing_photos.values()))} photos that could not be read']
    said += [f'missing: {name}: {why}' for name, why in scenes['missing'].items()]
    said += [f'{name}: {photo["photo"]}{", held out" if photo["held_out"] else ""}: {photo["why"]}' for name, photos in missing_photos.items() for photo in photos]
    said += [f'{name}: fewer than {report["num_inputs"]} other photos' for name in scenes['too_few']]
    said += [f'skipped: {name}: {why}' for name, why in scenes['skipped'].items()]
    said += [] if 'lpips' in report['metrics'] else [f'LPIPS: {report["lpips"]}']
    return said


def table(report: dict[str, Any]) -> str:
    """The table as text."""
    groups = [rows for rows in (table_rows(report), input_rows(report)) if rows]
    widths = [max(len(row[column]) for rows in groups for row in rows) for column in range(2 + len(METHODS))]
    lines = ['\n'.join('  '.join(text.ljust(width) if column == 0 else text.rjust(width) for column, (text, width) in enumerate(zip(row, widths, strict = True))) for row in rows) for rows in groups]
    return '\n\n'.join((*lines, '\n'.join(remarks(report))))


def write_page(path: Path, report: dict[str, Any]) -> None:
    """Writes an HTML page with the table and the pictures of each set, the worst first. Pictures are files in a folder beside it."""
    parts = [page_head('Evaluation of photo sets', STYLE + NEAREST_STYLE), '<h1>Evaluation of photo sets</h1>', *map(html_table, filter(None, (table_rows(report), input_rows(report))))]
    parts += [f'<p>{escape(remark)}</p>' for remark in remarks(report)]
    records = [record for record in report['per_scene'] if record['scene'] in report['sets']]

    for record in sorted(records, key = lambda record: report['sets'][record['scene']]['model']['psnr']):
        parts.append(section(record, report['sets'][record['scene']], report['num_inputs']))

    names = 'weights', 'data', 'protocol', 'num_inputs', 'max_views', 'image_size', 'resize_filter', 'pose_frame', 'versions'
    parts.append(settings_table({name: report[name] for name in names}) + '</html>')
    write_whole(path, lambda temporary: temporary.write_text('\n'.join(parts), encoding = 'utf-8'))


def html_table(rows: list[tuple[str, ...]]) -> str:
    heading, *others = rows
    cells = [''.join(f'<th>{escape(text)}</th>' for text in heading), *(''.join(f'<td>{escape(text)}</td>' for text in row) for row in others)]
    return '<table>' + ''.join(f'<tr>{each}</tr>' for each in cells) + '</table>'


def section(record: Record, figures: Figures, num_inputs: int) -> str:
    means = ', '.join(f'{label} {figures[method]["psnr"]:.2f} dB' for method, label in METHODS.items())
    parts = [f'<h2>{escape(record["scene"])}</h2><p>{means}</p>']

    for picture in record['pictures']:
        view = next(view for view in record['views'][str(num_inputs)] if view['view'] == picture['view'])
        labels = [*(f'input {number + 1}' for number in range(num_inputs)), *(f'{METHODS[method]} {view[method]["psnr"]:.2f} dB' for method in ('sweep', 'model')), 'truth']
        described = f'{view["view"]}, the {picture["which"]} of the set'
        grid = f'grid-template-columns: repeat({len(labels)}, 1fr)'
        parts.append(
            f'<h3>{escape(described)}</h3><div class="strip"><div class="labels" style="{grid}">{"".join(f"<span>{escape(label)}</span>" for label in labels)}</div>'
            f'<img src="{escape(picture["file"])}" alt="{escape(record["scene"])}: {escape(described)}" loading="lazy"></div>',
        )

    return '\n'.join(parts)
