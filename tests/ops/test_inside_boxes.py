"""Rows and counts of points in boxes, against their definition, and the three rules for points on faces."""

from __future__ import annotations

import numpy as np
import torch

from perception3d.ops.inside_boxes import count_in_boxes, rows_in_boxes
from perception3d.ops.points_in_boxes import points_in_boxes_all


def _rows(points, box):
    local = points[:, :3].astype(float) - box[:3]
    along = local[:, :2] @ [np.cos(box[6]), np.sin(box[6])]
    across = local[:, :2] @ [-np.sin(box[6]), np.cos(box[6])]
    inside = (abs(along) <= box[3] / 2) & (abs(across) <= box[4] / 2) & (local[:, 2] >= 0) & (local[:, 2] <= box[5])
    return np.flatnonzero(inside)


def test_rows_and_counts_are_those_of_a_slow_check():
    rng = np.random.default_rng(1)
    points = rng.uniform(-6, 6, (4000, 4)).astype(np.float32)
    boxes = np.column_stack([rng.uniform(-4, 4, (12, 3)), rng.uniform(0.5, 5, (12, 3)), rng.uniform(-7, 7, 12)])
    boxes = np.vstack([boxes, boxes[:1], [50, 50, 0, 1, 1, 1, 0]])
    rows = rows_in_boxes(points, boxes)
    assert len(rows) == 14
    for box, own in zip(boxes, rows, strict=True):
        np.testing.assert_array_equal(own, _rows(points, box))
    assert len(np.concatenate(rows)) > 100
    centered = boxes.copy()
    centered[:, 2] += boxes[:, 5] / 2
    assert count_in_boxes(points, centered).tolist() == [len(own) for own in rows]
    assert rows_in_boxes(points, np.zeros((0, 7))) == [] and count_in_boxes(points, np.zeros((0, 7))).shape == (0,)
    assert [len(own) for own in rows_in_boxes(points[:0], boxes)] == [0] * 14


def test_the_rules_differ_on_faces_only():
    box = np.array([[1.0, 2, 3, 4, 2, 1, 0]])
    faces = [[3, 2, 3.5], [-1, 2, 3.5], [1, 3, 3.5], [1, 1, 3.5], [3, 3, 3], [1, 2, 3], [1, 2, 4]]
    points = np.array([*faces, [1, 2, 3.5], [1, 2, 2.99], [3.01, 2, 3.5], [np.nan, 2, 3.5]])
    assert rows_in_boxes(points, box)[0].tolist() == list(range(8))
    assert count_in_boxes(points, box + [0, 0, 0.5, 0, 0, 0, 0]).tolist() == [8]
    by_mmcv = points_in_boxes_all(torch.from_numpy(points)[None], torch.from_numpy(box)[None])[0, :, 0]
    assert by_mmcv.nonzero().flatten().tolist() == [5, 6, 7]


def test_the_height_of_a_box_is_compared_as_it_is_stored():
    # 0.3 - 0.2 and 0.2 + 0.1 round: bottom and top are those of the sums, half heights those about the centre.
    points, box = np.array([[0, 0, 0.1 + 0.2]]), np.array([[0, 0, 0.1, 1, 1, 0.2, 0]])
    assert len(rows_in_boxes(points, box)[0]) == 1
    assert count_in_boxes(points, box + [0, 0, 0.1, 0, 0, 0, 0]).tolist() == [0]
