"""Structured distillation between two BEVFormers: two encoder layers at 96 x 352 teach one at 64 x 224.

`longer` is trained for twice the iterations without a teacher. One teacher serves all seeds.
"""

name = 'bev_distillation_former'
seeds = (0, 1, 2)
metrics = ('nuscenes/mAP', 'nuscenes/NDS', 'nuscenes/mATE', 'nuscenes/mAOE', 'nuscenes/mAVE', 'nuscenes/AP@2m/car')
scale = 100.0
prepare = [
    ['tools/simulate.py', 'nuscenes', '--out', '{out}/data', '--profile', 'distill'],
    ['tools/create_data.py', 'nuscenes', '--root', '{out}/data'],
]
options = {'data_root': '{out}/data'}
baseline = 'student'

STUDENT = '../bev_former/bev_former_tiny_1layer_64x224_4e_sim.py'
LINKS = ('fused', 'cameras', 'saliency', 'classes', 'boxes')


def _distilled(options):
    return dict(
        config='../bev_distill/bev_distill_former_tiny_1layer_64x224_4e_sim.py',
        options={'model.teacher_checkpoint': '{teacher}', **options},
        test_config=STUDENT,
    )


arms = {
    'teacher': dict(config='../bev_former/bev_former_tiny_96x352_8e_sim.py', seeds=(0,), baseline=None),
    'student': dict(config=STUDENT),
    'a-b-c': _distilled({}),
    'longer': dict(config=STUDENT, options={'train_cfg.max_epochs': 8, 'param_scheduler.1.end': 8}),
    'c': _distilled({f'model.links.{link}.weight': 0.0 for link in LINKS}),
    # Without the teacher's embeddings there is nothing to freeze.
    'a-b': _distilled({'model.inherit': False, 'model.freeze': []}),
}
