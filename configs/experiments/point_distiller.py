"""PointDistiller between two small PointPillars, two other methods, and two SECONDs, in the built-in world.

The student of all rows of a pair is the same network with the same schedule, data order and seeds. One teacher serves
all seeds. `point_distiller_variants.py` has other places of the link and a longer training.
"""

name = 'point_distiller'
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

STUDENT = '../point_pillars/point_pillars_tiny_c4_10e_kitti_sim.py'
SECOND_STUDENT = '../second/second_tiny_c4_10e_kitti_sim.py'


def _distilled(config, options=None):
    return dict(
        config=f'../point_distiller/point_distiller_{config}tiny_c4_10e_kitti_sim.py',
        options={'model.teacher_checkpoint': '{teacher}', **(options or {})},
        test_config=STUDENT,
    )


arms = {
    'teacher': dict(config='../point_pillars/point_pillars_tiny_10e_kitti_sim.py', seeds=(0,), baseline=None),
    'student': dict(config=STUDENT),
    'point_distiller': _distilled(''),
    'sparse_kd': _distilled('sparse_kd_'),
    'fitnets': _distilled('fitnets_'),
    'second_teacher': dict(config='../second/second_tiny_10e_kitti_sim.py', seeds=(0,), baseline=None),
    'second_student': dict(config=SECOND_STUDENT, baseline=None),
    'second_point_distiller': dict(
        config='../point_distiller/point_distiller_second_tiny_c4_10e_kitti_sim.py',
        options={'model.teacher_checkpoint': '{second_teacher}'},
        test_config=SECOND_STUDENT,
        baseline='second_student',
    ),
}
