"""What `create_data` says of the frames of a crowd: what is far off shows a wrong unit, frame or split at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

RADII_M = (2, 5, 10)


def count_notes(infos: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns a line for each reason to ignore people, and for what is not known of people and frames."""
    reasons = Counter(box['reason'] for info in infos for box in info['ignored'])
    boxes = [box for info in infos for box in (*info['instances'], *info['ignored'])]
    notes = [f'{count} of {len(boxes)} people are ignored: {reason}' for reason, count in sorted(reasons.items())]
    for number, text in (
        (sum(box['occlusion'] < 0 for box in boxes), f'of {len(boxes)} people have no known level of occlusion'),
        (sum(box['track_id'] < 0 for box in boxes), f'of {len(boxes)} people have no id, or one that is there twice'),
        (sum(not info['labelled'] for info in infos), f'of {len(infos)} frames are not labelled'),
        (sum(info['labelled'] and not info['instances'] for info in infos), 'labelled frames have nobody who counts'),
    ):
        if number:
            notes.append(f'{number} {text}')
    return notes


def neighbours(places: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Returns the mean number of others within 2, 5 and 10 m of a person, for places (N, 2) of the people of frames."""
    found = np.zeros(len(RADII_M))
    for xy in places:
        gaps = np.linalg.norm(xy[:, None] - xy[None], axis=2)
        found += [(gaps <= radius).sum() - len(xy) for radius in RADII_M]
    return found / max(1, sum(map(len, places)))


def crowd_note(infos: Sequence[Mapping[str, Any]], usual: str) -> list[str]:
    """Returns a line with the neighbours, the mean box and the heights of the people who count; none without people.

    usual: what the mean numbers of the whole data set are.
    """
    boxes = [np.array([box['bbox_3d'] for box in info['instances']], np.float64).reshape(-1, 9) for info in infos]
    every = np.concatenate(boxes)
    if not len(every):
        return []
    length, width, height = every[:, 3:6].mean(0)
    low, high = np.percentile(every[:, 2], [0.1, 99.9])
    near = '/'.join(f'{number:.1f}' for number in neighbours([frame[:, :2] for frame in boxes]))
    return [
        f'neighbours within 2/5/10 m {near}; boxes {length:.2f} x {width:.2f} x {height:.2f} m, bottoms at z '
        f'{low:.2f} to {high:.2f} m ({usual})'
    ]
