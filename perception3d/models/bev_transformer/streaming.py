"""BEVFormer on a stream of frames: each frame is encoded once, its map is the memory of the next."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from mmengine.structures import InstanceData
from torch import Tensor

from perception3d.checks import InputError
from perception3d.models.bev_transformer.detector import BEVFormer
from perception3d.models.bev_transformer.motion import frame_times
from perception3d.models.blocks.camera import collect_projections, follow_ground, sample_planes, unpadded_hw
from perception3d.structures.sample_schema import PER_IMAGE


class _Kept(NamedTuple):
    bev: Tensor
    global_from_lidar: np.ndarray
    time_s: float


class BEVFormerStream:
    """Runs a BEVFormer frame by frame, with the whole past of the scene in its map.

    Given the frames of a sample, the oldest first, it predicts what the model predicts on that sample. A stream is one
    vehicle: its past is in the object, and `step` may not run in two threads at once. Each thread needs a stream of
    its own; they may be made of the same model.

    Args:
        model: the detector; it is copied, so its training can continue.
        device: by default where the model is.
        dtype: bfloat16 or float16 encode under autocast; the head stays in float32.
    """

    def __init__(
        self, model: BEVFormer, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32
    ) -> None:
        self.dtype = dtype
        self.device = torch.device(device or next(model.parameters()).device)
        self.model = copy.deepcopy(model).eval().to(self.device)
        self.reset()

    def reset(self) -> None:
        """Forgets the past. A frame with another `scene_token` than the one before does so by itself."""
        self._kept: _Kept | None = None
        self._scene: Any = None

    @torch.no_grad()
    def step(self, images: Tensor, metainfo: Mapping[str, Any]) -> InstanceData:
        """Returns the boxes of this frame (`bboxes_3d`, `scores_3d`, `labels_3d`), metres in its LiDAR frame.

        Args:
            images: (N, 3, H, W) BGR 0..255 in the network's size, as the test pipeline makes them.
            metainfo: of a sample of one frame, as the test pipeline packs it: `img_from_lidar` (N, 4, 4),
                `ego_from_lidar` and `global_from_ego` (4, 4); `img_timestamps_s`, `timestamp` and `scene_token` where
                known.

        Raises:
            InputError: a pose is missing, or the frame is not later than the one before: call `reset` first.
        """
        sample = Det3DDataSample()
        sample.set_metainfo({'box_type_3d': LiDARInstance3DBoxes, **metainfo, 'num_frames': 1})
        matrices = collect_projections(images[None], [sample])
        if self.model.ground_z_m is not None:
            matrices = follow_ground(matrices, sample_planes([sample]), self.model.ground_z_m)
        scene = metainfo.get('scene_token')
        if scene != self._scene:
            self.reset()
            self._scene = scene
        pose, time_s = _lidar_pose(metainfo), float(frame_times([sample], 1)[0, 0])
        inputs = self.model.data_preprocessor({'inputs': {'img': [images]}, 'data_samples': None})['inputs']
        valid_hw = unpadded_hw(images[None], [sample])
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            bev = self.model.encode(inputs['imgs'], matrices[:, 0], valid_hw, **self._past(pose, time_s))
        self._kept = _Kept(bev, pose, time_s)
        return self.model.find_boxes(bev, [sample])[0]

    def step_sample(self, images: Tensor, metainfo: Mapping[str, Any]) -> InstanceData:
        """As `step`, for a packed sample of the test pipeline; of its frames only the present one is used."""
        count = len(images) // int(metainfo.get('num_frames', 1))
        present = {key: metainfo[key][:count] for key in PER_IMAGE if key in metainfo}
        return self.step(images[:count], {**metainfo, **present, 'num_frames': 1})

    def _past(self, pose: np.ndarray, time_s: float) -> dict[str, Any]:
        """Arguments of `encode` for the frame before."""
        if self._kept is None:
            return {}
        step_s = time_s - self._kept.time_s
        if step_s <= 0:
            raise InputError('a frame is not later than the one before it: reset the stream at a new scene')
        return dict(
            older_bev=self._kept.bev,
            older_from_newer=(np.linalg.inv(self._kept.global_from_lidar) @ pose)[None],
            step_s=np.array([step_s]),
            known=np.array([True]),
        )


def _lidar_pose(metainfo: Mapping[str, Any]) -> np.ndarray:
    for key in ('global_from_ego', 'ego_from_lidar'):
        if key not in metainfo:
            raise InputError(f'a stream needs {key} of every frame: let the pipeline pack it')
    return np.asarray(metainfo['global_from_ego'], np.float64) @ np.asarray(metainfo['ego_from_lidar'], np.float64)
