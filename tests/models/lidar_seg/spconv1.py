"""The released Cylinder3D on an emulation of spconv 1: convolutions of one key run on the pairs of the first of them.

Plain Python loops over dicts of sites. spconv 1 does not compare kernels: it runs over the positions of the pairs, and
position j takes entry j of the flattened weight (k0, k1, k2, in, out).
"""

from __future__ import annotations

import itertools

import torch
from torch.nn import functional as F

ACROSS_PHI, ACROSS_RHO = (1, 3, 3), (3, 1, 3)


class Spconv1:
    """Runs convolutions on the sites of one batch and keeps pairs by key."""

    def __init__(self, state):
        self.state = state
        self.pairs = {}

    def _subm_pairs(self, sites, kernel):
        number = {site: i for i, site in enumerate(sites)}
        pairs = []
        for offset in itertools.product(*(range(-(k // 2), k // 2 + 1) for k in kernel)):
            near = [(number.get((b, *(p + d for p, d in zip(place, offset)))), i)
                    for i, (b, *place) in enumerate(sites)]  # fmt: skip
            pairs.append([(source, target) for source, target in near if source is not None])
        return pairs

    def _strided_pairs(self, sites, shape, stride):
        size = [(n + 2 - 3) // s + 1 for n, s in zip(shape, stride)]
        number, pairs = {}, []
        for offset in itertools.product(range(3), repeat=3):
            found = []
            for i, (b, *place) in enumerate(sites):
                steps = [p + 1 - d for p, d in zip(place, offset)]
                out = [step // s for step, s in zip(steps, stride)]
                if all(step % s == 0 and 0 <= o < n for step, s, o, n in zip(steps, stride, out, size)):
                    found.append((i, number.setdefault((b, *out), len(number))))
            pairs.append(found)
        return pairs, list(number), size

    def _add_up(self, features, name, pairs, count):
        weight = self.state[f'{name}.weight']
        weight = weight.reshape(-1, *weight.shape[3:])
        out = features.new_zeros(count, weight.shape[2])
        for j, found in enumerate(pairs):
            if found:
                source, target = (torch.tensor(side) for side in zip(*found))
                out.index_add_(0, target, features[source] @ weight[j])
        return out

    def subm(self, features, sites, name, kernel, key):
        """A submanifold convolution with this kernel, or that of the first one with its key."""
        if key not in self.pairs:
            self.pairs[key] = self._subm_pairs(sites, kernel)
        return self._add_up(features, name, self.pairs[key], len(sites))

    def strided(self, features, sites, shape, name, stride, key):
        """Features, sites and shape of the next level."""
        pairs, out_sites, size = self._strided_pairs(sites, shape, stride)
        self.pairs[key] = pairs
        return self._add_up(features, name, pairs, len(out_sites)), out_sites, size

    def inverse(self, features, count, name, key):
        """Features of the sites before the strided convolution with this key."""
        swapped = [[(target, source) for source, target in found] for found in self.pairs[key]]
        return self._add_up(features, name, swapped, count)

    def norm(self, x, name):
        """Batch norm by its running averages."""
        get = [self.state[f'{name}.{part}'] for part in ('running_mean', 'running_var', 'weight', 'bias')]
        return F.batch_norm(x, *get, training=False, eps=1e-5)

    def linear(self, x, name):
        """A linear layer."""
        return F.linear(x, self.state[f'{name}.weight'], self.state[f'{name}.bias'])


def released_forward(state, voxels):
    """Logits (M, outputs) of the released network with the weights `state`, from the features of points."""
    run, sites = Spconv1(state), [tuple(site) for site in voxels.coords.tolist()]
    x = voxels.features.double()
    points = 'cylinder_3d_generator.PPmodel'
    x = run.norm(x, f'{points}.0')
    for k in (1, 4, 7):
        x = F.relu(run.norm(run.linear(x, f'{points}.{k}'), f'{points}.{k + 1}'))
    x = run.linear(x, f'{points}.10')
    x = torch.stack([x[voxels.point_to_voxel == row].amax(0) for row in range(len(sites))])
    x = F.relu(run.linear(x, 'cylinder_3d_generator.fea_compression.0'))

    def step(x, sites, block, conv, norm, kernel, key):
        name = f'cylinder_3d_spconv_seg.{block}'
        x = F.leaky_relu(run.subm(x, sites, f'{name}.{conv}', kernel, key))
        return run.norm(x, f'{name}.{norm}')

    def branches(x, sites, block, key, one, two):
        a = step(x, sites, block, 'conv1', 'bn0', one, key)
        a = step(a, sites, block, 'conv1_2', 'bn0_2', two, key)
        b = step(x, sites, block, 'conv2', 'bn1', two, key)
        return a + step(b, sites, block, 'conv3', 'bn2', one, key)

    x = branches(x, sites, 'downCntx', 'prebef', ACROSS_PHI, ACROSS_RHO)
    shape, levels = list(voxels.grid_shape), []
    for k, stride in zip(range(2, 6), ((2, 2, 2), (2, 2, 2), (2, 2, 1), (2, 2, 1))):
        skip = branches(x, sites, f'resBlock{k}', f'down{k}bef', ACROSS_RHO, ACROSS_PHI)
        levels.append((skip, sites))
        name = f'cylinder_3d_spconv_seg.resBlock{k}.pool'
        x, sites, shape = run.strided(skip, sites, shape, name, stride, f'down{k}')
    for k in range(4):
        block, (skip, finer) = f'upBlock{k}', levels.pop()
        x = step(x, sites, block, 'trans_dilao', 'trans_bn', (3, 3, 3), f'up{k}new_up')
        x = run.inverse(x, len(finer), f'cylinder_3d_spconv_seg.{block}.up_subm', f'down{5 - k}') + skip
        sites = finer
        for n, kernel in ((1, ACROSS_PHI), (2, ACROSS_RHO), (3, (3, 3, 3))):
            x = step(x, sites, block, f'conv{n}', f'bn{n}', kernel, f'up{k}')
    gates, name = 0, 'cylinder_3d_spconv_seg.ReconNet'
    for conv, norm, kernel in (('conv1', 'bn0', (3, 1, 1)), ('conv1_2', 'bn0_2', (1, 3, 1)),
                               ('conv1_3', 'bn0_3', (1, 1, 3))):  # fmt: skip
        gates = gates + torch.sigmoid(run.norm(run.subm(x, sites, f'{name}.{conv}', kernel, 'recon'), f'{name}.{norm}'))
    x = torch.cat([gates * x, x], 1)
    name = 'cylinder_3d_spconv_seg.logits'
    return run.subm(x, sites, name, (3, 3, 3), 'logit') + state[f'{name}.bias']


def released_state(width=2, points=(9, 8), compressed=3, outputs=5, seed=0):
    """Random weights of the released network, under its names and in its layout, float64."""
    generator = torch.Generator().manual_seed(seed)
    state = {}

    def fill(name, *shape):
        state[name] = torch.randn(*shape, generator=generator, dtype=torch.float64) * shape[-1] ** -0.5

    def norm(name, channels):
        for part in ('weight', 'running_var'):
            state[f'{name}.{part}'] = 0.5 + torch.rand(channels, generator=generator, dtype=torch.float64)
        for part in ('bias', 'running_mean'):
            fill(f'{name}.{part}', channels)

    def linear(name, inputs, outs):
        fill(f'{name}.weight', outs, inputs)
        fill(f'{name}.bias', outs)

    name = 'cylinder_3d_generator.PPmodel'
    norm(f'{name}.0', points[0])
    for k, (a, b) in zip((1, 4, 7), ((points[0], 64), (64, 128), (128, 256))):
        linear(f'{name}.{k}', a, b)
        norm(f'{name}.{k + 1}', b)
    linear(f'{name}.10', 256, points[1])
    linear('cylinder_3d_generator.fea_compression.0', points[1], compressed)
    seg, w = 'cylinder_3d_spconv_seg', width
    blocks = [('downCntx', compressed, w, ACROSS_PHI, ACROSS_RHO)]
    blocks += [(f'resBlock{k}', w * 2 ** (k - 2), w * 2 ** (k - 1), ACROSS_RHO, ACROSS_PHI) for k in range(2, 6)]
    for block, a, b, one, two in blocks:
        for conv, channels, kernel in (('conv1', a, one), ('conv1_2', b, two), ('conv2', a, two), ('conv3', b, one)):
            fill(f'{seg}.{block}.{conv}.weight', *kernel, channels, b)
        for part in ('bn0', 'bn0_2', 'bn1', 'bn2'):
            norm(f'{seg}.{block}.{part}', b)
        if block != 'downCntx':
            fill(f'{seg}.{block}.pool.weight', 3, 3, 3, b, b)
    for k, (a, b) in enumerate(((16, 16), (16, 8), (8, 4), (4, 2))):
        block, a, b = f'{seg}.upBlock{k}', a * w, b * w
        fill(f'{block}.trans_dilao.weight', 3, 3, 3, a, b)
        fill(f'{block}.up_subm.weight', 3, 3, 3, b, b)
        for n, kernel in ((1, ACROSS_PHI), (2, ACROSS_RHO), (3, (3, 3, 3))):
            fill(f'{block}.conv{n}.weight', *kernel, b, b)
            norm(f'{block}.bn{n}', b)
        norm(f'{block}.trans_bn', b)
    for conv, part, kernel in (('conv1', 'bn0', (3, 1, 1)), ('conv1_2', 'bn0_2', (1, 3, 1)),
                               ('conv1_3', 'bn0_3', (1, 1, 3))):  # fmt: skip
        fill(f'{seg}.ReconNet.{conv}.weight', *kernel, 2 * w, 2 * w)
        norm(f'{seg}.ReconNet.{part}', 2 * w)
    fill(f'{seg}.logits.weight', 3, 3, 3, 4 * w, outputs)
    fill(f'{seg}.logits.bias', outputs)
    return state
