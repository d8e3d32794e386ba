"""What tools/compare.py does: several detectors on the same samples, in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from torch import nn

from perception3d.apis.browse import build_dataset
from perception3d.apis.config import load_config
from perception3d.checkpoints import load_weights
from perception3d.checks import InputError
from perception3d.distill.tap import TapSet
from perception3d.files import write_image
from perception3d.registry import MODELS
from perception3d.visualization.compare import Answer, draw_comparison
from perception3d.visualization.sample import box_set, boxes_of


def compare(
    models: Sequence[str],
    indices: Sequence[int],
    out: str | Path,
    options: dict[str, Any] | None = None,
    logits: str = 'bbox_head[0]',
    transposed: bool = False,
    score_thr: float = 0.25,
    device: str | None = None,
) -> list[Path]:
    """Draws what detectors find in samples of their test data, and their class responses; returns the pictures.

    Args:
        models: TITLE=CONFIG,CHECKPOINT of each detector. The sample is that of each one's own test data, which may
            differ in the size of images, not in the scenes.
        indices: samples of the test data.
        out: folder for the pictures.
        options: changes to every config.
        logits: tap of the class logits (B, K, X, Y).
        transposed: the logits are (B, K, Y, X), as those of Fast-BEV's own head.
        score_thr: lowest score of a box that is drawn.
        device: 'cpu', 'cuda', ...; a GPU by default if there is one.

    Raises:
        InputError: a model is not of that form or does not load, a sample does not exist, or the models see others.
    """
    place = torch.device(device or ('cuda' if torch.cuda.is_available() else 'cpu'))
    loaded = [_load(text, options or {}, logits, place) for text in models]
    written = []
    for index in indices:
        answers, tokens, truth = [], set(), None
        for title, config, model, taps in loaded:
            dataset = build_dataset(config, 'test')
            if not 0 <= index < len(dataset):
                raise InputError(f'there is no sample {index}: the test data of {title} has 0 to {len(dataset) - 1}')
            info = dataset.get_data_info(index)
            tokens.add(info.get('token'))
            annotations = info.get('eval_ann_info') or info.get('ann_info')
            if annotations:
                truth = box_set(annotations['gt_bboxes_3d'], annotations['gt_labels_3d'])
            answers.append(_answer(title, model, taps, dataset[index], transposed, score_thr))
            classes = dataset.metainfo['classes']
        if len(tokens) > 1:
            raise InputError(f'sample {index} is another one for each model: their test data must be the same')
        path = Path(out) / f'compare_{index:04d}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        reach = max(abs(edge) for answer in answers for edge in answer.range_m)
        write_image(path, draw_comparison(answers, classes, truth, reach))
        written.append(path)
    return written


def _load(
    text: str, options: dict[str, Any], logits: str, device: torch.device
) -> tuple[str, Config, nn.Module, TapSet]:
    title, found, files = text.partition('=')
    path, comma, checkpoint = files.rpartition(',')
    if not found or not comma:
        raise InputError(f'{text!r}: expected TITLE=CONFIG,CHECKPOINT')
    config = load_config(path, options)
    # Building the data set sets the scope of the config's registries.
    build_dataset(config, 'test')
    model = MODELS.build(config.model)
    load_weights(model, checkpoint)
    model = model.to(device).eval()
    return title, config, model, TapSet(model, [logits])


@torch.no_grad()
def _answer(title: str, model: nn.Module, taps: TapSet, sample: Any, transposed: bool, score_thr: float) -> Answer:
    with taps.record() as records:
        result = model.test_step(pseudo_collate([sample]))[0]
    logits = next(iter(records.values()))
    response = logits[0].float().amax(0).sigmoid().cpu().numpy()
    boxes = boxes_of(result.pred_instances_3d, score_thr)
    return Answer(title, boxes, response.T if transposed else response, _range_of(model))


def _range_of(model: nn.Module) -> tuple[float, float, float, float]:
    """The metres (x0, y0, x1, y1) that the map of a detector covers."""
    head = getattr(model, 'bbox_head', None)
    # A range of six bounds belongs to a head of object queries, whose logits are no map.
    if len(getattr(head, 'range_m', ())) == 4:
        return tuple(head.range_m)
    if hasattr(model, 'view_transforms'):
        low, high = np.split(np.asarray(model.view_transforms[0].grid.range_m, float), 2)
        return low[0], low[1], high[0], high[1]
    raise InputError(
        f'{type(model).__name__} cannot be compared: only class logits on a map can be drawn, and neither its head nor '
        'its grid has the range_m of one'
    )
