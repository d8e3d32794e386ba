"""PVD between points, from a small Cylinder3D to a RangePointNet, in the built-in world.

The student of all rows is the same network with the same schedule, data order and seeds; weights are averaged. `longer`
trains without a teacher for the time that a distillation takes. `affinities` has PVD's affinities of points too.
`unweighted` and `unweighted-distilled` train without weights of the classes.
"""

import runpy
from pathlib import Path

_main = runpy.run_path(str(Path(__file__).with_name('point_voxel_distillation.py')))

name = 'range_point_distillation'
seeds, metrics, scale, prepare, options = (_main[key] for key in ('seeds', 'metrics', 'scale', 'prepare', 'options'))
options = {**options, 'max_epochs': 7}
baseline = 'longer'

STUDENT = '../range_point/range_point_tiny_64x512_12e_semantickitti_sim.py'


def _distilled(**options):
    return dict(
        config='../range_point/range_point_pvd_tiny_64x512_12e_semantickitti_sim.py',
        options={'model.teacher_checkpoint': '{teacher}', **options},
        test_config=STUDENT,
    )


arms = {
    'teacher': _main['arms']['teacher'],
    'student': dict(config=STUDENT),
    # A step of the distillation takes as long as 1.2 steps of the student.
    'longer': dict(config=STUDENT, options={'max_epochs': 8}, baseline=None),
    'distilled': _distilled(),
    'affinities': dict(**_distilled(**{'model.links.point_affinity.weight': 0.15}), seeds=(0,)),
    'unweighted': dict(config=STUDENT, options={'class_weights': None}, seeds=(0,)),
    'unweighted-distilled': dict(**_distilled(class_weights=None), seeds=(0,)),
}  # fmt: skip
