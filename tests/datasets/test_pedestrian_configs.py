"""The configs of pedestrians alone: data sets of KITTI and nuScenes with one class, and the metric that scores it."""

from __future__ import annotations

from pathlib import Path

from kitti_tree import KittiTree
from mmengine.config import Config
from mmengine.registry import init_default_scope

from perception3d.apis.config import load_config
from perception3d.formats.kitti.info import create_infos
from perception3d.registry import DATASETS, METRICS

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
FOLDERS = {'dha': 'dha_pillar', 'center_point': 'center_point_pillar_crowd_stride2'}


def config_of(folder: str, rest: str, root: Path) -> Config:
    init_default_scope('mmdet3d')
    return load_config(CONFIGS / folder / f'{FOLDERS[folder]}_{rest}.py', {'data_root': str(root)})


def same_data(config: Config, other: Config) -> bool:
    return all(config[key] == other[key] for key in ('train_dataloader', 'val_dataloader', 'val_evaluator'))


def test_kitti_has_pedestrians_alone(tmp_path: Path):
    root = KittiTree(tmp_path).write({'train': ['000000', '000001'], 'val': ['000001']})
    create_infos(root, progress=False)
    config = config_of('dha', '256x288_160e_kitti', root)
    assert same_data(config, config_of('center_point', '256x288_160e_kitti', root))
    frames = DATASETS.build(config.train_dataloader.dataset)
    people = [frames[k]['data_samples'].gt_instances_3d for k in range(len(frames))]
    assert len(frames) == 4 and {label for each in people for label in each.labels_3d.tolist()} == {0}
    tested = DATASETS.build(config.val_dataloader.dataset)
    assert list(tested.metainfo['classes']) == ['Pedestrian']
    assert len(tested[0]['data_samples'].eval_ann_info['gt_labels_3d']) == 1
    assert METRICS.build(config.val_evaluator).check_classes(tested.metainfo['classes']) == ['pedestrian']
    # A cell of the coarsest map, stride 8, divides the range.
    rows, columns = config.model.middle_encoder.output_shape
    assert (rows % 8, columns % 8) == (0, 0) and config.model.voxel_encoder.in_channels == 4


def test_nuscenes_has_pedestrians_alone(nuscenes_tree: Path):
    config = config_of('dha', '512x512_20e_nuscenes', nuscenes_tree)
    assert same_data(config, config_of('center_point', '512x512_20e_nuscenes', nuscenes_tree))
    for loader, split in ((config.train_dataloader, 'train'), (config.val_dataloader, 'val')):
        dataset = loader.dataset.get('dataset', loader.dataset)
        dataset.ann_file = f'perception3d_infos_hand_{split}.pkl'
        frames = DATASETS.build(dataset)
        assert list(frames.metainfo['classes']) == ['pedestrian']
        labels = {label for k in range(len(frames)) for label in frames.get_ann_info(k)['gt_labels_3d'].tolist()}
        assert 0 in labels and labels <= {0, -1}
    assert config.model.voxel_encoder.in_channels == 5 and config.val_evaluator.data_root == str(nuscenes_tree)
