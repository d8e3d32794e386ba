"""What tools/compare.py does: several models on the same samples, in one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import pseudo_collate

from perception3d.apis.browse import build_dataset
from perception3d.apis.config import load_config
from perception3d.apis.first_checks import split_model
from perception3d.checkpoints import load_weights
from perception3d.checks import InputError
from perception3d.distill.tap import TapSet
from perception3d.engine.agreement import check_model_and_data, check_trained_classes
from perception3d.files import write_image
from perception3d.geometry.iou import to_numpy
from perception3d.outputs import check_outputs
from perception3d.registry import MODELS
from perception3d.structures.base import Structure
from perception3d.structures.frame import SensorFrame
from perception3d.structures.heatmaps import Heatmaps
from perception3d.structures.response_map import response_map, response_tap
from perception3d.structures.sample import resolve, structures_of
from perception3d.structures.sample_schema import has_images_alone
from perception3d.visualization.compare import Column, draw_comparison
from perception3d.visualization.compare_images import draw_image_comparison
from perception3d.visualization.sample import axes_of, read_images_alone

_NO_LOGITS = 'none'


@dataclass(frozen=True)
class CompareOptions:
    """How models are compared.

    Attributes:
        logits: tap of the class logits (B, K, X, Y), or of a list with these as its one entry; 'none' for a model whose
            logits are not a map of the ground. None takes `response_tap` of the model; of models without this
            attribute `bbox_head[0]`, or nothing where they have no `bbox_head`.
        transposed: the logits are (B, K, Y, X), as those of Fast-BEV's own head. LiDAR detectors need no setting: their
            models know the order of their axes.
        score_thr: boxes with lower scores are not drawn.
        device: 'cpu', 'cuda', ...; a GPU by default if there is one.
    """

    logits: str | None = None
    transposed: bool = False
    score_thr: float = 0.25
    device: str | None = None


def compare(
    models: Sequence[str],
    indices: Sequence[int],
    out: str | Path,
    overrides: dict[str, Any] | None = None,
    options: CompareOptions | None = None,
) -> list[Path]:
    """Draws the predictions of models for samples of their test data, and below their BEV class-score maps.

    Below a model without such a map are its predictions where they differ from the ground truth, such as the wrong
    labels of points.

    Args:
        models: TITLE=CONFIG,CHECKPOINT of each model. Each one reads its own test data, which may differ in the
            size of images, not in the scenes.
        indices: samples of the test data.
        out: folder for the pictures.
        overrides: changes to every config.
        options: what is drawn.

    Returns:
        The paths of the pictures.

    Raises:
        InputError: a model is not of that form or does not load, a sample does not exist or differs between the models.
    """
    check_outputs(folders=[out])
    options = options or CompareOptions()
    compared = [_load(text, overrides or {}, options) for text in models]
    written = []
    for index in indices:
        for model in compared:
            model.require_sample(index)
        tokens = {model.dataset.get_data_info(index).get('token') for model in compared}
        if len(tokens) > 1:
            raise InputError(f'sample {index} differs between the models: their test data must be the same')
        results = [model.predict(index, options) for model in compared]
        # A data set may have no annotations; those of the last one that has some are drawn.
        truth = next((one for _, one, _ in reversed(results) if one is not None), None)
        path = Path(out) / f'compare_{index:04d}.png'
        columns, frame = [column for column, _, _ in results], results[0][2]
        alone = frame.has_images_alone
        picture = draw_image_comparison(columns, truth, frame) if alone else draw_comparison(columns, truth, frame.axes)
        write_image(path, picture)
        written.append(path)
    return written


@dataclass(frozen=True)
class _Compared:
    """A model with its weights and test data; `taps` holds the tap of its logits, or nothing if they are not a map."""

    title: str
    dataset: Any
    model: Any
    taps: TapSet

    def require_sample(self, index: int) -> None:
        """Raises InputError where the test data has no such sample."""
        count = len(self.dataset)
        if not 0 <= index < count:
            raise InputError(f'there is no sample {index}: the test data of {self.title} has 0 to {count - 1}')

    @torch.no_grad()
    def predict(self, index: int, options: CompareOptions) -> tuple[Column, tuple[Structure, ...] | None, SensorFrame]:
        """Returns the column of a sample, its annotations if there are any, and its sensor frame.

        The frame has the images of a sample without a LiDAR, else the points.
        """
        batch = pseudo_collate([self.dataset[index]])
        points = batch['inputs'].get('points') if isinstance(batch['inputs'], dict) else None
        points = None if points is None else to_numpy(points[0])
        with self.taps.record() as records:
            result = self.model.test_step(batch)[0]
        metas = result.metainfo
        alone = has_images_alone(metas)
        frame = read_images_alone(metas) if alone else SensorFrame(points=points, axes=axes_of(metas))
        carried = structures_of(result)
        # Annotations as stored, not as a test-time augmentation has moved them; those of points come with the points.
        stored = structures_of(self.dataset.get_data_info(index)).ground_truth
        truth = self._ready(carried.ground_truth if stored is None else stored, frame)
        predictions = self._ready(carried.predictions, frame, options.score_thr)
        response = self._response(records, options)
        if alone and response is not None:
            placed = np.asarray(metas['img_from_stored'], np.float64)[0, :3, :3]
            response = response.on_network_image(placed, metas['img_hw'])
        return Column(self.title, predictions or (), response), truth, frame

    def _ready(
        self, structures: Sequence[Structure] | None, frame: SensorFrame, score: float | None = None
    ) -> tuple[Structure, ...] | None:
        named = resolve(structures, self.dataset.metainfo['classes'], score)
        return None if named is None else tuple(structure.for_frame(frame) for structure in named)

    def _response(self, records: Mapping[str, Any], options: CompareOptions) -> Heatmaps | None:
        if not records:
            return None
        tap, logits = next(iter(records.items()))
        # The heads of mmdet3d give a list of levels.
        if isinstance(logits, (list, tuple)) and len(logits) == 1:
            logits = logits[0]
        if getattr(logits, 'ndim', 0) != 4:
            raise InputError(
                f'{self.title}: the tap {tap!r} holds no class logits (B, K, X, Y): name others with --logits, or '
                '--logits none'
            )
        return response_map(self.model, logits[0].transpose(1, 2) if options.transposed else logits[0])


def _load(text: str, overrides: dict[str, Any], options: CompareOptions) -> _Compared:
    title, path, checkpoint = split_model(text)
    config = load_config(path, overrides)
    # Building the data set sets the scope of the config's registries.
    dataset = build_dataset(config, 'test')
    model = MODELS.build(config.model)
    check_model_and_data(model, dataset, 'test_dataloader')
    check_trained_classes(load_weights(model, checkpoint), dataset.metainfo, checkpoint)
    device = torch.device(options.device or ('cuda' if torch.cuda.is_available() else 'cpu'))
    model = model.to(device).eval()
    tap = options.logits or response_tap(model)
    return _Compared(title, dataset, model, TapSet(model, [] if tap in (None, _NO_LOGITS) else [tap]))
