"""Where PointDistiller sits between the two small PointPillars, the teacher's weights, and a longer training.

Beside `point_distiller.py`: the same world, networks, schedule and data order.
"""

name = 'point_distiller_variants'
seeds = (0, 1, 2)
metrics = (
    'kitti/3d/mAP/moderate/R40',
    'kitti/bev/mAP/moderate/R40',
    'kitti/3d/car/moderate/R40',
    'kitti/3d/pedestrian/moderate/R40',
    'kitti/3d/cyclist/moderate/R40',
    'kitti/bev/car/moderate/R40',
    'kitti/bev/pedestrian/moderate/R40',
    'kitti/bev/cyclist/moderate/R40',
)
prepare = [
    ['tools/simulate.py', 'kitti', '--out', '{out}/data', '--profile', 'lidar'],
    ['tools/create_data.py', 'kitti', '--root', '{out}/data'],
]
options = {'data_root': '{out}/data'}
baseline = 'student'

STUDENT = '../lidar_det/point_pillars_tiny_4x_10e_kitti_sim.py'


def _distilled(config, options=None):
    return dict(
        config=f'../point_distiller/{config}_tiny_4x_10e_kitti_sim.py',
        options={'model.teacher_checkpoint': '{teacher}', **(options or {})},
        test_config=STUDENT,
    )


LEVELS = ('level0', 'level1', 'level2')


def _with(links, inherit=False):
    """The student with PointDistiller at some of the places, and with or without the teacher's weights."""
    options = {f'model.links.{link}.weight': 0.0 for link in ('local', *LEVELS, 'neck') if link not in links}
    return _distilled('point_distill_maps', options if inherit else {'model.inherit': False, **options})


arms = {
    'teacher': dict(config='../lidar_det/point_pillars_tiny_10e_kitti_sim.py', seeds=(0,), baseline=None),
    'student': dict(config=STUDENT),
    'levels': dict(**_with(('local', *LEVELS)), seeds=(0,)),
    'neck': dict(**_with(('neck',)), seeds=(0,)),
    'inherit': dict(**_with((), inherit=True), seeds=(0,)),
    'point_distiller-inherit': dict(**_with(('local',), inherit=True), seeds=(0,)),
    'objects-inherit': dict(**_distilled('point_distill_objects'), seeds=(0,)),
    'longer': dict(
        config=STUDENT,
        options={
            'train_cfg.max_epochs': 20,
            'param_scheduler.0.end': 8, 'param_scheduler.0.T_max': 8,
            'param_scheduler.1.begin': 8, 'param_scheduler.1.end': 20, 'param_scheduler.1.T_max': 12,
            'param_scheduler.2.end': 8, 'param_scheduler.2.T_max': 8,
            'param_scheduler.3.begin': 8, 'param_scheduler.3.end': 20, 'param_scheduler.3.T_max': 12,
        },
    ),
}  # fmt: skip
