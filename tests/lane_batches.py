"""Batches of random images with lanes, as the packing step of the data sets gives them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mmdet3d.structures import Det3DDataSample
from mmengine.structures import LabelData, PixelData


def lane_meta(input_hw: tuple[int, int], stored_hw: tuple[int, int], crop_top_px: int = 0) -> dict[str, Any]:
    """The meta keys of an image that was cropped at the top, then resized."""
    matrix = np.eye(4)
    matrix[0, 0] = input_hw[1] / stored_hw[1]
    matrix[1, 1] = input_hw[0] / (stored_hw[0] - crop_top_px)
    matrix[1, 2] = -crop_top_px * matrix[1, 1]
    return dict(
        frame_id='a/0001', stored_hw=[stored_hw], img_hw=input_hw, img_from_stored=matrix[None], cam_names=['front']
    )


def lane_batch(input_hw: tuple[int, int] = (32, 64), num_lanes: int = 4, size: int = 2, seed: int = 0) -> dict:
    """Images with one lane mask each: a stripe of some of the lanes, a few ignored pixels."""
    generator = torch.Generator().manual_seed(seed)
    images, samples = [], []
    for k in range(size):
        mask = torch.zeros(1, *input_hw, dtype=torch.int64)
        exist = torch.zeros(num_lanes)
        for lane in range(k % 2, num_lanes):
            column = (lane + 1) * input_hw[1] // (num_lanes + 1)
            mask[:, input_hw[0] // 2 :, column : column + 3] = lane + 1
            exist[lane] = 1
        mask[:, -1, :4] = 255
        images.append(torch.randint(0, 256, (3, *input_hw), generator=generator, dtype=torch.uint8))
        sample = Det3DDataSample(metainfo=lane_meta(input_hw, (input_hw[0] * 2, input_hw[1] * 2)))
        sample.gt_lane_seg, sample.gt_lane_exist = PixelData(lane_mask=mask), LabelData(exist=exist)
        samples.append(sample)
    return dict(inputs=dict(img=images), data_samples=samples)
