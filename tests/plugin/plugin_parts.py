"""A detector and a data set that somebody else wrote: they live outside the package and only the config knows them."""

from __future__ import annotations

import os
import signal

import numpy as np
import torch
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from torch import nn

from perception3d.registry import DATASETS, METRICS, MODELS


@DATASETS.register_module()
class NoisyBlobs(torch.utils.data.Dataset):
    """Blobs at known places, with fresh noise for every draw: the random part that a resume must repeat."""

    METAINFO = {'classes': ('blob',)}

    def __init__(self, length=24, kill_at=None):
        self.length = length
        self.metainfo = self.METAINFO
        self.kill_at = kill_at
        self.draws = 0

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        self.draws += 1
        if self.draws == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        centre = np.array([index % 5, index % 3], np.float32)
        points = centre + np.random.normal(0, 0.3, (16, 2)).astype(np.float32)
        return {'inputs': torch.from_numpy(points), 'data_samples': InstanceData(metainfo={}, centre=[centre])}


@MODELS.register_module()
class BlobDetector(BaseModel):
    """Regresses the centre of a blob; dropout makes it depend on the random state of the iteration as well."""

    def __init__(self, width=16, dropout=0.2):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 2))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        centre = self.net(torch.stack(list(inputs))).mean(1)
        if mode == 'tensor':
            return centre
        target = torch.tensor(np.stack([sample.centre[0] for sample in data_samples]))
        if mode == 'loss':
            return {'loss_centre': nn.functional.mse_loss(centre, target)}
        for sample, value in zip(data_samples, centre):
            sample.pred_centre = [value]
        return data_samples


@METRICS.register_module()
class CentreError:
    """Mean distance between predicted and true centres; a metric needs only the interface of mmengine's BaseMetric."""

    dataset_meta = None

    def __init__(self):
        self.errors = []

    def process(self, data_batch, data_samples):
        self.errors += [
            float(np.linalg.norm(sample['pred_centre'][0].cpu() - sample['centre'][0])) for sample in data_samples
        ]

    def evaluate(self, size):
        errors, self.errors = self.errors[:size], []
        return {'centre_error': float(np.mean(errors))}
