"""One of two processes in a test of the metric; a module of its own, since a child imports the whole of it."""

from __future__ import annotations

import json
import os
from pathlib import Path


def score_share(rank: int, port: int, root: str, folder: str) -> None:
    """Scores every second sample of `samples.pt`, as a distributed sampler deals; the first process reports."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2', MASTER_ADDR='127.0.0.1')
    os.environ['MASTER_PORT'] = str(port)
    import torch

    from perception3d.engine.distributed import start_processes
    from perception3d.formats.nuscenes.dataset import MultiFrameNuScenesDataset
    from perception3d.formats.nuscenes.evaluation.metric import NuScenesDetectionMetric

    start_processes('pytorch')
    samples = torch.load(Path(folder) / 'samples.pt', weights_only=False)
    # A sampler pads the last round with samples from the start.
    share = (samples + samples[: len(samples) % 2])[rank::2]
    metric = NuScenesDetectionMetric(root)
    metric.dataset_meta = dict(classes=MultiFrameNuScenesDataset.METAINFO['classes'], version='v1.0-hand')
    metric.process({}, share)
    scores = metric.evaluate(len(samples))
    if rank == 0:
        (Path(folder) / 'scores.json').write_text(json.dumps(scores))
