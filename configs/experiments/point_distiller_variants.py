"""Where PointDistiller sits between the two small PointPillars, the teacher's weights, and a longer training.

Next to `point_distiller.py`: the same world, networks, schedule and data order.
"""

import runpy
from pathlib import Path

_main = runpy.run_path(str(Path(__file__).with_name('point_distiller.py')))

name = 'point_distiller_variants'
seeds, metrics, prepare, options, baseline = (
    _main[key] for key in ('seeds', 'metrics', 'prepare', 'options', 'baseline')
)
STUDENT, _distilled = _main['STUDENT'], _main['_distilled']
LEVELS = ('level0', 'level1', 'level2')


def _with(links, inherit=False):
    """The student with PointDistiller at some of the places, and with or without the teacher's weights."""
    options = {f'model.links.{link}.weight': 0.0 for link in ('local', *LEVELS, 'neck') if link not in links}
    return _distilled('maps_', options if inherit else {'model.inherit': False, **options})


arms = {
    **{arm: _main['arms'][arm] for arm in ('teacher', 'student')},
    'levels': dict(**_with(('local', *LEVELS)), seeds=(0,)),
    'neck': dict(**_with(('neck',)), seeds=(0,)),
    'inherit': dict(**_with((), inherit=True), seeds=(0,)),
    'point_distiller-inherit': dict(**_with(('local',), inherit=True), seeds=(0,)),
    'objects-inherit': dict(**_distilled('objects_'), seeds=(0,)),
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
