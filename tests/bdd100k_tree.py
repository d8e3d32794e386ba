"""A small BDD100K tree made by hand: images of 320x180, a marking of two borders; labels of three releases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from perception3d.files import write_image, write_json

HW = (180, 320)
LEFT_BORDERS = [[[100.0, 180.0], [150.0, 80.0]], [[108.0, 180.0], [152.0, 80.0]]]
RIGHT_LINE = [[250.0, 180.0], [200.0, 120.0], [180.0, 100.0], [172.0, 80.0]]
STOP_LINE = [[110.0, 150.0], [240.0, 150.0]]


def label(number: int, category: str, vertices: Any, types: str, **attributes: str) -> dict[str, Any]:
    """Returns a label of the release of 2020."""
    return {
        'id': str(number),
        'category': category,
        'attributes': {'laneDirection': 'parallel', 'laneStyle': 'solid', **attributes},
        'poly2d': [{'vertices': vertices, 'types': types, 'closed': False}],
    }


def labels() -> list[dict[str, Any]]:
    """Returns a marking with two borders, a curve by a single line, a stop line, a car, and a label without a line."""
    return [
        label(0, 'single white', LEFT_BORDERS[0], 'LL', laneStyle='dashed'),
        label(1, 'single yellow', RIGHT_LINE, 'LCCC'),
        label(2, 'single white', LEFT_BORDERS[1][::-1], 'LL', laneStyle='dashed'),
        label(3, 'single white', STOP_LINE, 'LL', laneDirection='vertical'),
        {'id': '4', 'category': 'car', 'box2d': {'x1': 1, 'y1': 2, 'x2': 3, 'y2': 4}},
        {'id': '5', 'category': 'crosswalk', 'attributes': {}},
    ]


def of_2018(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns labels as the list of all images of 2018 has them: the category is lane, its type an attribute."""
    lanes = [entry for entry in entries if 'poly2d' in entry]
    return [
        {**entry, 'category': 'lane', 'attributes': {**entry['attributes'], 'laneTypes': entry['category']}}
        for entry in lanes
    ] + [{'category': 'car', 'box2d': {}}]


def of_one_image(name: str, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the file of one image of 2018."""
    objects = [
        {
            'category': f'lane/{entry["category"]}',
            'id': int(entry['id']),
            'attributes': {
                'direction': entry['attributes']['laneDirection'],
                'style': entry['attributes']['laneStyle'],
            },
            'poly2d': [[*v, kind] for v, kind in zip(entry['poly2d'][0]['vertices'], entry['poly2d'][0]['types'])],
        }
        for entry in entries
        if 'poly2d' in entry
    ]
    return {'name': name, 'frames': [{'timestamp': 10000, 'objects': objects}], 'attributes': {}}


def write_bdd100k_tree(root: Path) -> Path:
    """Writes two images of train, one of val without lanes and one with, one of test, and the labels of 2020."""
    names = {'train': ['aaaa-1', 'bbbb-2'], 'val': ['cccc-3', 'dddd-4'], 'test': ['eeee-5']}
    for split, stems in names.items():
        for stem in stems:
            image = np.full((*HW, 3), 90, np.uint8)
            for line in (*LEFT_BORDERS, STOP_LINE):
                cv2.polylines(image, [np.array(line, np.int32)], False, (255, 255, 255), 2)
            write_image(root / f'images/100k/{split}/{stem}.jpg', image)
        if split != 'test':
            entries = [
                {'name': f'{stem}.jpg', 'labels': None if stem == 'cccc-3' else labels()} for stem in reversed(stems)
            ]
            write_json(root / f'labels/lane/polygons/lane_{split}.json', entries)
    return root
