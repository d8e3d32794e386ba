"""PVD between two Cylinder3Ds, one of half the width, in the built-in world.

The student of all rows is the same network with the same schedule, data order and seeds; weights are averaged. `longer`
trains without a teacher for the time that a distillation takes. One teacher serves all seeds.
`point_voxel_distillation_ablation.py` has the parts and the compared methods, `range_point_distillation.py` a student
on range images.
"""

name = 'point_voxel_distillation'
seeds = (0, 1, 2, 3, 4)
metrics = (
    'semantickitti/miou',
    'semantickitti/miou/rare',
    'semantickitti/30-m/miou',
    'semantickitti/accuracy',
)
scale = 100.0
prepare = [
    ['tools/simulate.py', 'semantickitti', '--out', '{out}/data', '--profile', 'points'],
    ['tools/create_data.py', 'semantickitti', '--root', '{out}/data'],
]
options = {'data_root': '{out}/data', 'max_epochs': 4}
baseline = 'longer'

TEACHER = '../cylinder3d/cylinder3d_tiny_120x90x16_12e_semantickitti_sim.py'
STUDENT = '../cylinder3d/cylinder3d_tiny_half_120x90x16_12e_semantickitti_sim.py'
DISTILLED = '../pvd/pvd_tiny_half_120x90x16_12e_semantickitti_sim.py'


def _distilled(config=DISTILLED, **options):
    return dict(
        config=config,
        options={'model.teacher_checkpoint': '{teacher}', **options},
        test_config=STUDENT,
    )


arms = {
    'teacher': dict(config=TEACHER, options={'max_epochs': 8}, seeds=(0,), baseline=None),
    'student': dict(config=STUDENT),
    # A step of the distillation takes as long as 1.7 steps of the student.
    'longer': dict(config=STUDENT, options={'max_epochs': 7}, baseline=None),
    'all': _distilled(**{'model.inherit': False}),
    'all-inherit': _distilled(),
}
