"""Fast-BEV scored as it runs in a vehicle: a stream in the place of the detector's test step."""

from __future__ import annotations

from typing import Any

from mmdet3d.structures import Det3DDataSample
from torch import Tensor

from perception3d.checks import InputError
from perception3d.models.fast_bev.streaming import FastBEVStream, StreamFrame


class StreamedTest:
    """Passes samples through a stream, one after the other; takes and returns what `model.test_step` does.

    The images of the present frame are used alone: history is what the stream remembers, and it is forgotten where a
    new scene begins. Before the first frames of a scene it has less history than a data set that knows frames between
    its samples. As its stream, it serves one thread.

    Args:
        stream: of the detector under test.
    """

    def __init__(self, stream: FastBEVStream) -> None:
        self.stream = stream
        self._scene: str | None = None
        self._done: set[str] = set()

    def __call__(self, data: dict[str, Any]) -> list[Det3DDataSample]:
        """Returns the samples of a batch, as collated by the loader, with their predictions.

        InputError if a scene goes on after another one, or backwards.
        """
        return [self._step(*pair) for pair in zip(data['inputs']['img'], data['data_samples'], strict=True)]

    def _step(self, images: Tensor, sample: Det3DDataSample) -> Det3DDataSample:
        meta = sample.metainfo
        if meta['scene_token'] != self._scene:
            if meta['scene_token'] in self._done:
                raise InputError(
                    f'sample {meta["token"]} belongs to a scene that was left before: a stream needs the samples scene '
                    'by scene and in the order of time, without a shuffling sampler'
                )
            self._scene = meta['scene_token']
            self._done.add(self._scene)
            self.stream.reset()
        found = self.stream.step(StreamFrame.from_meta(meta, images))
        return self.stream.model.add_pred_to_datasample([sample], [found])[0]
