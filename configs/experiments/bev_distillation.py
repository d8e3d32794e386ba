"""Structured distillation between two Fast-BEV detectors of other image size, part by part.

The student of all rows is the same network with the same schedule, data order and seeds. `longer` is trained for twice
the iterations without a teacher. One teacher serves all seeds. The whole method is compared over five seeds, its parts
over three.
"""

name = 'bev_distillation'
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
SPATIAL_TEMPORAL, RESPONSE = ('fused', 'views'), ('saliency', 'classes', 'boxes')


def _without(links=(), inherit=True):
    """The distilled student without some of the links, and with or without the teacher's weights."""
    switches = {f'model.links.{link}.weight': 0.0 for link in links}
    return dict(
        config='../bev_distill/bev_distill_tiny_64x224_4e_sim.py',
        options={'model.teacher_checkpoint': '{teacher}', 'model.inherit': inherit, **switches},
        test_config=STUDENT,
    )


FIVE = (*seeds, 3, 4)

arms = {
    'teacher': dict(config='../fast_bev/fast_bev_tiny_96x352_8e_sim.py', seeds=(0,), baseline=None),
    'student': dict(config=STUDENT, seeds=FIVE),
    'a-b-c': dict(**_without(), seeds=FIVE),
    'longer': dict(
        config=STUDENT,
        options={'train_cfg.max_epochs': 8, 'param_scheduler.1.end': 8},
    ),
    'c': _without(SPATIAL_TEMPORAL + RESPONSE),
    'a-b': _without(inherit=False),
    'a': _without(RESPONSE, inherit=False),
    'b': _without(SPATIAL_TEMPORAL, inherit=False),
}
