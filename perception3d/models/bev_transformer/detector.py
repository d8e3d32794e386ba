"""BEVFormer: cameras of several frames to 3D boxes through one recurrent bird's-eye map (arXiv 2203.17270)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from mmdet3d.models.detectors import Base3DDetector
from mmdet3d.structures import Det3DDataSample
from torch import Tensor

from perception3d.checks import InputError
from perception3d.models.bev_transformer.motion import align_memory, frame_times, lidar_motion, motion_signals
from perception3d.models.bev_transformer.pillars import view_pillars
from perception3d.models.blocks.camera import (
    collect_projections,
    follow_ground,
    lift_to_lidar,
    plane_shape,
    require_head_range,
    sample_planes,
    samples_above_ground,
    unpadded_hw,
)
from perception3d.registry import MODELS
from perception3d.structures.expected_data import ExpectedData, Stated
from perception3d.structures.export_spec import ExportSpec, ReadSample

if TYPE_CHECKING:
    from perception3d.models.bev_transformer.streaming import BEVFormerStream


@MODELS.register_module()
class BEVFormer(Base3DDetector):
    """Detects 3D boxes in the LiDAR frame from cameras of one or several frames.

    The oldest frame is encoded first, by itself; each later one with the map of the frame before it as memory. In
    training only the present frame has gradients, and the others run in eval mode, as in the released model. A frame
    that repeats the one after it, as at the start of a scene, is not used as memory.

    Maps (B, C, X, Y) have x (right) on axis 2 and y (forward) on axis 3.

    Args:
        backbone: 2D backbone.
        neck: feature pyramid.
        encoder: `BEVFormerEncoder`.
        bbox_head: head on maps (B, C, X, Y): `loss(bev, samples)`, `predict_passes(bevs, samples)`.
        ground_z_m: height in the grid at which the ground lies. With it, pillars and boxes follow the ground of each
            sample's rig instead of the height of its lidar. Not in the paper, whose rigs are all alike.
        channels_last: memory layout of the convolutions.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        encoder: dict,
        bbox_head: dict,
        ground_z_m: float | None = None,
        channels_last: bool = True,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.backbone = MODELS.build(backbone)
        self.neck = MODELS.build(neck)
        self.encoder = MODELS.build(encoder)
        self.bbox_head = MODELS.build(bbox_head)
        self.ground_z_m = ground_z_m
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.to(memory_format=self.memory_format)

    def check_parts(self) -> None:
        """Raises InputError if the head takes the map to cover another range than the encoder's grid."""
        require_head_range('encoder.grid', self.encoder.grid.range_m, self.bbox_head)

    def expected_data(self) -> ExpectedData:
        """Returns the number of classes of the head, where it has one. Any number of frames will do."""
        classes = getattr(self.bbox_head, 'num_classes', None)
        stated = None if classes is None else Stated('bbox_head.num_classes', classes)
        return ExpectedData(num_classes=stated, takes_points=False)

    def extract_images(self, images: Tensor) -> list[Tensor]:
        """Returns the feature maps [(B, N, C, h, w)] of images (B, N, 3, H, W) already normalised."""
        flat = images.flatten(0, 1).contiguous(memory_format=self.memory_format)
        return [level.unflatten(0, images.shape[:2]) for level in self.neck(self.backbone(flat))]

    def encode(
        self,
        images: Tensor,
        img_from_lidar: np.ndarray,
        valid_hw: tuple[int, int],
        older_bev: Tensor | None = None,
        older_from_newer: np.ndarray | None = None,
        step_s: np.ndarray | None = None,
        known: np.ndarray | None = None,
    ) -> Tensor:
        """Returns the map (B, C, X, Y) float32 of one frame, in the LiDAR frame of its time.

        Args:
            images: (B, N, 3, H, W).
            img_from_lidar: (B, N, 4, 4) projections from the LiDAR frame of this time, above the ground if there is
                a `ground_z_m`.
            valid_hw: size of the images without padding.
            older_bev: (B, C, X, Y) the map of the frame before.
            older_from_newer, step_s: (B, 4, 4) and (B,), from this LiDAR frame to the one before, and the seconds
                between them.
            known: (B,) False for samples without a frame before.
        """
        batch = len(images)
        if older_bev is None:
            older_from_newer, step_s = np.tile(np.eye(4), (batch, 1, 1)), np.full(batch, np.nan)
            known = np.zeros(batch, bool)
        assert older_from_newer is not None and step_s is not None and known is not None, 'given with older_bev'
        signals = torch.from_numpy(motion_signals(older_from_newer, step_s, known)).to(images.device)
        memory = None
        if older_bev is not None and known.any():
            memory = align_memory(older_bev, older_from_newer, known, self.encoder.grid)
        views = view_pillars(self.encoder.grid, img_from_lidar, plane_shape(images), valid_hw, images.device)
        return self.encoder(self.extract_images(images), views, signals, memory).float()

    def extract_feat(self, batch_inputs: dict[str, Tensor], batch_data_samples: list[Det3DDataSample]) -> Tensor:
        """Returns the map (B, C, X, Y) float32 of the present frame, of `imgs` (B, F*N, 3, H, W)."""
        images = batch_inputs['imgs']
        matrices = collect_projections(images, batch_data_samples)
        frames = matrices.shape[1]
        motions = lidar_motion(batch_data_samples, frames)
        matrices = matrices @ np.linalg.inv(motions)[:, :, None]
        if self.ground_z_m is not None:
            # The mounts are rigid: every frame has the same plane in its own LiDAR frame.
            matrices = follow_ground(matrices, sample_planes(batch_data_samples), self.ground_z_m)
        times = frame_times(batch_data_samples, frames)
        images = images.unflatten(1, (frames, -1))
        valid_hw = unpadded_hw(images, batch_data_samples)
        bev = None
        for f in range(frames - 1, -1, -1):
            past: dict[str, Any] = {}
            if bev is not None:
                step_s = times[:, f] - times[:, f + 1]
                older_from_newer = motions[:, f + 1] @ np.linalg.inv(motions[:, f])
                past = dict(older_bev=bev, older_from_newer=older_from_newer, step_s=step_s, known=step_s != 0)
            with self._history() if f else nullcontext():
                bev = self.encode(images[:, f], matrices[:, f], valid_hw, **past)
        assert bev is not None, 'a sample has one frame or more'
        return bev

    @contextmanager
    def _history(self) -> Iterator[None]:
        """Past frames run without gradients and in eval mode."""
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            for module, mode in modes:
                module.training = mode

    def loss(self, batch_inputs: dict, batch_data_samples: list[Det3DDataSample], **kwargs: Any) -> dict[str, Tensor]:
        """Returns the head's losses; the head runs in float32 under any autocast."""
        bev = self.extract_feat(batch_inputs, batch_data_samples)
        with torch.autocast(bev.device.type, enabled=False):
            return self.bbox_head.loss(bev, samples_above_ground(batch_data_samples, self.ground_z_m))

    def predict(
        self, batch_inputs: dict, batch_data_samples: list[Det3DDataSample], **kwargs: Any
    ) -> list[Det3DDataSample]:
        """Returns the samples with `pred_instances_3d`: boxes in metres in the LiDAR frame, scores, labels."""
        bev = self.extract_feat(batch_inputs, batch_data_samples)
        return self.add_pred_to_datasample(batch_data_samples, self.find_boxes(bev, batch_data_samples))

    def find_boxes(self, bev: Tensor, batch_data_samples: list[Det3DDataSample]) -> list:
        """Returns what the head predicts on maps (B, C, X, Y), as InstanceData in the LiDAR frame."""
        with torch.autocast(bev.device.type, enabled=False):
            boxes = self.bbox_head.predict_passes([bev], batch_data_samples)
        if self.ground_z_m is not None:
            lift_to_lidar(boxes, batch_data_samples, self.ground_z_m)
        return boxes

    def stream(
        self,
        num_frames: int | None = None,
        offsets_s: Sequence[float] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> BEVFormerStream:
        """Returns a stream of this model, which encodes each frame once; bfloat16 is autocast.

        `num_frames` and `offsets_s` do not count: the past is in the map of the frame before.
        """
        from perception3d.models.bev_transformer.streaming import BEVFormerStream

        return BEVFormerStream(self, dtype=dtype)

    def export_spec(self, read_sample: ReadSample) -> ExportSpec:
        """Raises InputError: there is no export of this model yet."""
        raise InputError(
            'BEVFormer cannot be exported: its views and pillars are selected in each frame, which gives tensors of '
            'changing sizes; Fast-BEV can be exported'
        )

    def _forward(self, batch_inputs: dict, batch_data_samples: list[Det3DDataSample] | None = None, **kwargs: Any):
        """Returns the head's raw outputs."""
        return self.bbox_head(self.extract_feat(batch_inputs, batch_data_samples or []))
