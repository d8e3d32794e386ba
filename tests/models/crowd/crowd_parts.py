"""Small crowds, and the detectors of the configs on a small map with few channels."""

from __future__ import annotations

import copy
import functools
from pathlib import Path

import torch
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from mmengine.config import Config
from mmengine.structures import InstanceData

from perception3d.registry import MODELS

BASES = Path(__file__).resolve().parents[3] / 'configs' / '_base_' / 'models'
# 64 x 64 pillars of 0.12 x 0.16 m.
RANGE_M = (0.0, -5.12, 7.68, 5.12)


def people_boxes(count, seed=0):
    """Boxes (count, 9) of people on the map, some of them off it; every other velocity is unknown."""
    generator = torch.Generator().manual_seed(seed)
    low = torch.tensor([-0.5, -5.5, -1.7, 0.4, 0.4, 1.5, -3.0, -1.0, -1.0])
    high = torch.tensor([8.2, 5.5, -1.5, 0.8, 0.8, 1.9, 3.0, 1.0, 1.0])
    boxes = low + torch.rand(count, 9, generator=generator) * (high - low)
    boxes[::2, 7:] = torch.nan
    return boxes


def instances_of(boxes, labels=None):
    labels = torch.zeros(len(boxes), dtype=torch.long) if labels is None else labels
    return InstanceData(bboxes_3d=LiDARInstance3DBoxes(boxes, box_dim=boxes.shape[1]), labels_3d=labels)


def sample_of(boxes, labels=None):
    metas = dict(box_type_3d=LiDARInstance3DBoxes)
    return Det3DDataSample(gt_instances_3d=instances_of(boxes, labels), metainfo=metas)


def cloud_of(boxes, seed=0):
    """A cloud (N, 4): 40 points on each person, and a sparse ground."""
    generator = torch.Generator().manual_seed(seed)
    inside = torch.rand(len(boxes), 40, 3, generator=generator) - torch.tensor([0.5, 0.5, 0.0])
    body = boxes[:, None, :3] + inside * boxes[:, None, 3:6]
    ground = torch.tensor([0.0, -5.12, -1.75]) + torch.rand(300, 3, generator=generator) * torch.tensor([7.6, 10.2, 0])
    points = torch.cat([body.flatten(0, 1), ground])
    return torch.cat([points, torch.rand(len(points), 1, generator=generator)], 1)


def batch_of(*frames):
    """A batch of frames of boxes, not yet seen by a preprocessor."""
    samples = [frame if isinstance(frame, Det3DDataSample) else sample_of(frame) for frame in frames]
    clouds = [cloud_of(sample.gt_instances_3d.bboxes_3d.tensor, seed) for seed, sample in enumerate(samples)]
    return dict(inputs=dict(points=clouds), data_samples=samples)


@functools.cache
def _config(name):
    return Config.fromfile(BASES / f'{name}.py')


def tiny_settings(name='dha_pillar', **head):
    """A base with 64 x 64 pillars and a quarter of the channels; `head` updates groups of values of the head."""
    settings = copy.deepcopy(_config(name).model)
    span = [*RANGE_M[:2], -4, *RANGE_M[2:], 2]
    settings.data_preprocessor.voxel_layer.update(point_cloud_range=span, max_voxels=(4000, 4000))
    settings.voxel_encoder.update(point_cloud_range=span, feat_channels=[16])
    settings.middle_encoder.update(output_shape=[64, 64], in_channels=16)
    settings.backbone.update(in_channels=16, out_channels=[16, 32, 64], layer_nums=[1, 1, 1])
    settings.neck.in_channels = [16, 32, 64]
    pyramid = isinstance(settings.neck.out_channels, int)
    settings.neck.out_channels = 32 if pyramid else [16, 16, 16]
    settings.bbox_head.update(in_channels=32 if pyramid else 48, range_m=RANGE_M)
    settings.bbox_head.parts.channels = 16
    for group, values in head.items():
        settings.bbox_head.setdefault(group, {}).update(values)
    return settings


def tiny_model(name='dha_pillar', **head):
    """The detector of `tiny_settings`."""
    return MODELS.build(tiny_settings(name, **head))
