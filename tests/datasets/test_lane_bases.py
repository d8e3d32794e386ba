"""The bases of lane data sets: what the shipped configs load of trees, and that a prepared tree fits them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lane_trees import four_lanes, write_culane_tree, write_lane_image
from mmdet3d.structures import Det3DDataSample
from mmengine.dataset import pseudo_collate
from shipped import config_path

from perception3d.apis.config import load_config
from perception3d.formats.culane.info import create_infos as create_culane
from perception3d.formats.custom_lanes.files import format_line as format_own_line
from perception3d.formats.custom_lanes.info import create_infos as create_own
from perception3d.formats.tusimple.files import format_line
from perception3d.formats.tusimple.info import create_infos as create_tusimple
from perception3d.registry import DATASETS, METRICS

HW = (320, 480)


def culane(root: Path) -> None:
    create_culane(write_culane_tree(root, HW), progress=False)


def tusimple(root: Path) -> None:
    for name in ('label_data_0313', 'label_data_0531', 'test_label', 'label_data_sample'):
        write_lane_image(root / f'clips/{name}/20.jpg', four_lanes(HW), HW)
        line = format_line(f'clips/{name}/20.jpg', four_lanes(HW), range(130, 320, 10))
        (root / f'{name}.json').write_text(line)
    create_tusimple(root, progress=False)


def own(root: Path) -> None:
    for split in ('train', 'val'):
        write_lane_image(root / f'{split}.jpg', four_lanes(HW), HW)
        (root / f'{split}.json').write_text(format_own_line(f'{split}.jpg', four_lanes(HW)))
    create_own(root, progress=False)


@pytest.mark.parametrize(
    'name, write, slots',
    [
        ('enet_208x976_12e_culane', culane, {1, 2, 3, 4}),
        ('enet_tiny_96x256_overfit_sample', tusimple, {2, 3, 4, 5}),
        ('enet_288x800_12e_custom_lanes', own, {1, 2, 3, 4}),
    ],
)
def test_a_prepared_tree_fits_the_config(tmp_path: Path, name: str, write: Any, slots: set[int]):
    write(tmp_path)
    config = load_config(config_path(name), {'data_root': str(tmp_path)})
    size = tuple(config.input_hw)
    train = DATASETS.build(config.train_dataloader.dataset)
    batch = pseudo_collate([train[0], train[len(train) - 1]])
    assert all(image.shape == (3, *size) and image.dtype == torch.uint8 for image in batch['inputs']['img'])
    mask = batch['data_samples'][0].gt_lane_seg.lane_mask
    assert mask.shape == (1, *size) and slots <= set(mask.unique().tolist()) <= {0, 255, *slots}
    scores: list[float] = []
    for loader in (config.val_dataloader, config.test_dataloader):
        dataset = DATASETS.build(loader.dataset)
        packed = dataset[0]
        sample = packed['data_samples']
        scores.append(_score_of_itself(config.val_evaluator, dataset, sample))
        assert 'gt_lane_seg' not in sample and len(sample.eval_ann_info['lanes']) == 4
        assert (
            len(sample.gt_lanes) == 4 and sample.gt_lanes.labels.tolist() == [slot - 1 for slot in sorted(slots)][::-1]
        )
        # Stored points lie on the white lanes of the input.
        points = np.concatenate(sample.gt_lanes.polylines)[[1, 2, 6, 7]] + 0.5
        moved = np.column_stack([points, np.ones((4, 2))]) @ sample.img_from_stored[0].T
        for x, y in np.floor(moved[:, :2]).astype(int).tolist():
            if y >= 0:
                assert packed['inputs']['img'][:, y, x].min() > 120, name
    assert scores == [1, 1]


def _score_of_itself(evaluator: dict[str, Any], dataset: Any, sample: Det3DDataSample) -> float:
    """Returns F1 of the annotated lanes as the predicted ones."""
    metric = METRICS.build(evaluator)
    metric.dataset_meta = dataset.metainfo
    metric.process({}, [{**sample.to_dict(), 'pred_lanes': sample.gt_lanes}])
    (found,) = (value for key, value in metric.evaluate(1).items() if key.endswith('/f1'))
    return float(found)
