"""Small networks and batches for the tests of distillation."""

from __future__ import annotations

import gc

import torch
from mmengine.logging import MessageHub
from mmengine.model import BaseDataPreprocessor, BaseModel
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from perception3d.registry import MODELS


@MODELS.register_module(force=True)
class MeanGap(nn.Module):
    """Mean squared gap; further taps of the teacher may be named. `last` is the context of the last call."""

    last = None

    def __init__(self, also=()):
        super().__init__()
        self.teacher_taps = tuple(also)

    def forward(self, student, teacher, context):
        MeanGap.last = context
        return (student - teacher).square().mean()


class Net(BaseModel):
    """Two convolutions and a head that counts its calls; the loss is the mean square of the head's output."""

    def __init__(self, width=4, checkpointing=None, inplace=False):
        super().__init__(BaseDataPreprocessor())
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=inplace)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.head = Head(width)
        self.checkpointing = checkpointing

    def features(self, x):
        return self.second(self.relu(self.norm(self.first(x))))

    def forward(self, inputs, data_samples=None, mode='tensor', **kwargs):
        if self.checkpointing is None:
            maps = self.features(inputs)
        else:
            maps = checkpoint(self.features, inputs, use_reentrant=self.checkpointing)
        heat, boxes = self.head(maps)
        if mode == 'loss':
            return {'loss_heat': heat.square().mean(), 'loss_boxes': boxes.square().mean(), 'recall': heat.mean()}
        return [heat] if mode == 'predict' else (heat, boxes)


@MODELS.register_module(force=True)
class SeededNet(Net):
    """A net whose `init_weights` draws once more, as backbones of mmdet do."""

    def init_weights(self):
        nn.init.normal_(self.first.weight)


class Head(nn.Module):
    """Two maps from one."""

    def __init__(self, width):
        super().__init__()
        self.heat, self.boxes = nn.Conv2d(width, 2, 1), nn.Conv2d(width, 3, 1)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return F.relu(self.heat(x)), self.boxes(x)


def net(seed, **settings):
    torch.manual_seed(seed)
    return Net(**settings)


def images(seed=0, count=4):
    return torch.randn(count, 3, 6, 5, generator=torch.Generator().manual_seed(seed))


def gap(tap='second', teacher=None, **settings):
    """Arguments of a link with the plain loss."""
    return dict(student=tap, teacher=teacher or tap, loss=dict(type=MeanGap), **settings)


def in_a_group_of_one(folder, work):
    """Calls work() in a process group of this process alone; wrappers for several processes must be deleted with it.

    The last wrapper that references the group would destroy it while it holds Python's lock, for which a thread of gloo
    may wait at that moment (1 time in 250): a deadlock.
    """
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/store', rank=0, world_size=1)
    try:
        return work()
    finally:
        gc.collect()
        torch.distributed.destroy_process_group()


def gradients_of_a_share(rank, world_size, port, path):
    """Gradients of one distillation step on every `world_size`-th image, written by the first process."""
    import os

    from perception3d.distill.adapter import ConvAdapter
    from perception3d.distill.distiller import Distiller

    torch.manual_seed(0)
    adapter = dict(type=ConvAdapter, in_channels=4, out_channels=4)
    links = dict(
        maps=gap(adapter=adapter, match=0.5, match_steps=3),
        heat=gap('head[0]', weight=2.0),
        late=gap(adapter=adapter, start=100),
        seldom=gap(adapter=adapter, every=2),
        often=gap('head[1]', every=3),
    )
    # Iteration 3: of the last two links, the one with every=3 is active with three times the weight, the other is not.
    MessageHub.get_current_instance().update_info('iter', 3)
    model = Distiller(net(0), links, teacher=net(1)).double()
    model.teacher.double()
    # Batch statistics of half a batch are those of half a batch.
    model.student.norm.eval()
    if world_size > 1:
        torch.set_num_threads(1)
        os.environ.update(
            RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world_size), MASTER_ADDR='127.0.0.1', MASTER_PORT=port
        )
        from mmengine.model import MMDistributedDataParallel

        from perception3d.engine.distributed import start_processes

        start_processes('pytorch')
        model = MMDistributedDataParallel(module=model, broadcast_buffers=False)
    losses = model(images()[rank::world_size].double(), [], mode='loss')
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    if rank == 0:
        torch.save({name.removeprefix('module.'): p.grad for name, p in model.named_parameters()}, path)
