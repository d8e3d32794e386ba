"""What tools/compare.py does: several detectors on the same samples, in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.dataset import pseudo_collate

from perception3d.apis.browse import build_dataset
from perception3d.apis.config import load_config
from perception3d.checkpoints import load_weights
from perception3d.checks import InputError
from perception3d.distill.tap import TapSet
from perception3d.engine.agreement import check_model_and_data, check_trained_classes
from perception3d.files import write_image
from perception3d.models.lidar_det.response import response_map
from perception3d.outputs import check_outputs
from perception3d.registry import MODELS
from perception3d.structures.base import Structure
from perception3d.structures.frame import LidarAxes
from perception3d.structures.sample import resolve, structures_of
from perception3d.visualization.compare import Detection, draw_comparison
from perception3d.visualization.sample import axes_of


@dataclass(frozen=True)
class CompareOptions:
    """How detectors are compared.

    Attributes:
        logits: tap of the class logits (B, K, X, Y), or of a list with these as its one entry.
        transposed: the logits are (B, K, Y, X), as those of Fast-BEV's own head. LiDAR detectors need no setting: their
            models know the order of their axes.
        score_thr: boxes with lower scores are not drawn.
        device: 'cpu', 'cuda', ...; a GPU by default if there is one.
    """

    logits: str = 'bbox_head[0]'
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
    """Draws the predictions and BEV class-score maps of detectors for samples of their test data; returns the pictures.

    Args:
        models: TITLE=CONFIG,CHECKPOINT of each detector. Each one reads its own test data, which may differ in the
            size of images, not in the scenes.
        indices: samples of the test data.
        out: folder for the pictures.
        overrides: changes to every config.
        options: what is drawn.

    Raises:
        InputError: a model is not of that form or does not load, a sample does not exist or differs between the models.
    """
    check_outputs(folders=[out])
    options = options or CompareOptions()
    detectors = [_load(text, overrides or {}, options) for text in models]
    written = []
    for index in indices:
        for detector in detectors:
            detector.require_sample(index)
        infos = [detector.dataset.get_data_info(index) for detector in detectors]
        if len({info.get('token') for info in infos}) > 1:
            raise InputError(f'sample {index} differs between the models: their test data must be the same')
        # A data set may have no annotations; those of the last one that has some are drawn.
        truths = [detector.ground_truth(info) for detector, info in zip(detectors, infos)]
        truth = next((one for one in reversed(truths) if one is not None), None)
        results = [detector.detect(index, options) for detector in detectors]
        path = Path(out) / f'compare_{index:04d}.png'
        write_image(path, draw_comparison([detection for detection, _ in results], truth, results[0][1]))
        written.append(path)
    return written


@dataclass(frozen=True)
class _Detector:
    """A model with its weights and its test data."""

    title: str
    dataset: Any
    model: Any
    taps: TapSet

    def require_sample(self, index: int) -> None:
        """Raises InputError where the test data has no such sample."""
        count = len(self.dataset)
        if not 0 <= index < count:
            raise InputError(f'there is no sample {index}: the test data of {self.title} has 0 to {count - 1}')

    def ground_truth(self, info: Any) -> tuple[Structure, ...] | None:
        """Returns the annotations of a sample, not augmented."""
        return resolve(structures_of(info).ground_truth, self.dataset.metainfo['classes'])

    @torch.no_grad()
    def detect(self, index: int, options: CompareOptions) -> tuple[Detection, LidarAxes]:
        """Returns the predictions for a sample, and the axes of its LiDAR frame."""
        with self.taps.record() as records:
            result = self.model.test_step(pseudo_collate([self.dataset[index]]))[0]
        tap, logits = next(iter(records.items()))
        # The heads of mmdet3d give a list of levels.
        if isinstance(logits, (list, tuple)) and len(logits) == 1:
            logits = logits[0]
        if getattr(logits, 'ndim', 0) != 4:
            raise InputError(
                f'{self.title}: the tap {tap!r} holds no class logits (B, K, X, Y): name others with --logits'
            )
        first = logits[0].transpose(1, 2) if options.transposed else logits[0]
        predictions = resolve(structures_of(result).predictions, self.dataset.metainfo['classes'], options.score_thr)
        detection = Detection(self.title, predictions or (), response_map(self.model, first))
        return detection, axes_of(result.metainfo)


def _load(text: str, overrides: dict[str, Any], options: CompareOptions) -> _Detector:
    title, equals, files = text.partition('=')
    path, comma, checkpoint = files.rpartition(',')
    if not equals or not comma:
        raise InputError(f'{text!r}: expected TITLE=CONFIG,CHECKPOINT')
    config = load_config(path, overrides)
    # Building the data set sets the scope of the config's registries.
    dataset = build_dataset(config, 'test')
    model = MODELS.build(config.model)
    check_model_and_data(model, dataset, 'test_dataloader')
    check_trained_classes(load_weights(model, checkpoint), dataset.metainfo, checkpoint)
    device = torch.device(options.device or ('cuda' if torch.cuda.is_available() else 'cpu'))
    model = model.to(device).eval()
    return _Detector(title, dataset, model, TapSet(model, [options.logits]))
