"""Fast-BEV on a stream of frames: each image passes the 2D network once, its features are kept as history."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmcv.cnn.utils import fuse_conv_bn
from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
from mmengine.structures import InstanceData
from torch import Tensor

from perception3d.checks import InputError
from perception3d.geometry.devices import fast_dtype
from perception3d.models.blocks.camera import follow_ground, ground_offset, ground_plane, plane_shape
from perception3d.models.blocks.preprocessing import normalise_images, pad_images
from perception3d.models.fast_bev.detector import FastBEV
from perception3d.models.fast_bev.view_transform import FeatureRows
from perception3d.models.inference.winograd import use_winograd

HISTORY_S = (-0.5, -1.0, -1.5)


@dataclass
class StreamFrame:
    """The images of all cameras at one time, with their matrices.

    Attributes:
        images: (N, 3, H, W) BGR 0..255 in the network's size, as the test pipeline makes them.
        img_from_cam: (N, 4, 4) intrinsics, with resize and crop in them, to pixels of `images`.
        cam_from_ego: (N, 4, 4).
        global_from_ego: (N, 4, 4) the ego pose when each camera took its image.
        ego_from_lidar: (4, 4).
        global_from_ego_at_lidar: (4, 4) the ego pose of the LiDAR frame that boxes are reported in.
        time_s: (N,) when each camera took its image.
    """

    images: Tensor
    img_from_cam: np.ndarray
    cam_from_ego: np.ndarray
    global_from_ego: np.ndarray
    ego_from_lidar: np.ndarray
    global_from_ego_at_lidar: np.ndarray
    time_s: np.ndarray

    @classmethod
    def from_meta(cls, meta: Mapping[str, Any], images: Tensor) -> StreamFrame:
        """Takes the present frame of a packed sample: `images` (F*N, 3, H, W) and the matrices of its metainfo."""
        count = len(meta['cam_names'])
        ego_from_lidar = np.asarray(meta['ego_from_lidar'], np.float64)
        global_from_ego = np.asarray(meta['global_from_ego'], np.float64)
        img_from_stored = np.asarray(meta['img_from_stored'], np.float64)[:count]
        # cam_from_lidar holds the ego motion between LiDAR and camera, so all cameras share the pose of the LiDAR here.
        cam_from_ego = np.asarray(meta['cam_from_lidar'], np.float64)[:count] @ np.linalg.inv(ego_from_lidar)
        return cls(
            images=images[:count],
            img_from_cam=img_from_stored @ np.asarray(meta['stored_from_cam'])[:count],
            cam_from_ego=cam_from_ego,
            global_from_ego=np.broadcast_to(global_from_ego, (count, 4, 4)),
            ego_from_lidar=ego_from_lidar,
            global_from_ego_at_lidar=global_from_ego,
            time_s=_present_times(meta, count),
        )

    def img_from_global(self) -> np.ndarray:
        """Returns (N, 4, 4): the part of the projections that does not change when the vehicle moves on."""
        return self.img_from_cam @ self.cam_from_ego @ np.linalg.inv(self.global_from_ego)

    def global_from_lidar(self) -> np.ndarray:
        """Returns (4, 4) the pose of the LiDAR frame."""
        return self.global_from_ego_at_lidar @ self.ego_from_lidar


def _present_times(meta: Mapping[str, Any], count: int) -> np.ndarray:
    """Returns (N,) when each camera took its present image; for one that is missing, the time of the sample."""
    times = np.asarray(meta['img_timestamps_s'], np.float64).reshape(-1)[:count]
    return np.where(np.isfinite(times), times, meta.get('timestamp', np.min(times)))


@dataclass
class _Kept:
    slot: int
    time_s: np.ndarray
    img_from_global: np.ndarray


class FastBEVStream:
    """Runs a Fast-BEV model frame by frame.

    A step computes the 2D features of its own images only. For every history offset each camera takes its kept frame
    nearest in time to (now + offset); at the start of a stream that is the oldest one. Boxes equal those of the model
    run on the same images and projections at once.

    A stream is one vehicle: its history is in the object, and `step` may not run in two threads at once. Each
    thread needs a stream of its own; they may be made of the same model.

    Args:
        model: the detector; it is copied, so its training can continue.
        offsets_s: nominal times of the history; () for a model of one frame.
        fuse: fold batch norms into convolutions.
        dtype: of the 2D network, the kept features and the BEV encoder; the head stays in float32. Where the device has
            no instructions for a half type (for bfloat16: AVX512-BF16, AMX, GPUs) products are computed in float32,
            which is many times faster there: weights are rounded to `dtype` and the history is kept in it.
        winograd: compute 3x3 convolutions by F(4x4, 3x3); by default where that works, in float32 on a CPU.
        device: by default where the model is.
    """

    def __init__(
        self,
        model: FastBEV,
        offsets_s: Sequence[float] = HISTORY_S,
        fuse: bool = True,
        dtype: torch.dtype = torch.float32,
        winograd: bool | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        if any(offset >= 0 for offset in offsets_s):
            raise InputError(f'history offsets must lie in the past (be negative), got {list(offsets_s)} s')
        self.device = torch.device(device or next(model.parameters()).device)
        self.offsets_s = tuple(offsets_s)
        self.dtype = dtype
        self.compute_dtype = fast_dtype(dtype, self.device)
        can_winograd = self.device.type == 'cpu' and self.compute_dtype == torch.float32
        if winograd and not can_winograd:
            raise InputError(f'winograd needs float32 on a CPU, not {self.compute_dtype} on {self.device}')
        self.model = copy.deepcopy(model).eval().to(self.device)
        for part in (self.model.backbone, self.model.neck, self.model.neck_fuse, self.model.neck_3d):
            if fuse:
                fuse_conv_bn(part)
            part.to(dtype).to(self.compute_dtype)
        if can_winograd if winograd is None else winograd:
            use_winograd(self.model)
        self.reset()

    def reset(self) -> None:
        """Drops the history: to be called when a new scene starts."""
        self._kept: list[_Kept] = []
        self._features: list[Tensor] = []
        self._hw: list[tuple[int, int]] = []

    @torch.no_grad()
    def step(self, frame: StreamFrame) -> InstanceData:
        """Returns the boxes of this frame (`bboxes_3d`, `scores_3d`, `labels_3d`), metres in its LiDAR frame.

        InputError if time runs backwards or the number of cameras changes: call `reset` first.
        """
        self._check(frame)
        images = self.prepare_images(frame.images)
        now = self._keep(frame, self.model.extract_images(images))
        levels, matrices = self._history(frame, now)
        ground = self.model.ground_z_m
        if ground is not None:
            plane = ground_plane(frame.ego_from_lidar)
            matrices = follow_ground(matrices, plane[None], ground)
        bev = self.model.encode(levels, matrices, tuple(images.shape[-2:]), tuple(frame.images.shape[-2:]))
        prediction = self.model.bbox_head.predict_passes([bev], [_blank_sample()])[0]
        if ground is not None:
            boxes = prediction.bboxes_3d.tensor
            boxes[:, 2] += ground_offset(boxes, plane, ground)
        return prediction

    def step_sample(self, images: Tensor, metainfo: Mapping[str, Any]) -> InstanceData:
        """As `step`, for a packed sample of the test pipeline; of its frames only the present one is used."""
        return self.step(StreamFrame.from_meta(metainfo, images))

    def prepare_images(self, images: Tensor) -> Tensor:
        """Returns images (N, 3, H, W) normalised and padded as by the data preprocessor, in the compute type."""
        preprocessor = self.model.data_preprocessor
        images = pad_images(preprocessor, normalise_images(preprocessor, images.to(self.device)))
        return images.to(self.compute_dtype, memory_format=torch.channels_last)

    def _check(self, frame: StreamFrame) -> None:
        if not self._kept:
            return
        last = self._kept[-1]
        if len(frame.time_s) != len(last.time_s):
            raise InputError(f'the stream has {len(last.time_s)} cameras, a frame has {len(frame.time_s)}: reset first')
        if (np.asarray(frame.time_s) < last.time_s).any():
            raise InputError('a frame is older than the one before it: reset the stream at a new scene')

    def _keep(self, frame: StreamFrame, maps: list[Tensor]) -> _Kept:
        """Stores the features in a free slot, after dropping frames that no later step can use."""
        time_s = np.asarray(frame.time_s, np.float64)
        oldest = min(self.offsets_s, default=0.0)
        while len(self._kept) > 1 and (self._kept[1].time_s <= time_s + oldest).all():
            self._kept.pop(0)
        if not self.offsets_s:
            self._kept.clear()
        used = {kept.slot for kept in self._kept}
        slot = next(i for i in range(len(used) + 1) if i not in used)
        if not self._features or slot >= len(self._features[0]):
            self._grow(maps, slot + 1)
        for store, m in zip(self._features, maps, strict=True):
            store[slot].copy_(m.permute(0, 2, 3, 1))
        self._kept.append(_Kept(slot, time_s, frame.img_from_global()))
        return self._kept[-1]

    def _grow(self, maps: list[Tensor], slots: int) -> None:
        """Makes room for more frames; stores are (slots, N, H, W, C), one a level."""
        slots = max(slots, min(2 * slots, slots + 4), len(self.offsets_s) + 2 if self.offsets_s else 1)
        grown = []
        for i, m in enumerate(maps):
            store = m.new_zeros((slots, *m.permute(0, 2, 3, 1).shape), dtype=self.dtype)
            if self._features:
                store[: len(self._features[i])] = self._features[i]
            grown.append(store)
        self._features = grown
        self._hw = [plane_shape(m) for m in maps]

    def _history(self, frame: StreamFrame, now: _Kept) -> tuple[list[FeatureRows], np.ndarray]:
        """Picks the frames of all offsets: rows of every level, and projections (1, F, N, 4, 4) of the LiDAR frame."""
        times = np.stack([kept.time_s for kept in self._kept])
        cameras = np.arange(times.shape[1])
        slots, matrices = [np.full(len(cameras), now.slot)], [now.img_from_global]
        for offset in self.offsets_s:
            nearest = np.abs(times - (now.time_s + offset)).argmin(0)
            slots.append(np.array([self._kept[i].slot for i in nearest]))
            matrices.append(np.stack([self._kept[i].img_from_global[c] for c, i in zip(cameras, nearest)]))
        wanted, used = np.stack(slots), None
        if self.compute_dtype != self.dtype:
            # Only frames that are used are converted: at the frame rate of a camera many more are kept.
            used, places = np.unique(wanted, return_inverse=True)
            wanted = places.reshape(wanted.shape)
        image = wanted[None] * len(cameras) + cameras
        levels = [
            FeatureRows(self._rows(store, used), hw, image * (hw[0] * hw[1]))
            for store, hw in zip(self._features, self._hw, strict=True)
        ]
        return levels, np.stack(matrices)[None] @ frame.global_from_lidar()

    def _rows(self, store: Tensor, used: np.ndarray | None) -> Tensor:
        """Rows (R, C) of all slots of a store, or of those that are `used`, in the dtype of the products."""
        if used is not None:
            store = store[torch.from_numpy(used).to(store.device)].to(self.compute_dtype)
        return store.view(-1, store.shape[-1])


def _blank_sample() -> Any:
    sample = Det3DDataSample()
    sample.set_metainfo({'box_type_3d': LiDARInstance3DBoxes})
    return sample
