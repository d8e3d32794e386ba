"""Settings of the crowd metrics, and the bins in which recall is reported; no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from perception3d.checks import InputError, unknown_name

DISTANCES_M = (0.25, 0.5, 1.0)
"""A match must be closer than these, metres between the middles of the boxes."""
OCCLUSIONS = (0, 1, 2)
"""Levels of STCrowd: higher is worse. What they mean is not published."""
RATE_DISTANCE_M = 0.5
"""Of the rates of duplicates and merges: the middle one of DISTANCES_M."""
NEIGHBOUR_RADIUS_M = 2.0
TRACK_DISTANCES_M = (0.5, 1.0)
"""Of MOTA, IDF1, MT and ML: the site does not say which. AMOTA is measured at the last one."""

_OPEN = float('inf')
Bins = Mapping[str, tuple[float, float]]
# Low <= value < high; the farthest range includes 35 m.
BINS: Mapping[str, Bins] = {
    'by_density': {'0-1': (0, 2), '2-3': (2, 4), '4+': (4, _OPEN)},
    'by_range': {'0-10': (0, 10), '10-20': (10, 20), '20-35': (20, 35.0 + 1e-9)},
    'by_points': {'15-30': (15, 30), '30-100': (30, 100), '100+': (100, _OPEN)},
}


@dataclass(frozen=True)
class CrowdOptions:
    """What the data set leaves open, see `crowd_scores.score_crowds`. The defaults are our own proposal.

    Attributes:
        distance: '3d' or 'bev' (in the plane): the reading that the short names of a training log use. Both are scored.
        ap: 'nus', the mean precision at the recalls 0.11, 0.12 .. 1 less 0.1, as nuScenes; or 'area', the area under
            the curve of precision, of which each point is the best at this recall or more.
        ar_match: 'joint' matches all people at once, then counts each level of occlusion; 'per_level' matches the
            people of one level alone, so that the detection of a visible person may count for a hidden neighbour.
        score_thr: least score of a prediction in AR, in recall, in the rates and in the counting error.
        ap_score_thr: least score of a prediction in AP.
        max_dets: predictions a frame, those of highest score; None: all.
        sector: predictions behind the sensor (more than 90 degrees from x) are dropped, people there ignored.
        range_m: predictions farther in the plane are dropped, people there ignored; None: no limit.
        ignore_sitting, ignore_few_points: whether people who sit, or have too few LiDAR points, are ignored.
        samples: of the bootstrap; 0: no intervals.
        seed: of the bootstrap.

    Raises:
        InputError: a name that is not one of these, or a number out of its range.
    """

    distance: str = '3d'
    ap: str = 'nus'
    ar_match: str = 'joint'
    score_thr: float = 0.1
    ap_score_thr: float = 0.0
    max_dets: int | None = 200
    sector: bool = True
    range_m: float | None = 35.0
    ignore_sitting: bool = True
    ignore_few_points: bool = True
    samples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        for name, choices in (
            ('distance', ('3d', 'bev')),
            ('ap', ('nus', 'area')),
            ('ar_match', ('joint', 'per_level')),
        ):
            if getattr(self, name) not in choices:
                raise unknown_name(f'{name} of the crowd metric', getattr(self, name), choices)
        for name, least in (('max_dets', 1), ('range_m', 0), ('samples', 0), ('seed', 0)):
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise InputError(f'{name} of the crowd metric is {value}: expected {least} or more')


COMPAT: Mapping[str, Mapping[str, Any]] = {
    'crowdquery': {
        'distance': 'bev',
        'ap': 'nus',
        'ar_match': 'per_level',
        'score_thr': 0.2,
        'ap_score_thr': 0.2,
        'max_dets': 100,
        'sector': False,
        'range_m': None,
        'ignore_sitting': False,
        'ignore_few_points': False,
    }
}
"""Presets. crowdquery: as `three_d/eval/stcrowd_metric.py` of mdaehl/CrowdQuery (2025), the one public evaluation of
STCrowd in 3D. It measures in the plane of the camera, x and z, not in that of the LiDAR; where its network scales
scores by an uncertainty, it compares 0.2 with the score before.
"""


def make_options(compat: str | None = None, **settings: Any) -> CrowdOptions:
    """Returns the options: the defaults, or a preset of COMPAT, changed by those `settings` that are not None.

    Raises:
        InputError: an unknown preset or setting, or as of CrowdOptions.
    """
    names = [field.name for field in fields(CrowdOptions)]
    for name in settings:
        if name not in names:
            raise unknown_name('setting of the crowd metric', name, names)
    if compat is not None and compat not in COMPAT:
        raise unknown_name('compat of the crowd metric', compat, COMPAT)
    preset = dict(COMPAT[compat]) if compat else {}
    return replace(CrowdOptions(), **{**preset, **{name: v for name, v in settings.items() if v is not None}})
