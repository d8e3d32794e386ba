"""Four general distillation methods on the resolution pair, next to the method of `bev_distillation.py`.

The links of every row are scaled to the student's own loss at first, with the same schedule over time. No row but
`a-b-c` inherits weights; `a-b` is the method without them.
"""

name = 'bev_distillation_rivals'
seeds = (0, 1, 2)
metrics = ('nuscenes/mAP', 'nuscenes/NDS', 'nuscenes/mATE', 'nuscenes/mAOE', 'nuscenes/mAVE', 'nuscenes/AP@2m/car')
scale = 100.0
prepare = [
    ['tools/simulate.py', 'nuscenes', '--out', '{out}/data', '--profile', 'distill'],
    ['tools/create_data.py', 'nuscenes', '--root', '{out}/data'],
]
options = {'data_root': '{out}/data'}
baseline = 'student'

STUDENT = '../fast_bev/fast_bev_tiny_64x224_4e_sim.py'


def _rival(method, **options):
    return dict(
        config=f'../bev_distill/bev_distill_tiny_64x224_{method}4e_sim.py',
        options={'model.teacher_checkpoint': '{teacher}', **options},
        test_config=STUDENT,
    )


arms = {
    'teacher': dict(config='../fast_bev/fast_bev_tiny_96x352_8e_sim.py', seeds=(0,), baseline=None),
    'student': dict(config=STUDENT),
    'a-b-c': _rival(''),
    'a-b': _rival('', **{'model.inherit': False}),
    'fitnets': _rival('fitnets_'),
    'cwd': _rival('cwd_'),
    'pkd': _rival('pkd_'),
    'heatmap': _rival('heatmap_'),
}
