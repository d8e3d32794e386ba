"""What mmdet3d's models expect of their data. They have no method `expected_data`: they are registered here instead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModel

from perception3d.compat.checked_models import count_of_classes
from perception3d.structures.expected_data import ExpectedData, Stated, expected_of_class

_HEADS = ('pts_bbox_head', 'bbox_head', 'rpn_head', 'decode_head')


def named_head(model: Any) -> tuple[str, Any]:
    """Returns the name and the head of a model whose parts have the names of mmdet3d's; '' and None without one."""
    name = next((name for name in _HEADS if getattr(model, name, None) is not None), '')
    return name, getattr(model, name) if name else None


@expected_of_class.register(BaseModel)
def expected_of_parts(model: Any) -> ExpectedData:
    """Returns what the head and the preprocessor of a model expect, whose parts have the names of mmdet3d's.

    Registered for the base of all models of mmdet3d, and of others that name their parts like it.
    """
    name, head = named_head(model)
    names = [str(item) for task in getattr(head, 'class_names', None) or () for item in task]
    count = count_of_classes(head)
    # The proposals of a two-stage detector may be of objects of any class.
    is_count = isinstance(count, int) and not (name == 'rpn_head' and count == 1)
    assigners = getattr(getattr(model, 'roi_head', None), 'bbox_assigner', None)
    preprocessor = getattr(model, 'data_preprocessor', None)
    return ExpectedData(
        class_names=Stated(f'{name}.tasks', names) if names else None,
        num_classes=Stated(f'{name}.num_classes', count) if is_count else None,
        entries_per_class={'train_cfg.rcnn.assigner': len(assigners)} if isinstance(assigners, (list, tuple)) else {},
        anchor_sizes=_anchor_sizes(name, head),
        range_m=_range(preprocessor),
        # A preprocessor of images has their mean.
        takes_points=getattr(preprocessor, 'voxel_layer', None) is not None or not hasattr(preprocessor, 'mean'),
    )


def _anchor_sizes(name: str, head: Any) -> Stated[Sequence[Sequence[float]]] | None:
    """Returns the sizes of the anchors of a head with an assigner for each class, and so with anchors for each."""
    sizes = getattr(getattr(head, 'prior_generator', None), 'sizes', None)
    if sizes is None or not isinstance(getattr(head, 'bbox_assigner', None), list):
        return None
    return Stated(f'{name}.anchor_generator.sizes', sizes)


def _range(preprocessor: Any) -> Stated[Sequence[float]] | None:
    """Returns the range of the voxels, or of the preprocessor: models without voxels may state theirs there."""
    voxels = getattr(preprocessor, 'voxel_layer', None)
    name, holder = ('.voxel_layer', voxels) if voxels is not None else ('.point_cloud_range', preprocessor)
    span = getattr(holder, 'point_cloud_range', None)
    return None if span is None else Stated(f'data_preprocessor{name}', [float(edge) for edge in span])
