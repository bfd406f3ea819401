"""The figures of `compare.py` as pictures."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

Results = dict[str, dict[str, dict]]


def draw_ratios(results: Results, path: Path, conditions: str) -> None:
    """Bars: how many times as fast as lvsm-pytorch 0.1.6, the spread as a line; a panel for each piece of work."""
    figure = Figure(figsize = (9, 1.2 + sum(0.5 + 0.3 * len(each) for each in results.values())), layout = 'constrained')
    panels = figure.subplots(len(results), 1, gridspec_kw = dict(height_ratios = [len(each) for each in results.values()]))

    for panel, (title, measured) in zip(panels, results.items(), strict = True):
        seed = measured['0.1.6']['median']
        names = list(measured)[::-1]
        ratios = [seed / measured[name]['median'] for name in names]
        spread = [[ratio - seed / max(measured[name]['seconds']) for name, ratio in zip(names, ratios, strict = True)],
                  [seed / min(measured[name]['seconds']) - ratio for name, ratio in zip(names, ratios, strict = True)]]
        colors = ['C7' if name in ('0.1.6', 'plain reference') or 'products' in name else 'C0' for name in names]
        panel.barh(names, ratios, xerr = spread, color = colors, ecolor = '#444', height = 0.7)
        panel.axvline(1, color = 'black', linewidth = 0.8)
        panel.set_title(title, loc = 'left', fontsize = 10)
        panel.tick_params(labelsize = 8)
        panel.margins(x = 0.12)

        for row, ratio in enumerate(ratios):
            panel.text(max(ratio + spread[1][row], 0), row, f'  {ratio:.2f}', va = 'center', fontsize = 8)

    figure.supxlabel(f'times as fast as lvsm-pytorch 0.1.6 (grey: other code, and the matrix products alone)\n{conditions}', fontsize = 9)
    figure.savefig(path, dpi = 110)


def draw_growth(results: Results, path: Path, conditions: str) -> None:
    """Log-log: seconds and memory against inputs, targets, size and depth, for training and rendering."""
    axes = list(dict.fromkeys(name.split()[1] for name in results))
    rows = [(job, figure) for job in ('train', 'render') for figure in ('median', 'bytes')]
    figure = Figure(figsize = (4 * len(axes), 3 * len(rows)), layout = 'constrained')
    panels = figure.subplots(len(rows), len(axes), squeeze = False)

    for row, (job, what) in enumerate(rows):
        for column, axis in enumerate(axes):
            panel = panels[row][column]
            points = {int(name.split()[2]): each for name, each in results.items() if name.split()[:2] == [job, axis]}
            implementations = list(dict.fromkeys(name for each in points.values() for name in each))

            for index, name in enumerate(implementations):
                scale = 1 if what == 'median' else 2 ** 20
                panel.plot(list(points), [each[name][what] / scale for each in points.values()], 'o-', label = name, color = f'C{index}')

            panel.set_xscale('log', base = 2)
            panel.set_yscale('log', base = 2)
            panel.set_xticks(list(points), [str(value) for value in points])
            panel.yaxis.set_major_formatter(lambda value, _: f'{value:g}')
            panel.grid(alpha = 0.3)
            panel.set_xlabel({'size': 'height and width, pixels', 'depth': 'blocks', 'inputs': 'input views', 'targets': 'target views'}[axis])
            panel.set_ylabel(f'{job}: {"seconds" if what == "median" else "peak memory, MiB"}')

            if row == 0:
                panel.legend(fontsize = 8)

    figure.supxlabel(conditions, fontsize = 9)
    figure.savefig(path, dpi = 90)


def draw_gpu(content: dict[str, dict], path: Path, conditions: str) -> None:
    """Bars of the share of the matrix product rate; time and memory against inputs, targets and size; images a second against workers."""
    speed, growth, loader = (content.get(part, {}) for part in ('speed', 'growth', 'loader'))
    axes = list(dict.fromkeys(name.split()[1] for name in growth))
    columns = max(len(axes), 2)
    figure = Figure(figsize = (5 * columns, 4.5 + 3 * 4 * bool(axes)), layout = 'constrained')
    panels = figure.subplots(1 + 4 * bool(axes), columns, squeeze = False)

    bars = [(f'{title}: {name}', each['mfu']) for title, of in speed.items() for name, each in of.items() if 'mfu' in each][::-1]
    panels[0][0].barh([name for name, _ in bars], [100 * share for _, share in bars], color = ['C7' if 'products' in name else 'C0' for name, _ in bars])
    panels[0][0].set_xlabel('% of the rate of one large matrix product')
    panels[0][0].tick_params(labelsize = 7)

    panels[0][1].plot(list(loader), [each['images_per_second'] for each in loader.values()], 'o-')
    panels[0][1].set_xlabel('processes that read images')
    panels[0][1].set_ylabel('images/s')

    for panel in panels[0][2:]:
        panel.set_axis_off()

    for row, (job, what, scale, unit) in enumerate([(job, *figures) for job in ('train', 'render') for figures in (('median', 1e-3, 'ms'), ('bytes', 2 ** 20, 'MiB'))][:4 * bool(axes)], 1):
        for panel, axis in zip(panels[row], axes, strict = False):
            points = {int(name.split()[2]): each for name, each in growth.items() if name.split()[:2] == [job, axis]}

            for name in dict.fromkeys(name for each in points.values() for name in each):
                measured = [(value, each[name][what] / scale) for value, each in points.items() if what in each[name]]
                panel.plot([value for value, _ in measured], [figure for _, figure in measured], 'o-', label = name)

            panel.set_xlabel({'size': 'height and width, pixels', 'inputs': 'input views', 'targets': 'target views'}[axis])
            panel.set_ylabel(f'{job}: {"time" if what == "median" else "memory"}, {unit}')
            panel.set_ylim(bottom = 0)
            panel.grid(alpha = 0.3)
            panel.legend(fontsize = 7)

    figure.supxlabel(conditions, fontsize = 9)
    figure.savefig(path, dpi = 90)
