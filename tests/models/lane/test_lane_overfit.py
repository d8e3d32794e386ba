"""The config that overfits the real frames of TuSimple lowers its loss in a few steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.dataset import pseudo_collate
from shipped import config_path

from perception3d.apis.config import load_config
from perception3d.formats.tusimple.info import create_infos
from perception3d.registry import DATASETS, MODELS


def test_a_few_steps_lower_the_loss_of_real_frames(samples_of: Callable[[str], Path], tmp_path: Path):
    for entry in samples_of('tusimple').iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    create_infos(tmp_path, jobs=1, progress=False)
    config = load_config(config_path('enet_tiny_96x256_overfit_sample'), {'data_root': str(tmp_path)})
    dataset = DATASETS.build(config.train_dataloader.dataset.dataset)
    batch = pseudo_collate([dataset[k] for k in range(2)])
    torch.manual_seed(0)
    model = MODELS.build(config.model).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    totals = []
    for _ in range(8):
        losses = model(**model.data_preprocessor(batch, True), mode='loss')
        totals.append(float(sum(losses.values())))
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    assert totals[-1] < 0.8 * totals[0], totals
    held = DATASETS.build(config.test_dataloader.dataset)
    with torch.no_grad():
        (sample,) = model.eval().test_step(pseudo_collate([held[0]]))
    assert sample.pred_lanes is not None and len(sample.gt_lanes) >= 4
