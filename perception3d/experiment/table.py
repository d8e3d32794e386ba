"""The result of an experiment: means, spreads and paired differences, one row for each arm, as JSON and Markdown."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from scipy import stats

from perception3d.benchmark.report import markdown_table
from perception3d.checks import InputError
from perception3d.experiment.commands import ExperimentRun, short_line
from perception3d.experiment.plan import Experiment
from perception3d.experiment.records import TEST, TRAIN, CellFolder, read_prepared
from perception3d.files import write_json, write_whole

_NONE = '-'


class Spread(NamedTuple):
    """Number of values, their mean, and their sample standard deviation (n - 1); None with fewer than two values."""

    n: int
    mean: float | None
    std: float | None


class Difference(NamedTuple):
    """Number of pairs, mean difference, and the ends of its confidence interval; None with fewer than two pairs."""

    n: int
    mean: float | None
    low: float | None
    high: float | None


def spread(values: Sequence[float]) -> Spread:
    """Returns mean and sample standard deviation of `values`; None where there are too few values."""
    n = len(values)
    return Spread(n, fmean(values) if n else None, stdev(values) if n > 1 else None)


def paired_difference(
    values: Mapping[int, float], baseline: Mapping[int, float], confidence: float = 0.95
) -> Difference:
    """Returns the mean of `values` minus `baseline`, paired by their keys (seeds).

    The interval is that of the paired t test: mean difference +- t * s / sqrt(n), with the quantile of Student's t of
    n - 1 degrees of freedom. It assumes normal and independent differences.
    """
    differences = [values[key] - baseline[key] for key in values if key in baseline]
    n, mean, std = spread(differences)
    if mean is None or std is None:
        return Difference(n, mean, None, None)
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * std / math.sqrt(n)
    return Difference(n, mean, mean - half, mean + half)


def summarise(experiment: Experiment, records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns a row for every arm from the records of its cells, with metrics on the scale of the tests.

    A metric that is null in a record (NaN: undefined in that test) is left out; `n` of the metric is then smaller.
    """
    values = {arm: {name: _values(records, arm, name) for name in experiment.metrics} for arm in experiment.arms}
    rows = []
    for arm in experiment.arms.values():
        own = [record for record in records if record['arm'] == arm.name]
        metrics = {}
        for name in experiment.metrics:
            seeds = values[arm.name][name]
            metrics[name] = {'values': seeds, **spread(list(seeds.values()))._asdict(), 'difference': None}
            if arm.baseline:
                metrics[name]['difference'] = paired_difference(seeds, values[arm.baseline][name])._asdict()
        rows.append(
            {
                'arm': arm.name,
                'n': len(own),
                'seeds': [record['seed'] for record in own],
                'missing_seeds': [seed for seed in arm.seeds if seed not in {record['seed'] for record in own}],
                'baseline': arm.baseline,
                'metrics': metrics,
                'train_seconds': spread([record['train_seconds'] for record in own]).mean,
                'test_seconds': spread([record['test_seconds'] for record in own]).mean,
                'extra': arm.extra,
            }
        )
    return rows


def wall_times(records: Sequence[Mapping[str, Any]], prepared: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Returns seconds: the sum over all cells, their estimated wall time in parallel, and the commands before them.

    In parallel, the time of each cell is divided by the number of cells that ran at once: the wall time of all, if that
    many were always running.
    """
    seconds = [record['train_seconds'] + record['test_seconds'] for record in records]
    jobs = [record['machine'].get('cells side by side', 1) for record in records]
    return {
        'cells': sum(seconds),
        'cells_side_by_side': sum(own / count for own, count in zip(seconds, jobs)),
        'prepare': sum(entry['seconds'] or 0.0 for entry in prepared),
    }


def _values(records: Iterable[Mapping[str, Any]], arm: str, metric: str) -> dict[int, float]:
    values = {record['seed']: record['metrics'][metric] for record in records if record['arm'] == arm}
    return {seed: value for seed, value in values.items() if value is not None}


def markdown(
    experiment: Experiment,
    rows: Sequence[Mapping[str, Any]],
    records: Sequence[Mapping[str, Any]],
    prepared: Sequence[Mapping[str, Any]],
    command: Sequence[str],
    repository: Path | None,
) -> str:
    """Returns the page of an experiment: the table, and the commands, commits and machine to repeat a row.

    Args:
        rows: as `summarise` returns them.
        records: of the cells that are done.
        prepared: commands that ran before the cells.
        command: that of the experiment.
        repository: commands are shown as typed in this folder; None: as those of an installed package.
    """
    scale = _scale_words(experiment)
    commits = _distinct(_commit(part) for record in records for part in _parts(record))
    lines = [
        f'# {experiment.name}',
        '',
        'Mean ± sample standard deviation over n seeds. A difference is that to the arm under "compared with", paired '
        f"by seed, with the 95 % interval of Student's t.{scale} Times are wall times of a cell, start-up included.",
        '',
        markdown_table(_table(experiment, rows)),
        '',
        f'- command: `{short_line(command, repository)}`',
        f'- seeds: {_seeds(experiment)}',
        *(f'- not done: {row["arm"]}, seeds {_listed(row["missing_seeds"])}' for row in rows if row['missing_seeds']),
        f'- wall time: {_wall_time(records, prepared) if records else "no cell is done"}',
        *(f'- machine: {text}' for text in _distinct(_facts(record['machine']) for record in records)),
        *(f'- versions: {text}' for text in _distinct(_facts(record['versions']) for record in records)),
        *([f'- code: {_listed(commits)}'] if commits else []),
        '',
        '## Commands',
        '',
        *(_prepare_line(entry, repository) for entry in prepared),
        *(_cell_line(record, repository) for record in records),
    ]
    return '\n'.join(lines) + '\n'


def _scale_words(experiment: Experiment) -> str:
    """A sentence about the scale of the metrics; nothing where they are shown as they are."""
    if experiment.scale == 1:
        return ''
    but = f' but for {_listed(experiment.unscaled)}' if experiment.unscaled else ''
    return f' Metrics are multiplied by {experiment.scale:g}{but}.'


def _table(experiment: Experiment, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    compared = any(row['baseline'] for row in rows)
    extra = list(dict.fromkeys(key for row in rows for key in row['extra']))
    table = []
    for row in rows:
        line = {'arm': row['arm'], 'n': str(row['n'])}
        if compared:
            line['compared with'] = row['baseline'] or _NONE
        for name in experiment.metrics:
            scale = experiment.scale_of(name)
            digits = _digits(scale * (other['metrics'][name]['mean'] or 0.0) for other in rows)
            line[name] = _mean(row['metrics'][name], row['n'], scale, digits)
            if compared:
                difference = row['metrics'][name]['difference']
                line[f'{name}: difference [95 %]'] = _difference(difference, row['n'], scale, digits)
        line['train, min'] = _minutes(row['train_seconds'])
        line['test, min'] = _minutes(row['test_seconds'])
        line.update({key: str(row['extra'].get(key, _NONE)) for key in extra})
        table.append({key.replace('|', r'\|'): value.replace('|', r'\|') for key, value in line.items()})
    return table


def _digits(values: Iterable[float]) -> int:
    """Returns how many decimals show the largest mean of a column with four digits; at most four."""
    largest = max(map(abs, values), default=0.0)
    return min(4, max(0, 3 - math.floor(math.log10(largest)))) if largest else 4


def _mean(metric: Mapping[str, Any], n: int, scale: float, digits: int) -> str:
    if metric['mean'] is None:
        return _NONE
    text = f'{metric["mean"] * scale:.{digits}f}'
    if metric['std'] is not None:
        text += f' ± {metric["std"] * scale:.{digits}f}'
    return text + _count(metric['n'], n)


def _difference(difference: Mapping[str, Any] | None, n: int, scale: float, digits: int) -> str:
    if difference is None or difference['mean'] is None:
        return _NONE
    text = f'{difference["mean"] * scale:+.{digits}f}'
    if difference['low'] is None:
        return f'{text} [{_NONE}]' + _count(difference['n'], n)
    ends = f'{difference["low"] * scale:+.{digits}f}, {difference["high"] * scale:+.{digits}f}'
    return f'{text} [{ends}]' + _count(difference['n'], n)


def _count(n: int, of_row: int) -> str:
    return '' if n == of_row else f' (n={n})'


def _minutes(seconds: float | None) -> str:
    return _NONE if seconds is None else f'{seconds / 60:.1f}'


def _seeds(experiment: Experiment) -> str:
    seeds = {arm.name: arm.seeds for arm in experiment.arms.values()}
    if len(set(seeds.values())) == 1:
        return _listed(next(iter(seeds.values())))
    return '; '.join(f'{arm}: {_listed(own)}' for arm, own in seeds.items())


def _wall_time(records: Sequence[Mapping[str, Any]], prepared: Sequence[Mapping[str, Any]]) -> str:
    times = {key: clock(seconds) for key, seconds in wall_times(records, prepared).items()}
    jobs = _listed(_distinct(str(record['machine'].get('cells side by side', 1)) for record in records))
    before = f', {times["prepare"]} before them' if prepared else ''
    return f'all cells {times["cells"]} h, divided by {jobs} side by side {times["cells_side_by_side"]} h{before}'


def _prepare_line(entry: Mapping[str, Any], repository: Path | None) -> str:
    return (
        f'- before the cells, {_minutes(entry["seconds"])} min, {_commit(entry)}: '
        f'`{short_line(entry["command"], repository)}`'
    )


def _cell_line(record: Mapping[str, Any], repository: Path | None) -> str:
    parts = len(record[TRAIN]['parts'])
    times = f'train {_minutes(record["train_seconds"])} min' + (f' in {parts} parts' if parts > 1 else '')
    commits = _listed(_distinct(_commit(part) for part in _parts(record)))
    train, test = (short_line(record[stage]['parts'][-1]['command'], repository) for stage in (TRAIN, TEST))
    return (
        f'- {record["arm"]}/seed{record["seed"]}, {times}, test {_minutes(record["test_seconds"])} min, {commits}: '
        f'`{train}`, then `{test}`'
    )


def _parts(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*record[TRAIN]['parts'], *record[TEST]['parts']]


def _commit(part: Mapping[str, Any]) -> str:
    commit = f'commit {part["commit"][:10]}' if part['commit'] else 'no commit known'
    return commit + (' with changes' if part['dirty'] else '')


def _facts(facts: Mapping[str, Any]) -> str:
    return ', '.join(f'{key}: {value}' for key, value in facts.items())


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _listed(items: Iterable[Any]) -> str:
    return ', '.join(map(str, items))


def write_table(run: ExperimentRun) -> Path:
    """Writes <name>.json and <name>.md from the cells that are done, and returns the path of the latter.

    Raises:
        InputError: no cell is done.
    """
    experiment, out, launch = run.experiment, run.out, run.launch
    order = {cell: number for number, cell in enumerate(experiment.cells())}
    cells = sorted(order, key=lambda cell: (list(experiment.arms).index(cell.arm), order[cell]))
    records = [record for cell in cells if (record := CellFolder(out, cell).record())]
    if not records:
        raise InputError(f'no cell of {experiment.name} in {out} is done: run the experiment first')
    rows, earlier = summarise(experiment, records), read_prepared(out)
    words = [str(experiment.file), '--out', str(out), *launch.words()]
    command = [sys.executable, *launch.script('experiment'), *words]
    content = {
        'name': experiment.name,
        'command': command,
        'scale': experiment.scale,
        'unscaled': list(experiment.unscaled),
        'arms': rows,
        'seconds': wall_times(records, earlier),
        'prepared': earlier,
        'cells': records,
    }
    write_json(out / f'{experiment.name}.json', content, indent=2)
    path = out / f'{experiment.name}.md'
    with write_whole(path) as temporary:
        text = markdown(experiment, rows, records, earlier, command, launch.repository)
        temporary.write_text(text, encoding='utf-8')
    return path


def clock(seconds: float) -> str:
    """Returns a time as h:mm:ss."""
    whole = round(max(0.0, seconds))
    return f'{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}'
