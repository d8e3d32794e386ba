"""Cameras that some samples of a data set lack: a black image is used there.

In the place of the image stands a black one without a path, and a camera so far behind everything that no point of the
scene is in front of it. The network then runs on the same cameras in every sample, and its detections do not depend on
the other samples of a batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_FAR_BEHIND_M = 1e6


class CameraRig:
    """The cameras of all samples of an info file, in the order of its most complete sample.

    Args:
        infos: entries of the file's `data_list`.
        past: for each of them the images of its history frames that are used; by default none.
    """

    def __init__(
        self, infos: Sequence[Mapping[str, Any]], past: Sequence[Sequence[Mapping[str, Any]]] | None = None
    ) -> None:
        self._views: dict[str, Mapping[str, Any]] = {}
        self._counts: Counter[str] = Counter()
        self._first_lacking: dict[str, str] = {}
        self._num_samples = len(infos)
        fullest: Mapping[str, Any] = max(infos, key=lambda info: len(info['images']), default={'images': {}})
        for info in (fullest, *infos):
            for name, view in info['images'].items():
                self._views.setdefault(name, view)
        for info, frames in zip(infos, past if past is not None else [()] * len(infos), strict=True):
            whole = set(self._views)
            for images in (info['images'], *frames):
                whole = whole & images.keys()
            self._counts.update(whole)
            for name in self._views.keys() - whole:
                self._first_lacking.setdefault(name, info['token'])

    @property
    def names(self) -> list[str]:
        """Names of all cameras."""
        return list(self._views)

    def notes(self, names: Sequence[str]) -> list[str]:
        """Returns a line for each of the cameras `names` that some samples lack, in the present frame or a past one."""
        return [
            f'{self._num_samples - self._counts[name]} of {self._num_samples} samples lack an image of {name} (first: '
            f'sample {self._first_lacking[name]}): a black image is used there'
            for name in names
            if name in self._first_lacking
        ]

    def black_view(self, name: str) -> dict[str, Any]:
        """Describes a black image of the camera `name`; its time is infinite, as there was none."""
        view = self._views[name]
        lidar2cam = np.array(view['lidar2cam'], np.float64)
        lidar2cam[2, 3] -= _FAR_BEHIND_M
        size = {key: view[key] for key in ('width', 'height')}
        return {'img_path': '', 'timestamp': np.inf, 'cam2img': view['cam2img'], 'lidar2cam': lidar2cam, **size}
