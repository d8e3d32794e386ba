"""One of two processes in a test of the LiDAR metrics; a module of its own, since a child imports the whole of it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

CLASSES = ('Pedestrian', 'Cyclist', 'Car')


def score_both(samples: list[dict[str, Any]], gt_dir: str, result_dir: str, size: int) -> dict[str, dict[str, float]]:
    """Scores by KITTI's rules and in the LiDAR frame; `samples` are those of this process, of `size` in all."""
    from perception3d.formats.custom_boxes.evaluation.metric import LidarDetectionMetric
    from perception3d.formats.kitti.evaluation.metric import KittiFrameMetric

    metrics = [
        KittiFrameMetric(gt_dir=gt_dir, format_dir=result_dir),
        LidarDetectionMetric(range_bins_m=[(0, 20), (20, None)]),
    ]
    scores = {}
    for metric in metrics:
        metric.dataset_meta = dict(classes=CLASSES)
        for start in range(0, len(samples), 2):
            metric.process({}, samples[start : start + 2])
        scores[metric.prefix] = metric.evaluate(size)
    return scores


def score_lidar_shares(rank: int, port: int, folder: str) -> None:
    """Scores every second sample of `samples.pt`, as a distributed sampler deals; writes the scores that it gets."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2', MASTER_ADDR='127.0.0.1')
    os.environ['MASTER_PORT'] = str(port)
    import torch

    from perception3d.engine.distributed import start_processes

    torch.set_num_threads(1)
    start_processes('pytorch')
    place = Path(folder)
    samples = torch.load(place / 'samples.pt', weights_only=False)
    # A sampler pads the last round with samples from the start.
    share = (samples + samples[: len(samples) % 2])[rank::2]
    scores = score_both(share, str(place / 'gt'), str(place / 'two'), len(samples))
    (place / f'scores_{rank}.json').write_text(json.dumps(scores))
