"""A test step that runs a model as in a vehicle: frame by frame, with the history that its stream keeps."""

from __future__ import annotations

from typing import Any

from mmdet3d.structures import Det3DDataSample
from torch import Tensor

from perception3d.checks import InputError


class StreamStep:
    """Passes samples through a stream, one after the other; takes and returns what `model.test_step` does.

    Only the images of the present frame are used: the history is what the stream keeps, and it is reset where a new
    scene begins. In the first frames of a scene it has less history than a data set that knows the frames between its
    samples. Like its stream, it serves one thread.

    Args:
        stream: from `model.stream()`; has the `model`, `reset()`, and `step_sample(images, metainfo)`, which returns
            the predictions of one sample.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self._scene: str | None = None
        self._done: set[str] = set()

    def __call__(self, data: dict[str, Any]) -> list[Det3DDataSample]:
        """Returns the samples of a batch, as collated by the loader, with their predictions.

        InputError if a scene continues after another one, or runs backwards in time.
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
        predictions = self.stream.step_sample(images, meta)
        return self.stream.model.add_pred_to_datasample([sample], [predictions])[0]
