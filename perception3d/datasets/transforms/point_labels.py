"""Loading of the labels of points."""

from __future__ import annotations

from typing import Any

from mmcv.transforms import BaseTransform

from perception3d.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadPointLabels(BaseTransform):
    """Adds the labels of `points`, of a sample of a `PointLabelDataset`; it stands right behind the loading of points.

    Adds `pts_semantic_mask` (N,) int64, the index of each point's class or IGNORE, and where the format stores objects
    `pts_instance_mask` (N,) int64, which differs from object to object and is 0 for none. In testing `eval_ann_info`
    gets both as well, for the metric. A frame without labels, as in inference, stays as it is.

    Raises:
        InputError: the label file is missing, has not one label for each point, or holds an id that its format does
            not have.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Adds the labels."""
        path = results.get('pts_semantic_mask_path')
        if path is None:
            return results
        encoding = results['label_encoding']
        stored = encoding.read(path, len(results['points']))
        found = {'pts_semantic_mask': encoding.labels(stored, path), 'pts_instance_mask': encoding.objects(stored)}
        found = {key: values for key, values in found.items() if values is not None}
        results.update(found)
        if 'eval_ann_info' in results:
            results['eval_ann_info'].update({key: values.copy() for key, values in found.items()})
        return results
