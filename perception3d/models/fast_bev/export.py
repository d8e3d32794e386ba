"""Fast-BEV as one ONNX file: from images to the head's maps, with standard operators only.

A model of one frame has its lookup table in the file: the table follows from the calibration, which is fixed in a
vehicle. A model of several frames is exported as one step of a stream. Its table changes with the motion of the ego
vehicle, so the application makes it (`lookup_tables`, or the same computation elsewhere) and passes it in, together
with the features of the history that the file returned in earlier steps.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from perception3d.checks import InputError
from perception3d.models.blocks.camera import collect_projections, follow_ground, sample_planes, unpadded_hw
from perception3d.models.blocks.preprocessing import normalise_images, pad_images
from perception3d.models.fast_bev.view_transform import FeatureRows
from perception3d.models.inference.acceleration import fold_batch_norms
from perception3d.ops.scatter import gather_rows_torch
from perception3d.structures.export_spec import ExportInput, ExportSpec

if TYPE_CHECKING:
    from perception3d.models.fast_bev.detector import FastBEV

_IMAGES = (
    'uint8 BGR images 0..255 of the present frame (camera, channel, y, x), resized and cropped as by the test '
    'pipeline; the file normalises and pads them'
)
_DECODING = (
    'decoding of the maps into boxes and class-wise NMS (boxes_from_outputs of the head), and with ground_z_m adding '
    'the height of the ground to the boxes (lift_to_lidar)'
)


class FastBEVNetwork(nn.Module):
    """The images of the present frame to the head's maps, as a chain of standard operators.

    `forward(images)` if the tables are inside, else `forward(images, *history, *tables)`, which also returns the
    features of the present frame. There is one `history` (F-1, N, H', W', C) for each lifted level and one table for
    each grid.

    Args:
        model: the detector; its parts are copied and their batch norms folded.
        tables: (X, Y, Z, L*F) int32 of each grid, from `lookup_tables`; None if they are inputs.
    """

    def __init__(self, model: FastBEV, tables: Sequence[Tensor] | None) -> None:
        super().__init__()
        self.model = fold_batch_norms(copy.deepcopy(model).eval().requires_grad_(False))
        self.tables_inside = tables is not None
        for i, table in enumerate(tables or ()):
            self.register_buffer(f'table{i}', table)

    def forward(self, images: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Returns the head's maps, and without tables inside the features (N, H', W', C) of every level."""
        features = self.features(images)
        count = len(features)
        if self.tables_inside:
            tables: Sequence[Tensor] = [getattr(self, f'table{i}') for i in range(len(self.model.view_transforms))]
            levels = features
        else:
            history, tables = inputs[:count], inputs[count:]
            levels = [torch.cat([current[None], past]) for current, past in zip(features, history, strict=True)]
        volumes = [
            _lift(group, table, transform.grid.shape)
            for group, table, transform in zip(
                self.model.levels_of_grids(list(levels)), tables, self.model.view_transforms, strict=True
            )
        ]
        maps = tuple(self.model.bbox_head(self.model.neck_3d(volumes).float()))
        return maps if self.tables_inside else (*maps, *features)

    def features(self, images: Tensor) -> list[Tensor]:
        """Returns the features (N, H', W', C) of every lifted level of images (N, 3, H, W) 0..255."""
        preprocessor = self.model.data_preprocessor
        images = pad_images(preprocessor, normalise_images(preprocessor, images))
        return [level.permute(0, 2, 3, 1) for level in self.model.extract_images(images)]


def _lift(levels: Sequence[Tensor], table: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Returns the BEV map (1, Z*L*F*C, X, Y) of features [(.., C)] by a table (X, Y, Z, L*F)."""
    rows = torch.cat([level.reshape(-1, level.shape[-1]) for level in levels])
    lifted = gather_rows_torch(rows, table.reshape(-1).long())
    return lifted.reshape(1, shape[0], shape[1], -1).permute(0, 3, 1, 2)


def lookup_tables(
    model: FastBEV,
    features: Sequence[Tensor],
    img_from_lidar: np.ndarray,
    image_hw: tuple[int, int],
    valid_hw: tuple[int, int] | None = None,
) -> list[Tensor]:
    """Returns the table (X, Y, Z, L*F) int32 of every grid for the ONNX file of `model`.

    Args:
        model: the detector.
        features: (N, H', W', C) of each lifted level, for their sizes.
        img_from_lidar: (F, N, 4, 4) from metres in the present LiDAR frame to pixels of the images; frame 0 is the
            present one. For a model with `ground_z_m`, after `follow_ground`.
        image_hw, valid_hw: size of the network's input, and of the part of it that is not padding.

    Raises:
        InputError: the priority of the model is 'mean', where a voxel reads several rows.
    """
    if any(transform.priority == 'mean' for transform in model.view_transforms):
        raise InputError("a model with priority 'mean' has no table of one row per voxel: use 'last' or 'first'")
    frames = len(img_from_lidar)
    levels = [FeatureRows.from_maps(level.permute(0, 3, 1, 2).repeat(frames, 1, 1, 1), 1, frames) for level in features]
    return [
        transform.tables(group, img_from_lidar[None], image_hw, valid_hw or image_hw)[0].clone()
        for transform, group in zip(model.view_transforms, model.levels_of_grids(levels), strict=True)
    ]


@torch.no_grad()
def fast_bev_spec(model: FastBEV, sample: Mapping[str, Any]) -> ExportSpec:
    """Returns the specification for the calibration and the image size of a sample of the test pipeline.

    Raises:
        InputError: the sample is not one of cameras, has another number of frames than the model takes, or the
            model's priority is 'mean'.
    """
    images, packed = sample['inputs']['img'], sample['data_samples']
    batch = model.data_preprocessor({'inputs': {'img': [images]}, 'data_samples': [packed]})
    padded_hw = tuple(batch['inputs']['imgs'].shape[-2:])
    matrices = collect_projections(images[None], [packed])[0]
    frames, cameras = matrices.shape[:2]
    if model.num_frames not in (None, frames):
        raise InputError(f'the model takes {model.num_frames} frames, the sample has {frames}: set num_frames')
    if model.ground_z_m is not None:
        matrices = follow_ground(matrices[None], sample_planes([packed]), model.ground_z_m)[0]
    plain = FastBEVNetwork(model, None).eval()
    views = [plain.features(part) for part in images.split(cameras)]
    tables = lookup_tables(model, views[0], matrices, padded_hw, unpadded_hw(images[None], [packed]))
    present = ExportInput('images', images[:cameras].clone(), _IMAGES)
    if frames == 1:
        return ExportSpec(
            network=FastBEVNetwork(model, tables).eval(),
            inputs=(present,),
            outputs=tuple(model.bbox_head.output_names),
            contains='normalisation, padding, 2D network, lookup table of one calibration, BEV encoder and head',
            before='decoding, resizing and cropping of the images',
            after=_DECODING,
        )
    history = [torch.stack([view[level] for view in views[1:]]) for level in range(len(views[0]))]
    return ExportSpec(
        network=plain,
        inputs=(present, *_history_inputs(history), *_table_inputs(tables)),
        outputs=(*model.bbox_head.output_names, *_numbered('features', len(history))),
        contains='one step of a stream: normalisation, padding, 2D network, lift by a table, BEV encoder and head',
        before=(
            'decoding, resizing and cropping of the images; choice of the history among the features that earlier '
            'steps returned; the lookup table, which changes with the motion of the ego vehicle (lookup_tables)'
        ),
        after=f'keeping the features for later steps; {_DECODING}',
    )


def _numbered(name: str, count: int) -> list[str]:
    return [name] if count == 1 else [f'{name}{i}' for i in range(count)]


def _history_inputs(history: Sequence[Tensor]) -> list[ExportInput]:
    meaning = 'float32 features of earlier frames (frame, camera, y, x, channel), the most recent frame first'
    names = _numbered('history', len(history))
    return [ExportInput(name, value, meaning) for name, value in zip(names, history, strict=True)]


def _table_inputs(tables: Sequence[Tensor]) -> list[ExportInput]:
    meaning = (
        'int32 (x, y, z, level * frames + frame): the row that a voxel reads, -1 for none. Rows are counted over '
        'level, frame (0 is the present one), camera, y, x of the features'
    )
    names = _numbered('table', len(tables))
    return [ExportInput(name, value, meaning) for name, value in zip(names, tables, strict=True)]
