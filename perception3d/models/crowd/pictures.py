"""Maps of a crowd head as pictures show them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from perception3d.checks import unknown_name
from perception3d.models.crowd.maps import CrowdMaps, MapGrid, grids_of
from perception3d.structures.ground_maps import GroundMaps

NAMES = ('density', 'heatmap', 'levels', 'gates', 'coarse')


def names_of_maps(keep: bool | Sequence[str]) -> tuple[str, ...]:
    """Returns the names of the maps to keep: all for True, none for False.

    Raises:
        InputError: an unknown name.
    """
    names = (keep,) if isinstance(keep, str) else keep
    if isinstance(names, bool):
        return NAMES if names else ()
    for name in names:
        if name not in NAMES:
            raise unknown_name('map of keep_maps', name, NAMES)
    return tuple(names)


def ground_maps(maps: CrowdMaps, cloud: int, range_m: Sequence[float], names: Sequence[str] = NAMES) -> GroundMaps:
    """Returns maps of one cloud of a batch, over `range_m`.

    | name | maps |
    |---|---|
    | density | people per disc of 2 m radius |
    | heatmap | the probability of a person's centre, all levels joined |
    | levels | that of each level, finest first; nothing of a head of one level |
    | gates | the share of each level |
    | coarse | the probability that people are near |

    What a head does not have is left out.
    """
    rows: list[tuple[str, Tensor, float]] = []
    for name in names:
        if name == 'density' and maps.density is not None:
            most = max(1.0, float(maps.density[cloud].max()))
            rows.append((f'density: 0 to {most:.1f} people within 2 m', maps.density[cloud, 0], most))
        elif name == 'heatmap':
            rows.append(('heatmap', maps.heatmap[cloud, 0].sigmoid(), 1.0))
        elif name == 'levels' and len(maps.levels) > 1:
            rows += [
                (f'heatmap of level {k}, cells of {_cells(grid)}', logits[cloud, 0].sigmoid(), 1.0)
                for k, (grid, logits) in enumerate(zip(grids_of(range_m, maps.levels), maps.levels, strict=True))
            ]
        elif name == 'gates' and maps.gates is not None:
            rows += [(f'weight of level {k}, 0 to 1', gate, 1.0) for k, gate in enumerate(maps.gates[cloud])]
        elif name == 'coarse' and maps.coarse is not None:
            rows.append(('coarse map of where people are', maps.coarse[cloud, 0].sigmoid(), 1.0))
    # The maps of the network are [y, x]; a model that diverged has NaN in them.
    arrays = tuple(value.detach().float().nan_to_num(0.0).clamp(min=0).T.cpu().numpy() for _, value, _ in rows)
    x0, y0, x1, y1 = map(float, range_m)
    return GroundMaps(tuple(row[0] for row in rows), arrays, tuple(row[2] for row in rows), (x0, y0, x1, y1))


def _cells(grid: MapGrid) -> str:
    x, y = grid.cell_m
    return f'{x:.2f} x {y:.2f} m'
