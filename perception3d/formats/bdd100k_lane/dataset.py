"""BDD100K's images with lanes as one class of pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from perception3d.checks import InputError
from perception3d.datasets.lane_dataset import LaneDataset
from perception3d.datasets.lane_masks import OWN_MASK_FOLDER
from perception3d.files import write_image
from perception3d.formats.bdd100k_lane import FORMAT
from perception3d.formats.bdd100k_lane.files import SLOTS, Bytes
from perception3d.geometry.iou import to_numpy
from perception3d.registry import DATASETS


@DATASETS.register_module()
class Bdd100kLaneDataset(LaneDataset):
    """Images of BDD100K, from the info files of `tools/create_data.py bdd100k-lane`.

    `frame_id` is such as 'images/100k/val/b1c66a42-6f7d68ca'. The one slot is `lane`. A result, `NAME_lane.png`, is a
    mask of the stored image, 255 on lanes: the file of the SAD paper's release, not BDD100K's label byte, which wants
    categories that the models do not know. It needs `pred_lane_seg`, which a decoder gives with `keep_mask=True`.

    Arguments are those of LaneDataset.
    """

    own_entries = ('images', 'labels', 'perception3d_*')
    format_names = (FORMAT.name,)
    default_classes = SLOTS
    result_suffix = '_lane.png'

    def write_result(self, sample: Any, path: str | Path) -> bool:
        """Writes the mask of a predicted sample.

        Raises:
            InputError: `path` lies among the masks of the data set.
        """
        found = sample.get('pred_lane_seg')
        if found is None:
            return False
        if OWN_MASK_FOLDER in Path(path).parts:
            raise InputError(f'{path} would be among the masks of a data set: choose another folder for results')
        write_image(path, lane_image(found))
        return True


def lane_image(found: Any) -> Bytes:
    """Returns the mask (H, W) of `pred_lane_seg`, whose `lane_mask` is (1, H, W): 255 on lanes, 0 elsewhere."""
    mask = to_numpy(found.get('lane_mask'))[0]
    return np.where(mask > 0, 255, 0).astype(np.uint8)
