"""The nuScenes metric for classes of one's own: truth by the mapping of the info file, no name refused.

The devkit knows its ten classes alone: it reads the truth by its own mapping of categories and asserts names in its
boxes and settings. Matching, AP and errors are its own code for any name.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nuscenes import NuScenes
    from nuscenes.eval.common.data_classes import EvalBoxes
    from nuscenes.eval.detection.data_classes import DetectionBox, DetectionConfig

# The benchmark scores vehicles within 50 m.
RANGE_M = 50


def own_mapping(metainfo: Mapping[str, Any]) -> dict[str, str] | None:
    """Returns category -> class of a data set whose info file has others than the benchmark's; None for the latter."""
    mapping, classes = metainfo.get('category_map'), metainfo['classes']
    return {category: name for category, name in mapping.items() if name in classes} if mapping else None


def config_of_classes(config: DetectionConfig, classes: Sequence[str]) -> DetectionConfig:
    """Returns settings for `classes`: ranges as in `config`, RANGE_M for a class that is not there."""
    own = copy.copy(config)
    own.class_range = {name: config.class_range.get(name, RANGE_M) for name in classes}
    own.class_names = list(own.class_range)
    return own


def truth_of(nusc: NuScenes, tokens: Sequence[str], mapping: Mapping[str, str]) -> EvalBoxes:
    """Returns the annotations of samples whose category is in `mapping`, as the devkit loads those of its classes."""
    from nuscenes.eval.common.data_classes import EvalBoxes

    attributes = {row['token']: row['name'] for row in nusc.attribute}
    boxes = EvalBoxes()
    for token in tokens:
        rows = (nusc.get('sample_annotation', name) for name in nusc.get('sample', token)['anns'])
        boxes.add_boxes(
            token,
            [
                _box(
                    mapping[row['category_name']],
                    sample_token=token,
                    translation=row['translation'],
                    size=row['size'],
                    rotation=row['rotation'],
                    velocity=nusc.box_velocity(row['token'])[:2],
                    num_pts=row['num_lidar_pts'] + row['num_radar_pts'],
                    attribute_name=attributes.get(row['attribute_tokens'][0], '') if row['attribute_tokens'] else '',
                )
                for row in rows
                if row['category_name'] in mapping
            ],
        )
    return boxes


def predictions_of(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> EvalBoxes:
    """Returns boxes in the submission format as the devkit's, whatever their class is called."""
    from nuscenes.eval.common.data_classes import EvalBoxes

    boxes = EvalBoxes()
    for token, rows in results.items():
        fields: list[dict[str, Any]] = [
            {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()} for row in rows
        ]
        boxes.add_boxes(token, [_box(row.pop('detection_name'), **row) for row in fields])
    return boxes


def _box(name: str, **fields: Any) -> DetectionBox:
    from nuscenes.eval.detection.data_classes import DetectionBox

    box = DetectionBox(**fields)
    box.detection_name = name
    return box
