"""A BEVFormer of a few thousand parameters and a vehicle that drives past cameras, as data for tests."""

from __future__ import annotations

import numpy as np
import torch
from mmdet.models import FPN, ResNet
from mmdet3d.models import Det3DDataPreprocessor
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from mmengine.structures import InstanceData
from tiny_rig import intrinsics, ring_cam_from_lidar

from perception3d.models.bev_transformer.detector import BEVFormer
from perception3d.models.bev_transformer.encoder import BEVFormerEncoder
from perception3d.models.bev_transformer.head import BEVFormerHead
from perception3d.registry import MODELS

IMAGE_HW = (64, 96)
CAMERAS = 3
RANGE_M = (-16.0, -12.0, 16.0, 12.0)
SHAPE = (8, 6)


def tiny_config(**settings) -> dict:
    """Two levels, two encoder and two decoder layers, 8 x 6 pillars."""
    head = dict(
        type=BEVFormerHead,
        range_m=(-16.0, -12.0, -3.0, 16.0, 12.0, 3.0),
        embed_dims=16,
        num_query=20,
        num_layers=2,
        num_heads=2,
        num_points=2,
        feedforward_channels=24,
        dropout=0.0,
        max_boxes=30,
    )
    config = dict(
        type=BEVFormer,
        data_preprocessor=dict(type=Det3DDataPreprocessor, mean=[120.0] * 3, std=[60.0] * 3, bgr_to_rgb=True),
        backbone=dict(
            type=ResNet, depth=18, base_channels=8, stem_channels=8, num_stages=3, strides=(1, 2, 2),
            dilations=(1, 1, 1), out_indices=(1, 2),
        ),
        neck=dict(type=FPN, in_channels=[16, 32], out_channels=16, num_outs=2),
        encoder=dict(
            type=BEVFormerEncoder,
            grid=dict(range_m=RANGE_M, shape=SHAPE, heights_m=(-1.0, 1.0)),
            embed_dims=16,
            num_layers=2,
            num_heads=2,
            feedforward_channels=24,
            dropout=0.0,
            num_levels=2,
            num_cams=CAMERAS,
            num_points=4,
            temporal_points=2,
        ),
        bbox_head=head,
    )  # fmt: skip
    return {**config, **settings}


def build(**settings) -> BEVFormer:
    """The model in eval mode, with sampling offsets and weights that differ from query to query."""
    torch.manual_seed(1)
    model = MODELS.build(tiny_config(**settings))
    for name, parameter in model.named_parameters():
        if 'sampling_offsets.weight' in name or 'attention_weights.weight' in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def lidar_pose(time_s: float) -> np.ndarray:
    """global_from_lidar of a vehicle that drives a curve at 6 m/s."""
    yaw = 0.3 + 0.4 * time_s
    pose = np.eye(4)
    pose[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    pose[:3, 3] = 6 * time_s, 1.5 * time_s, 0.1 * time_s
    return pose


def lidar_on_car(height_m: float = 1.8) -> np.ndarray:
    """ego_from_lidar."""
    pose = np.eye(4)
    pose[:3, 3] = 0.9, 0.1, height_m
    return pose


def images_at(time_s: float) -> torch.Tensor:
    """(N, 3, H, W) uint8 noise that belongs to a time."""
    generator = torch.Generator().manual_seed(int(round(time_s * 1000)) + 7)
    return torch.randint(0, 255, (CAMERAS, 3, *IMAGE_HW), generator=generator, dtype=torch.uint8)


def metas_at(times_s: list[float], scene: str = 'a') -> dict:
    """metainfo of a sample: times_s[0] is the present frame, older ones follow."""
    cams = ring_cam_from_lidar(CAMERAS)
    now = lidar_pose(times_s[0])
    poses = np.concatenate([cams @ np.linalg.inv(lidar_pose(t)) @ now for t in times_s])
    return dict(
        img_from_lidar=np.tile(intrinsics(CAMERAS, IMAGE_HW), (len(times_s), 1, 1)) @ poses,
        cam_from_lidar=poses,
        ego_from_lidar=lidar_on_car(),
        global_from_ego=now @ np.linalg.inv(lidar_on_car()),
        timestamp=times_s[0],
        img_timestamps_s=np.repeat(times_s, CAMERAS),
        num_frames=len(times_s),
        scene_token=scene,
        box_type_3d=LiDARInstance3DBoxes,
    )


def boxes_of(count: int, seed: int = 1) -> torch.Tensor:
    """Random boxes (count, 9) inside the range."""
    generator = torch.Generator().manual_seed(seed)
    low = torch.tensor([-14.0, -10.0, -2.0, 0.5, 0.5, 0.5, -3.0, -3.0, -3.0])
    high = torch.tensor([14.0, 10.0, 0.0, 5.0, 2.0, 2.0, 3.0, 3.0, 3.0])
    return low + torch.rand(count, 9, generator=generator) * (high - low)


def make_sample(metas: dict, boxes: torch.Tensor) -> Det3DDataSample:
    """A sample with ground truth, labels 0, 1, .. 9, 0, .."""
    sample = Det3DDataSample()
    sample.set_metainfo(metas)
    sample.gt_instances_3d = InstanceData(
        bboxes_3d=LiDARInstance3DBoxes(boxes, box_dim=9), labels_3d=torch.arange(len(boxes)) % 10
    )
    return sample


def batch_of(model: BEVFormer, times_s: list[list[float]], objects: int = 4) -> tuple[dict, list[Det3DDataSample]]:
    """Preprocessed inputs and samples; every entry of `times_s` is the times of one sample."""
    samples = [make_sample(metas_at(times), boxes_of(objects, i + 1)) for i, times in enumerate(times_s)]
    images = [torch.cat([images_at(t) for t in times]) for times in times_s]
    return model.data_preprocessor({'inputs': {'img': images}, 'data_samples': samples})['inputs'], samples
