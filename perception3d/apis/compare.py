"""What tools/compare.py does: several detectors on the same samples, in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from torch import Tensor, nn

from perception3d.apis.browse import build_dataset
from perception3d.apis.config import load_config
from perception3d.checkpoints import load_weights
from perception3d.checks import InputError
from perception3d.distill.tap import TapSet
from perception3d.engine.agreement import check_model_and_data, check_trained_classes
from perception3d.files import write_image
from perception3d.outputs import check_outputs
from perception3d.registry import MODELS
from perception3d.visualization.compare import Answer, draw_comparison
from perception3d.visualization.sample import box_set, boxes_of, ground_of


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
        logits: tap of the class logits (B, K, X, Y), or of a list that holds them alone.
        transposed: the logits are (B, K, Y, X), as those of Fast-BEV's own head; those of LiDAR detectors always are.
        score_thr: lowest score of a box that is drawn.
        device: 'cpu', 'cuda', ...; a GPU by default if there is one.

    Raises:
        InputError: a model is not of that form or does not load, a sample does not exist, or the models see others.
    """
    check_outputs(folders=[out])
    place = torch.device(device or ('cuda' if torch.cuda.is_available() else 'cpu'))
    loaded = [_load(text, options or {}, logits, place) for text in models]
    written = []
    for index in indices:
        answers, tokens, truth, grounds = [], set(), None, []
        for title, config, model, taps in loaded:
            dataset = build_dataset(config, 'test')
            if not 0 <= index < len(dataset):
                raise InputError(f'there is no sample {index}: the test data of {title} has 0 to {len(dataset) - 1}')
            info = dataset.get_data_info(index)
            tokens.add(info.get('token'))
            annotations = info.get('eval_ann_info') or info.get('ann_info')
            if annotations:
                truth = box_set(annotations['gt_bboxes_3d'], annotations['gt_labels_3d'])
            answer, metas = _answer(title, model, taps, dataset[index], transposed, score_thr)
            answers.append(answer)
            grounds.append(ground_of(metas))
            classes = dataset.metainfo['classes']
        if len(tokens) > 1:
            raise InputError(f'sample {index} is another one for each model: their test data must be the same')
        path = Path(out) / f'compare_{index:04d}.png'
        write_image(path, draw_comparison(answers, classes, truth, grounds[0]))
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
    dataset = build_dataset(config, 'test')
    model = MODELS.build(config.model)
    check_model_and_data(model, dataset, 'test_dataloader')
    check_trained_classes(load_weights(model, checkpoint), dataset.metainfo, checkpoint)
    model = model.to(device).eval()
    return title, config, model, TapSet(model, [logits])


@torch.no_grad()
def _answer(
    title: str, model: nn.Module, taps: TapSet, sample: Any, transposed: bool, score_thr: float
) -> tuple[Answer, dict[str, Any]]:
    """Returns what a detector says of a sample, and the metas of the sample."""
    with taps.record() as records:
        result = model.test_step(pseudo_collate([sample]))[0]
    tap, logits = next(iter(records.items()))
    # The heads of mmdet3d answer with a list of levels.
    if isinstance(logits, (list, tuple)) and len(logits) == 1:
        logits = logits[0]
    if not isinstance(logits, Tensor) or logits.ndim != 4:
        raise InputError(f'{title}: the tap {tap!r} holds no class logits (B, K, X, Y): name others with --logits')
    response = logits[0].float().amax(0).sigmoid().cpu().numpy()
    range_m, rows_are_y = _map_of(model)
    response = response.T if transposed or rows_are_y else response
    boxes = boxes_of(result.pred_instances_3d, score_thr)
    return Answer(title, boxes, response, range_m), result.metainfo


def _map_of(model: nn.Module) -> tuple[tuple[float, float, float, float], bool]:
    """The metres (x0, y0, x1, y1) that the map of a detector covers, and whether its maps always are (Y, X)."""
    head = getattr(model, 'bbox_head', None)
    # A range of six bounds belongs to a head of object queries, whose logits are no map.
    if len(getattr(head, 'range_m', ())) == 4:
        return tuple(head.range_m), False
    if hasattr(model, 'view_transforms'):
        low, high = np.split(np.asarray(model.view_transforms[0].grid.range_m, float), 2)
        return (low[0], low[1], high[0], high[1]), False
    voxels = getattr(getattr(model, 'data_preprocessor', None), 'voxel_layer', None)
    if voxels is not None:
        x0, y0, _, x1, y1, _ = map(float, voxels.point_cloud_range)
        return (x0, y0, x1, y1), True
    raise InputError(
        f'{type(model).__name__} cannot be compared: only class logits on a map can be drawn, and none of its head, '
        'grid and voxels has the range of one'
    )
