"""BDD100K's lanes as samples, results of predictions, and the pixel scores of a test loop."""

from __future__ import annotations

import bdd100k_tree as tree
import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import PixelData

from perception3d.checks import InputError
from perception3d.datasets.transforms.lane_loading import CropResizeLaneImage, LoadLaneImage
from perception3d.datasets.transforms.lane_packing import PackLaneInputs
from perception3d.formats.bdd100k_lane.dataset import Bdd100kLaneDataset
from perception3d.formats.bdd100k_lane.evaluation.folders import EvaluationOptions, evaluate_folders
from perception3d.formats.bdd100k_lane.evaluation.metric import Bdd100kLaneMetric
from perception3d.formats.bdd100k_lane.info import create_infos


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    root = tree.write_bdd100k_tree(tmp_path_factory.mktemp('bdd100k'))
    create_infos(root, progress=False)
    return root


@pytest.fixture(scope='module')
def val(root):
    return _dataset(root, 'val')


def _dataset(root, split, test_mode=True):
    pipeline = [
        dict(type=LoadLaneImage, with_mask=not test_mode),
        dict(type=CropResizeLaneImage, crop_top_px=0, input_hw=(90, 160)),
        dict(type=PackLaneInputs),
    ]
    return Bdd100kLaneDataset(
        data_root=str(root), ann_file=f'perception3d_infos_{split}.pkl', pipeline=pipeline, test_mode=test_mode
    )


def _predict(dataset, index, mask):
    sample = dataset[index]['data_samples']
    sample.pred_lane_seg = PixelData(lane_mask=torch.from_numpy(mask)[None])
    return sample


def test_samples_of_training(root):
    dataset = _dataset(root, 'train', test_mode=False)
    assert len(dataset) == 2 and dataset.metainfo['classes'] == ('lane',)
    sample = dataset[0]
    assert sample['inputs']['img'].shape == (3, 90, 160)
    mask = sample['data_samples'].gt_lane_seg.lane_mask
    assert mask.shape == (1, 90, 160) and set(mask.unique().tolist()) == {0, 1}
    assert sample['data_samples'].gt_lane_exist.exist.tolist() == [1] and len(sample['data_samples'].gt_lanes) == 2


def test_scores_are_those_of_the_written_masks(root, val, tmp_path):
    metric = Bdd100kLaneMetric(format_dir=str(tmp_path / 'pred'))
    metric.dataset_meta = val.metainfo
    rng = np.random.default_rng(0)
    for index in range(2):
        mask = (rng.random(tree.HW) < 0.3).astype(np.uint8)
        metric.process(None, [_predict(val, index, mask).to_dict()])
    scores = metric.evaluate(2)
    files, _ = evaluate_folders(
        root / 'perception3d_lane_masks/val', tmp_path / 'pred', EvaluationOptions(binary=True), progress=False
    )
    assert scores == {f'bdd100k_lane/{key}': value for key, value in files['pixel'].items()}
    assert 0.1 < scores['bdd100k_lane/accuracy'] < 0.2  # 0.3 of an image with lanes, 0 of one without.


def test_masks_of_a_split_without_labels(root, tmp_path):
    dataset = _dataset(root, 'test')
    metric = Bdd100kLaneMetric(format_dir=str(tmp_path), format_only=True)
    sample = _predict(dataset, 0, np.ones(tree.HW, np.uint8))
    metric.process(None, [sample.to_dict()])
    assert metric.evaluate(1) == {}
    assert (cv2.imread(str(tmp_path / 'eeee-5.png'), cv2.IMREAD_UNCHANGED) == 255).all()
    with pytest.raises(InputError, match='images/100k/test/eeee-5 has no lanes, so it cannot be scored'):
        Bdd100kLaneMetric().process(None, [sample.to_dict()])


def test_predictions_that_cannot_be_scored(val):
    metric = Bdd100kLaneMetric()
    with pytest.raises(InputError, match='a predicted mask of 160x90 pixels, expected those of the image, 320x180'):
        metric.process(None, [_predict(val, 0, np.ones((90, 160), np.uint8)).to_dict()])
    with pytest.raises(InputError, match='carry no pred_lane_seg: .*keep_mask=True'):
        metric.process(None, [val[0]['data_samples'].to_dict()])
    sample = _predict(val, 0, np.ones(tree.HW, np.uint8)).to_dict()
    metric.process(None, [sample, sample])
    with pytest.raises(InputError, match='image cccc-3 was predicted more than once'):
        metric.evaluate(2)


def test_result_files(root, val, tmp_path):
    mask = np.eye(*tree.HW, dtype=np.uint8)
    sample = _predict(val, 1, mask)
    path = tmp_path / f'x{val.result_suffix}'
    assert val.write_result(sample, path)
    np.testing.assert_array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), mask * 255)
    assert not val.write_result(val[0]['data_samples'], path)
    with pytest.raises(InputError, match='would be among the masks of a data set'):
        val.write_result(sample, root / 'perception3d_lane_masks/val/x_lane.png')
