"""Gradients and entropies of SAD by the normalisation of its maps, on a small ENet and a batch of the built-in world.

For `docs/results/lane_sad_norms.md`: `python tests/distill/sad_norms.py DATA [--checkpoint FILE] [--seed N]`, where
DATA is a CULane tree of the built-in world with info files.
"""

from __future__ import annotations

import argparse

import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope

from perception3d.apis.config import load_config
from perception3d.checkpoints import load_weights
from perception3d.distill.losses.self_attention import NORMS, attention_map, relative_entropy, self_attention_loss
from perception3d.distill.tap import TapSet
from perception3d.registry import DATASETS, MODELS

CONFIG = 'enet_tiny_56x256_10e_culane_sim'
PAIRS = (('stage2', 'stage3'), ('stage3', 'stage4'))
WEIGHT = 0.1


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('data', help='a CULane tree of the built-in world')
    parser.add_argument('--checkpoint', help='of the small ENet; random weights by default')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    config = load_config(CONFIG, {'data_root': args.data})
    init_default_scope('mmdet3d')
    torch.manual_seed(args.seed)
    model = MODELS.build(config.model)
    model.init_weights()
    if args.checkpoint:
        load_weights(model, args.checkpoint)
    images = DATASETS.build({**config.train_dataloader.dataset, 'test_mode': True})
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(args.seed))[:8].tolist()
    data = model.train().data_preprocessor(pseudo_collate([images[k] for k in chosen]), True)
    with TapSet(model, [*PAIRS[0], PAIRS[1][1]]).record() as taps:
        task, _ = model.parse_losses(model(**data, mode='loss'))
    print('pair, norm, loss, gradient, entropy, entropy of the target, weighted gradient / own gradient')
    for shallow, deep in PAIRS:
        features, target = taps[shallow], taps[deep].detach()
        (own,) = torch.autograd.grad(task, features, retain_graph=True)
        size = features.shape[2], features.shape[3]
        for norm in NORMS:
            loss = self_attention_loss(features, target, norm=norm)
            (gradient,) = torch.autograd.grad(loss, features, retain_graph=True)
            entropies = [float(relative_entropy(attention_map(x, size, norm=norm))) for x in (features, target)]
            share = WEIGHT * gradient.norm() / own.norm()
            print(f'{shallow}-{deep} {norm:<9}{loss:10.2e}{gradient.norm():10.2e}', *(f'{e:7.3f}' for e in entropies),
                  f'{share:10.1e}')  # fmt: skip


if __name__ == '__main__':
    main()
