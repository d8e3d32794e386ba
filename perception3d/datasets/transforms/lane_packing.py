"""Packing of an image with lanes into what the lane models and metrics take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmdet3d.structures import Det3DDataSample
from mmengine.structures import LabelData, PixelData

from perception3d.datasets.lane_dataset import drawn_lanes
from perception3d.registry import TRANSFORMS
from perception3d.structures.sample_schema import FRAME_KEYS

LANE_META_KEYS = (
    'cam_names', 'img_paths', 'stored_hw', 'img_from_stored', 'img_hw', 'channel_order', *FRAME_KEYS, 'category',
    'h_samples', 'lane_mask_path', 'depth_path', 'semantic_path', 'steering_rad',
)  # fmt: skip
"""What `PackLaneInputs` keeps of a sample; what it does not have is left out."""


@TRANSFORMS.register_module()
class PackLaneInputs(BaseTransform):
    """Packs an image, its lanes, and the metas that models, metrics and pictures read.

    Returns `inputs`, {'img': (3, H, W) uint8 RGB}, and `data_samples`, a Det3DDataSample with what the sample has of

    - `gt_lane_seg`: PixelData(lane_mask=(1, H, W) int64), 0 background, 1 + slot, 255 ignored, and of
      `DrawLaneInstances` lane_instances=(1, H, W) int64, 1 + number of the lane);
    - `gt_lane_exist`: LabelData(exist=(L,) float32), that of the stored image: a lane of which a crop or an
      augmentation leaves nothing still exists, since the published recipes take the lists of CULane as they are;
    - `gt_lanes`: structures.Lanes of two points or more, stored pixels, labels are slots;
    - `gt_steering`: LabelData(steering_rad=(1,) float32);
    - `gt_depth`: PixelData(depth_m=(1, H, W) float32), metres, 0 for none, and `gt_semantic`: PixelData(semantic=(1, H,
      W) uint8), 255 ignored, of `LoadPixelTargets`;
    - `eval_ann_info`: as of LaneDataset.

    Args:
        meta_keys: what goes into `metainfo` of the data sample.
    """

    def __init__(self, meta_keys: Sequence[str] = LANE_META_KEYS) -> None:
        self.meta_keys = tuple(meta_keys)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Returns the packed sample."""
        sample = Det3DDataSample(metainfo={key: results[key] for key in self.meta_keys if key in results})
        if 'lane_mask' in results:
            mask = torch.from_numpy(results['lane_mask'].astype(np.int64))[None]
            sample.gt_lane_seg = PixelData(lane_mask=mask)
            if 'lane_instances' in results:
                instances = torch.from_numpy(results['lane_instances'].astype(np.int64))[None]
                sample.gt_lane_seg.set_data({'lane_instances': instances})
        if 'lanes' in results:
            sample.gt_lane_exist = LabelData(exist=torch.from_numpy(results['lane_exist'].astype(np.float32)))
            sample.gt_lanes = drawn_lanes(results)
        if 'steering_rad' in results:
            sample.gt_steering = LabelData(steering_rad=torch.tensor([results['steering_rad']], dtype=torch.float32))
        if 'depth_m' in results:
            sample.gt_depth = PixelData(depth_m=torch.from_numpy(results['depth_m'])[None])
        if 'semantic' in results:
            sample.gt_semantic = PixelData(semantic=torch.from_numpy(results['semantic'])[None])
        sample.eval_ann_info = results.get('eval_ann_info')
        image = np.ascontiguousarray(results['img'].transpose(2, 0, 1))
        return {'inputs': {'img': torch.from_numpy(image)}, 'data_samples': sample}
