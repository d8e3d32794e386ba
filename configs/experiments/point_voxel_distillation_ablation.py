"""The parts of PVD, and the methods that it is compared with, on the pair of `point_voxel_distillation.py`.

The same world, networks, schedule and data order. All students start from inherited weights, and `inherit` has no link:
it is what the others are compared with. Links weigh a fifth of what they do in `point_voxel_distillation.py`: of one
seed the full weight took 1.8 mIoU, this one nothing.
"""

import runpy
from pathlib import Path

_main = runpy.run_path(str(Path(__file__).with_name('point_voxel_distillation.py')))

name = 'point_voxel_distillation_ablation'
seeds = (0, 1)
metrics, scale, prepare, options = (_main[key] for key in ('metrics', 'scale', 'prepare', 'options'))
baseline = 'inherit'
_distilled, _arms = _main['_distilled'], _main['arms']
LINKS = ('point_output', 'voxel_output', 'point_affinity', 'voxel_affinity')
WEIGHT = {'link_match': 0.2}


def _with(*links):
    """PVD with some of its links alone."""
    switches = {f'model.links.{link}.weight': 0.0 for link in LINKS if link not in links}
    return _distilled(**WEIGHT, **switches)


def _compared(method):
    return _distilled(f'../pvd/pvd_tiny_half_{method}_120x90x16_12e_semantickitti_sim.py', **WEIGHT)


arms = {
    'teacher': _arms['teacher'],
    'inherit': _with(),
    'point-output': _with('point_output'),
    'voxel-output': _with('voxel_output'),
    'affinities': _with('point_affinity', 'voxel_affinity'),
    'all': dict(**_with(*LINKS), seeds=(0,)),
    'logits': _compared('logits'),
    'channel-wise': _compared('channels'),
    'ifv': _compared('variation'),
    'skd': _compared('structure'),
    'ka': _compared('code'),
    'gradients': _compared('gradients'),
}
