"""Maps of a crowd head as heatmaps that can be drawn."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from perception3d.checks import unknown_name
from perception3d.models.crowd.maps import CrowdMaps
from perception3d.structures.heatmaps import Heatmaps

# Density is drawn as a share of this: people per disc of 2 m radius.
FULL_DENSITY = 10.0
NAMES = ('heatmap', 'levels', 'gates', 'density', 'coarse')


def heatmaps_of(maps: CrowdMaps, cloud: int, range_m: Sequence[float], names: Sequence[str]) -> dict[str, Heatmaps]:
    """Returns maps of one cloud of a batch, over `range_m`, by the name of their field without `pred_`.

    | name | fields |
    |---|---|
    | heatmap | `heatmaps`: the probability of a person's centre, all levels joined |
    | levels | `level0`, `level1`, ..: that of each level, finest first |
    | gates | `gates`: the share of each level, classes `level 0`, .. |
    | density | `density`: people per disc of 2 m radius, as a share of 10 |
    | coarse | `coarse`: the probability that people are near |

    What a head does not have is left out.

    Raises:
        InputError: another name.
    """
    found: dict[str, Heatmaps] = {}
    for name in names:
        if name == 'heatmap':
            found['heatmaps'] = _drawn(maps.heatmap[cloud].sigmoid(), range_m, ('person',))
        elif name == 'levels':
            for k, logits in enumerate(maps.levels):
                found[f'level{k}'] = _drawn(logits[cloud].sigmoid(), range_m, ('person',))
        elif name == 'gates' and maps.gates is not None:
            classes = tuple(f'level {k}' for k in range(maps.gates.shape[1]))
            found['gates'] = _drawn(maps.gates[cloud].clamp(0, 1), range_m, classes)
        elif name == 'density' and maps.density is not None:
            found['density'] = _drawn((maps.density[cloud] / FULL_DENSITY).clamp(0, 1), range_m, ('density',))
        elif name == 'coarse' and maps.coarse is not None:
            found['coarse'] = _drawn(maps.coarse[cloud].sigmoid(), range_m, ('people near',))
        elif name not in NAMES:
            raise unknown_name('map of keep_maps', name, NAMES)
    return found


def _drawn(values: Tensor, range_m: Sequence[float], classes: tuple[str, ...]) -> Heatmaps:
    """Returns heatmaps, whose first axis runs along x, of maps (K, H, W) along y and x."""
    x0, y0, x1, y1 = map(float, range_m)
    array = values.detach().float().transpose(1, 2).cpu().numpy()
    return Heatmaps(array, range_m=(x0, y0, x1, y1), classes=classes)
