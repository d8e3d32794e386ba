"""Fast-BEV: cameras of several frames to 3D boxes through one BEV map (arXiv 2301.12511)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from mmdet3d.models.detectors import Base3DDetector
from mmdet3d.structures import Det3DDataSample
from torch import Tensor, nn

from perception3d.checks import InputError
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
from perception3d.models.fast_bev.feature_cache import FeatureCache
from perception3d.models.fast_bev.view_transform import FeatureRows, LookupViewTransform
from perception3d.registry import MODELS
from perception3d.structures.conversion import Conversion
from perception3d.structures.expected_data import ExpectedData, Stated
from perception3d.structures.export_spec import ExportSpec, ReadSample
from perception3d.structures.heatmaps import Heatmaps

if TYPE_CHECKING:
    from perception3d.models.fast_bev.streaming import FastBEVStream


@MODELS.register_module()
class FastBEV(Base3DDetector):
    """Detects 3D boxes in the LiDAR frame from any number of cameras and frames.

    The images of all frames pass the 2D network; each frame is lifted into the voxel grid of the *present* LiDAR frame
    by its own projections, which hold the ego motion; frames are stacked on the channels and encoded as a map.

    The paper's styles follow from the counts of lifted levels and of grids: v1 one and one, v2 several levels into one
    grid, v3 one level into several grids, v4 level i into grid i.

    Args:
        backbone: 2D backbone.
        neck: feature pyramid.
        neck_fuse: picks and joins pyramid levels (`PyramidFuse`).
        neck_3d: BEV encoder (`M2BEVNeck`).
        bbox_head: head on BEV maps (B, C, X, Y): `loss(bev, samples)`, `predict_passes(bevs, samples)`.
        grids: arguments of `VoxelGrid`, one for each BEV scale.
        priority: camera that wins where several see a voxel: 'last', 'first' or 'mean'.
        flip_tta: when predicting, also process all images mirrored and merge the boxes before suppression.
        cache_features: when predicting, keep the features of images by path, so that a later sample that lists the
            image as history does not compute it again. For ordered data without test-time randomness.
        ground_z_m: height in the grids at which the ground lies. With it, grids and boxes follow the ground of each
            sample's rig instead of the height of its lidar. Not in the paper, whose rigs are all alike.
        channels_last: memory layout of the convolutions. On a CPU the layout makes them about twice as fast forwards;
            with AVX2 alone the gradients of wide ones are then about half as fast, so that training is slower.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        neck_fuse: dict,
        neck_3d: dict,
        bbox_head: dict,
        grids: Sequence[dict],
        priority: str = 'last',
        flip_tta: bool = False,
        cache_features: bool = False,
        ground_z_m: float | None = None,
        channels_last: bool = True,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.backbone = MODELS.build(backbone)
        self.neck = MODELS.build(neck)
        self.neck_fuse = MODELS.build(neck_fuse)
        # A ModuleList does not know of which class its modules are.
        transforms = nn.ModuleList(LookupViewTransform(grid, priority) for grid in grids)
        self.view_transforms = cast('Sequence[LookupViewTransform]', transforms)
        self.neck_3d = MODELS.build(neck_3d)
        self.bbox_head = MODELS.build(bbox_head)
        self.flip_tta = flip_tta
        self.ground_z_m = ground_z_m
        self.feature_cache = FeatureCache() if cache_features else None
        if len(grids) > 1 and 1 < len(self.neck_fuse.levels) != len(grids):
            raise InputError(f'{len(self.neck_fuse.levels)} lifted levels do not pair with {len(grids)} grids')
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.to(memory_format=self.memory_format)

    @property
    def style(self) -> str:
        """The paper's name for the pairing of image levels and grids: v1, v2, v3 or v4."""
        many_levels, many_grids = len(self.neck_fuse.levels) > 1, len(self.view_transforms) > 1
        return {(False, False): 'v1', (True, False): 'v2', (False, True): 'v3', (True, True): 'v4'}[
            many_levels, many_grids
        ]

    @property
    def num_frames(self) -> int | None:
        """Frames whose lifted maps the BEV encoder takes; None for an encoder without `lifted_channels`.

        Raises:
            InputError: its channels are not a whole number of frames.
        """
        channels = getattr(self.neck_3d, 'lifted_channels', None)
        if channels is None:
            return None
        heights = [transform.grid.shape[2] for transform in self.view_transforms]
        levels = len(self.neck_fuse.levels) if len(heights) == 1 else 1
        width = self.neck_fuse.out_channels
        each = width * levels * sum(heights)
        if channels % each:
            raise InputError(
                f'neck_3d takes {channels} channels (fuse_channels), but a frame has {each}: {width} of neck_fuse x '
                f'{levels * sum(heights)} heights of grids; set fuse_channels to {each} x the number of frames'
            )
        return channels // each

    def check_parts(self) -> None:
        """Compares the grids with each other and with the head, and the BEV encoder's channels with both.

        Raises:
            InputError: two of them disagree; names both.
        """
        for k, transform in enumerate(self.view_transforms):
            x0, y0, _, x1, y1, _ = transform.grid.range_m
            require_head_range(f'grids[{k}]', (x0, y0, x1, y1), self.bbox_head)
        # Raises where they are not a whole number.
        _ = self.num_frames

    def expected_data(self) -> ExpectedData:
        """Returns the number of classes of the head, where it has one, and of frames."""
        classes, frames = getattr(self.bbox_head, 'num_classes', None), self.num_frames
        return ExpectedData(
            num_classes=None if classes is None else Stated('bbox_head.num_classes', classes),
            num_frames=None if frames is None else Stated('neck_3d.fuse_channels', frames),
            takes_points=False,
        )

    def train(self, mode: bool = True) -> FastBEV:
        """Sets the mode; cached features are dropped when weights may change."""
        if mode and self.feature_cache is not None:
            self.feature_cache.clear()
        return super().train(mode)

    def extract_images(self, images: Tensor) -> list[Tensor]:
        """Returns the maps [(M, C, H_i, W_i)] to lift, channels-last, of images (M, 3, H, W) already normalised."""
        images = images.contiguous(memory_format=self.memory_format)
        maps = self.neck_fuse(self.neck(self.backbone(images)))
        # The lift reads rows of channels, whatever the layout of the convolutions.
        return [m.contiguous(memory_format=torch.channels_last) for m in maps]

    def levels_of_grids(self, levels: list[Any]) -> list[list[Any]]:
        """Returns the levels that each grid lifts: all of them into a single grid, else level i (or 0) into grid i."""
        if len(self.view_transforms) == 1:
            return [levels]
        return [levels[i : i + 1] or levels[:1] for i in range(len(self.view_transforms))]

    def encode(
        self,
        levels: list[FeatureRows],
        img_from_lidar: np.ndarray,
        image_hw: tuple[int, int],
        valid_hw: tuple[int, int] | None = None,
    ) -> Tensor:
        """Lifts image features and encodes them: (B, C, X', Y') float32.

        `img_from_lidar` is (B, F, N, 4, 4), from metres in the current LiDAR frame to pixels of the network's input of
        size `image_hw`; `valid_hw` is the part that is not padding.
        """
        volumes = [
            transform(group, img_from_lidar, image_hw, valid_hw).contiguous(memory_format=self.memory_format)
            for transform, group in zip(self.view_transforms, self.levels_of_grids(levels), strict=True)
        ]
        return self.neck_3d(volumes).float()

    def extract_feat(self, batch_inputs: dict[str, Tensor], batch_data_samples: list[Det3DDataSample]) -> Tensor:
        """Returns the BEV features (B, C, X', Y') float32 of `imgs` (B, F*N, 3, H, W)."""
        images = batch_inputs['imgs']
        matrices = collect_projections(images, batch_data_samples)
        batch, frames = matrices.shape[:2]
        if self.ground_z_m is not None:
            matrices = follow_ground(matrices, sample_planes(batch_data_samples), self.ground_z_m)
        if self.feature_cache is not None and not self.training:
            paths = [sample.metainfo['img_paths'] for sample in batch_data_samples]
            levels = self.feature_cache.rows(images, paths, frames, self.extract_images)
        else:
            maps = self.extract_images(images.flatten(0, 1))
            levels = [FeatureRows.from_maps(m, batch, frames) for m in maps]
        return self.encode(levels, matrices, plane_shape(images), unpadded_hw(images, batch_data_samples))

    def response_map(self, logits: Tensor) -> Heatmaps:
        """Returns the best class score in every cell of the BEV grid, of class logits (K, X, Y) of one sample."""
        x0, y0, _, x1, y1, _ = self.view_transforms[0].grid.range_m
        return Heatmaps.of_logits(logits, (x0, y0, x1, y1))

    def loss(self, batch_inputs: dict, batch_data_samples: list[Det3DDataSample], **kwargs: Any) -> dict[str, Tensor]:
        """Returns the head's losses; the head runs in float32 under any autocast."""
        bev = self.extract_feat(batch_inputs, batch_data_samples)
        with torch.autocast(bev.device.type, enabled=False):
            return self.bbox_head.loss(bev, samples_above_ground(batch_data_samples, self.ground_z_m))

    def predict(
        self, batch_inputs: dict, batch_data_samples: list[Det3DDataSample], **kwargs: Any
    ) -> list[Det3DDataSample]:
        """Returns the samples with `pred_instances_3d`: boxes in metres in the LiDAR frame, scores, labels."""
        views = [(batch_inputs, batch_data_samples)]
        if self.flip_tta:
            views.append(_mirrored(batch_inputs, batch_data_samples))
        return self._predict_views(views, batch_data_samples)

    def aug_test(
        self, batch_inputs: list[dict], batch_data_samples: list[list[Det3DDataSample]], **kwargs: Any
    ) -> list[Det3DDataSample]:
        """Merges several views of the same batch, made by the pipeline, before suppression.

        The views may differ in their images and matrices, not in their LiDAR frame.
        """
        return self._predict_views(list(zip(batch_inputs, batch_data_samples, strict=True)), batch_data_samples[0])

    def _predict_views(self, views: list[tuple[dict, list]], samples: list) -> list[Det3DDataSample]:
        bevs = [self.extract_feat(inputs, view_samples) for inputs, view_samples in views]
        with torch.autocast(bevs[0].device.type, enabled=False):
            boxes = self.bbox_head.predict_passes(bevs, samples)
        if self.ground_z_m is not None:
            lift_to_lidar(boxes, samples, self.ground_z_m)
        return self.add_pred_to_datasample(samples, boxes)

    def stream(
        self,
        num_frames: int | None = None,
        offsets_s: Sequence[float] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> FastBEVStream:
        """Returns a stream of this model, which computes the features of each image once.

        Args:
            num_frames: frames of a sample; 4 by default.
            offsets_s: nominal times of the history; by default the first of -0.5, -1.0, -1.5 s.
            dtype: of the 2D network, the history and the BEV encoder.

        Raises:
            InputError: the model uses test-time augmentation.
        """
        from perception3d.models.fast_bev.streaming import HISTORY_S, FastBEVStream

        if self.flip_tta:
            raise InputError('a stream runs without test-time augmentation: set flip_tta=False')
        if offsets_s is None:
            offsets_s = HISTORY_S[: (num_frames or 1 + len(HISTORY_S)) - 1]
        return FastBEVStream(self, offsets_s, dtype=dtype)

    def convert_weights(self, state: Mapping[str, Tensor], kind: str | None = None) -> Conversion:
        """Returns weights of others as weights of this model; see `convert_for`."""
        from perception3d.models.fast_bev.convert import convert_for

        return convert_for(self, state, kind)

    def export_spec(self, read_sample: ReadSample) -> ExportSpec:
        """Returns what an ONNX file of the model contains: a single frame, or one step of a stream; see `export`."""
        from perception3d.models.fast_bev.export import fast_bev_spec

        return fast_bev_spec(self, read_sample())

    def _forward(self, batch_inputs: dict, batch_data_samples: list[Det3DDataSample] | None = None, **kwargs: Any):
        """Returns the head's raw maps (class logits, box deltas, direction logits)."""
        return self.bbox_head(self.extract_feat(batch_inputs, batch_data_samples or []))


def _mirrored(batch_inputs: dict, samples: list[Det3DDataSample]) -> tuple[dict, list[Det3DDataSample]]:
    """Mirrors all images left to right and their projections with them: u becomes W - u."""
    images = batch_inputs['imgs']
    width = unpadded_hw(images, samples)[1]
    flip = np.diag([-1.0, 1.0, 1.0, 1.0])
    flip[0, 2] = width
    flipped_samples = []
    for sample in samples:
        flipped = sample.new()
        paths = [f'{path}#mirrored' for path in sample.metainfo.get('img_paths', [])]
        matrices = flip @ np.asarray(sample.metainfo['img_from_lidar'], np.float64)
        flipped.set_metainfo({'img_from_lidar': matrices, 'img_paths': paths})
        flipped_samples.append(flipped)
    mirrored = images.clone()
    mirrored[..., :width] = images[..., :width].flip(-1)
    return {**batch_inputs, 'imgs': mirrored}, flipped_samples
