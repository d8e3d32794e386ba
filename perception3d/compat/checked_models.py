"""Models whose parts are compared when they are built: mmdet3d states one grid in five places and compares none.

After a change of the range or the voxel size in one place only, objects are off by metres or the first batch ends in
an IndexError.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from perception3d.checks import InputError, require_equal_numbers, shown

_LAYER = 'data_preprocessor.voxel_layer'


def compare_parts_of_models(mmengine_root: ModuleType) -> None:
    """Lets mmengine's registry of models, and those made from it, compare the parts of what they build."""
    original = mmengine_root.MODELS.build_func
    if hasattr(original, 'original'):
        return

    def build_checked_model(*args: Any, **kwargs: Any) -> Any:
        model = original(*args, **kwargs)
        check_parts(model)
        return model

    checked: Any = build_checked_model
    checked.original = original
    pending = [mmengine_root.MODELS]
    while pending:
        registry = pending.pop()
        if registry.build_func is original:
            registry.build_func = checked
        pending += registry.children.values()


def check_parts(model: Any) -> None:
    """Compares the parts of a model: by its own `check_parts` if it has one, else those of mmdet3d's LiDAR detectors.

    Raises:
        InputError: two parts disagree; names both and their values.
    """
    own = getattr(model, 'check_parts', None)
    if callable(own):
        own()
        return
    layer = getattr(getattr(model, 'data_preprocessor', None), 'voxel_layer', None)
    head_name, head = _part(model, 'bbox_head')
    if hasattr(layer, 'point_cloud_range') and hasattr(layer, 'grid_shape'):
        _check_voxels(model, layer)
        _check_anchor_ranges(model, layer, head_name, head)
        _check_center_head(model, layer, head_name, head)
        _check_map_range(layer, head_name, head)
    _check_assigners(head_name, head)


def _part(model: Any, name: str) -> tuple[str, Any]:
    """Returns the name and value of `name`, or of `pts_name` as detectors of several sensors call it."""
    for candidate in (f'pts_{name}', name):
        part = getattr(model, candidate, None)
        if part is not None:
            return candidate, part
    return name, None


def _check_voxels(model: Any, layer: Any) -> None:
    """Compares the encoders of voxels and the map with the voxels that are made."""
    span, size, (nx, ny, nz) = layer.point_cloud_range, layer.voxel_size, layer.grid_shape
    for axis, low, high, edge in zip('xyz', span[:3], span[3:], size, strict=True):
        cells = (high - low) / edge
        if abs(cells - round(cells)) > 0.01 or round(cells) < 1:
            raise InputError(
                f'{_LAYER}: point_cloud_range {shown(span)} is not a whole number of voxels of '
                f'voxel_size {shown(size)} along {axis}: {high - low:g} m / {edge:g} m = {cells:.2f}'
            )
    name, encoder = _part(model, 'voxel_encoder')
    if hasattr(encoder, 'point_cloud_range'):
        source = f'{_LAYER}.point_cloud_range is'
        require_equal_numbers(f'{name}.point_cloud_range', encoder.point_cloud_range, source, span)
    if hasattr(encoder, 'vz'):
        place = f'{name}.voxel_size'
        require_equal_numbers(place, [encoder.vx, encoder.vy, encoder.vz], f'{_LAYER}.voxel_size is', size)
    name, middle = _part(model, 'middle_encoder')
    made = f'{_LAYER} with point_cloud_range {shown(span)} and voxel_size {shown(size)} makes cells (y, x)'
    if hasattr(middle, 'nx') and hasattr(middle, 'ny'):
        require_equal_numbers(f'{name}.output_shape', [middle.ny, middle.nx], made, [ny, nx])
    shape = getattr(middle, 'sparse_shape', None)
    if shape is not None:
        require_equal_numbers(f'{name}.sparse_shape[1:]', list(shape)[1:], made, [ny, nx])
        # SECOND and its successors leave one layer free above the voxels.
        if shape[0] not in (nz, nz + 1):
            raise InputError(
                f'{name}.sparse_shape has {shape[0]} layers, but {made.replace("(y, x)", "along z:")} {nz}: '
                f'set {nz + 1} (one is left free) or {nz}'
            )


def _check_anchor_ranges(model: Any, layer: Any, name: str, head: Any) -> None:
    """Compares the anchors, which are laid out over the map, with the range of the map.

    Configs of mmdet3d lay out the anchors of nuScenes between the centres of the outer cells of some map.
    """
    ranges = getattr(getattr(head, 'prior_generator', None), 'ranges', ())
    if not len(ranges):
        return
    span = layer.point_cloud_range
    cell_m = float(max(layer.voxel_size[:2])) * (_map_stride(model, layer.grid_shape) or 1)
    for k, low_high in enumerate(ranges):
        covered = [*low_high[:2], *low_high[3:5]]
        place = f'{name}.anchor_generator.ranges[{k}] in x and y (x0, y0, x1, y1)'
        require_equal_numbers(place, covered, f'{_LAYER}.point_cloud_range is', [*span[:2], *span[3:5]], cell_m)


def _check_center_head(model: Any, layer: Any, name: str, head: Any) -> None:
    """Compares the map that the coder and settings of a CenterPoint head describe with the map that the head gets."""
    coder = getattr(head, 'bbox_coder', None)
    if not hasattr(coder, 'out_size_factor'):
        return
    span, size, cells = layer.point_cloud_range, layer.voxel_size, layer.grid_shape
    settings = {f'{name}.bbox_coder': vars(coder), 'train_cfg': getattr(head, 'train_cfg', None)}
    settings['test_cfg'] = getattr(head, 'test_cfg', None)
    prefix = '.pts' if name.startswith('pts_') else ''
    stride = _map_stride(model, cells)
    for place, values in settings.items():
        place += prefix if place.endswith('cfg') else ''
        values = values if isinstance(values, Mapping) else {}
        for key, source, wanted in (
            ('pc_range', 'point_cloud_range', span[:2]),
            ('point_cloud_range', 'point_cloud_range', span),
            ('voxel_size', 'voxel_size', size),
        ):
            if values.get(key) is not None:
                count = 2 if key == 'pc_range' or len(values[key]) == 2 else len(wanted)
                value = list(values[key])[:count]
                require_equal_numbers(f'{place}.{key}', value, f'{_LAYER}.{source} is', list(wanted)[:count])
        if values.get('grid_size') is not None:
            require_equal_numbers(
                f'{place}.grid_size', list(values['grid_size'])[:2], f'{_LAYER} makes cells (x, y)', cells[:2]
            )
        if values.get('out_size_factor') is not None and stride is not None:
            source = 'the map of the head has a stride of'
            require_equal_numbers(f'{place}.out_size_factor', values['out_size_factor'], source, stride)


def _check_map_range(layer: Any, name: str, head: Any) -> None:
    """Compares the range that a head takes its maps to cover with that of the voxels."""
    covered = getattr(head, 'map_range_m', None)
    if covered is not None:
        span = layer.point_cloud_range
        source = f'{_LAYER}.point_cloud_range is'
        require_equal_numbers(f'{name}.range_m', list(covered), source, [*span[:2], *span[3:5]])


def _map_stride(model: Any, cells: Sequence[int]) -> float | None:
    """Returns how many voxels along x a cell of the head's map has; None where its parts cannot be run without data."""
    import torch
    from torch import nn

    parts = [_part(model, name)[1] for name in ('backbone', 'neck')]
    first = next((m for m in parts[0].modules() if isinstance(m, nn.Conv2d)), None) if parts[0] is not None else None
    if first is None:
        return None
    try:
        width, height = _dense_size(_part(model, 'middle_encoder')[1], cells)
        # Copies without values: shapes alone are computed.
        network = [copy.deepcopy(part).to('meta').eval() for part in parts if part is not None]
        maps: Any = torch.zeros(1, first.in_channels, height, width, device='meta')
        with torch.no_grad():
            for part in network:
                maps = part(maps)
        maps = maps[0] if isinstance(maps, (list, tuple)) else maps
        return cells[0] / maps.shape[-1]
    except Exception:  # Parts of users may take and give something else: then nothing is compared.
        return None


def _dense_size(middle: Any, cells: Sequence[int]) -> tuple[int, int]:
    """Returns width and height of the map that the middle encoder makes of a grid of `cells` (x, y, z)."""
    width, height = cells[0], cells[1]
    if getattr(middle, 'sparse_shape', None) is None:
        return width, height
    for module in middle.modules():
        if hasattr(module, 'subm') and not module.subm and not getattr(module, 'inverse', False):
            _, down, across = zip(module.kernel_size, module.stride, module.padding, strict=True)
            height, width = (
                (n + 2 * padding - kernel) // stride + 1
                for n, (kernel, stride, padding) in ((height, down), (width, across))
            )
    return width, height


def count_of_classes(head: Any) -> Any:
    """Returns `num_classes` of a head without the background, which mmdet3d's Anchor3DHead adds without sigmoid.

    Heads of images, such as mmdet's AnchorHead, count the classes alone in any case.
    """
    from mmdet3d.models.dense_heads.anchor3d_head import Anchor3DHead

    count = getattr(head, 'num_classes', None)
    if count is None or not isinstance(head, Anchor3DHead):
        return count
    return count - (not head.use_sigmoid_cls)


def _check_assigners(name: str, head: Any) -> None:
    """Compares the number of assigners of targets with the anchors' sizes, and with the classes if each has its own."""
    assigners: Any = getattr(head, 'bbox_assigner', None)
    generator: Any = getattr(head, 'prior_generator', None)
    if not isinstance(assigners, (list, tuple)) or not hasattr(generator, 'sizes'):
        return
    sizes = len(generator.sizes)
    if len(assigners) != sizes:
        raise InputError(
            f'train_cfg.assigner has {len(assigners)} assigners, but {name}.anchor_generator.sizes has {sizes} sizes: '
            'each size needs an assigner'
        )
    classes = count_of_classes(head)
    if getattr(head, 'assign_per_class', False) and classes != sizes:
        raise InputError(
            f'{name}.num_classes is {classes}, but {name}.anchor_generator.sizes and train_cfg.assigner have {sizes} '
            'entries: with assign_per_class each class needs one of both'
        )
