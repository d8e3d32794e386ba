"""Scores of crowds as a table to print, and under the short names of a training log; no torch."""

from __future__ import annotations

from typing import Any

from perception3d.evaluation.crowd_options import BINS, DISTANCES_M, OCCLUSIONS, TRACK_DISTANCES_M, CrowdOptions
from perception3d.evaluation.crowd_scores import READINGS, CrowdScores

_BIN_NAMES = {'by_density': 'n2m', 'by_range': 'range', 'by_points': 'points'}


def flatten(scores: dict[str, Any], options: CrowdOptions) -> dict[str, float]:
    """Returns scores under short names: those of the reading `options.distance` alone, of the other one with its name.

    `map`, `ap@0.25`, `ar`, `ar@occ0`, `recall@n2m_4+`, `recall@range_0-10`, `recall@points_100+`, `duplicate_rate`,
    `merge_rate`, `counting_error`; `bev/map` and so on; of tracks `mota`, `idf1`, `mt`, `ml`, `amota` at the last of
    TRACK_DISTANCES_M, and `mota@0.5` and so on. What is not known has no name.
    """
    flat: dict[str, float | None] = {'counting_error': scores['counting_error']}
    for reading in READINGS:
        part, prefix = scores[reading], '' if reading == options.distance else f'{reading}/'
        flat[f'{prefix}map'] = part['ap']['mean']
        flat.update({f'{prefix}ap@{d}': part['ap'][f'{d}'] for d in DISTANCES_M})
        flat[f'{prefix}ar'] = part['ar']['overall']
        flat.update({f'{prefix}ar@occ{level}': part['ar']['occlusion'][f'{level}'] for level in OCCLUSIONS})
        for kind, name in _BIN_NAMES.items():
            flat.update({f'{prefix}recall@{name}_{own}': value for own, value in part['recall'][kind].items()})
        flat.update({f'{prefix}{rate}': part[rate] for rate in ('duplicate_rate', 'merge_rate')})
    for bound in TRACK_DISTANCES_M if 'tracking' in scores else ():
        end = '' if bound == TRACK_DISTANCES_M[-1] else f'@{bound}'
        flat.update({f'{name}{end}': value for name, value in scores['tracking'][f'{bound}'].items()})
    return {name: value for name, value in flat.items() if value is not None}


def table(result: CrowdScores) -> str:
    """Returns the scores as text: a column for each reading, with the interval where there is one."""
    scores = result.scores
    spread = scores.get('interval', {})
    lines = [
        f'{result.frames} frames of {result.sequences} sequences, {result.people} people ({result.ignored} more are '
        f'ignored), {result.predictions} predictions in the area that is scored',
        f'{"percent, rates in 0..1":<26}' + ''.join(f'{reading:>26}' for reading in READINGS),
    ]
    rows = [(f'AP {d} m', f'ap/{d}') for d in DISTANCES_M] + [('mAP', 'ap/mean'), ('AR', 'ar/overall')]
    rows += [(f'AR, occlusion {level}', f'ar/occlusion/{level}') for level in OCCLUSIONS]
    titles = {'by_density': 'neighbours in 2 m', 'by_range': 'm', 'by_points': 'points'}
    rows += [(f'recall, {own} {titles[kind]}', f'recall/{kind}/{own}') for kind in BINS for own in BINS[kind]]
    rows += [('duplicate rate', 'duplicate_rate'), ('merge rate', 'merge_rate')]
    for title, path in rows:
        lines.append(f'{title:<26}' + ''.join(f'{_cell(scores, spread, f"{r}/{path}"):>26}' for r in READINGS))
    lines.append(f'{"people miscounted a frame":<26}{_cell(scores, spread, "counting_error"):>26}')
    if 'tracking' in scores:
        lines.append(f'{"tracks, percent":<26}' + ''.join(f'{f"{d} m":>26}' for d in TRACK_DISTANCES_M))
        for name in ('mota', 'idf1', 'mt', 'ml', 'amota'):
            cells = [_cell(scores, spread, f'tracking/{d}/{name}') for d in TRACK_DISTANCES_M]
            lines.append(f'{name.upper():<26}' + ''.join(f'{cell:>26}' for cell in cells))
    return '\n'.join(lines + [f'note: {note}' for note in result.notes])


def _cell(scores: dict[str, Any], spread: dict[str, list[float]], path: str) -> str:
    value: Any = scores
    for name in path.split('/'):
        value = value.get(name) if value else None
    if value is None:
        return '-'
    digits = 4 if path.endswith('_rate') else 2
    if path not in spread:
        return f'{value:.{digits}f}'
    low, high = spread[path]
    return f'{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]'
