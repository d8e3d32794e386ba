"""Every experiment file of the package plans its cells: its configs load, and its options exist in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from perception3d.experiment.plan import read_experiment
from perception3d.experiment.records import fingerprints

FOLDER = Path(__file__).resolve().parents[2] / 'configs' / 'experiments'
FILES = sorted(path.stem for path in FOLDER.glob('*.py'))


@pytest.mark.parametrize('name', FILES)
def test_an_experiment_can_be_planned(name):
    experiment = read_experiment(FOLDER / f'{name}.py')
    assert experiment.name == name
    assert set(fingerprints(experiment)) == set(experiment.arms)
    assert all(cell.needs for cell in experiment.cells() if 'teacher' in experiment.arms[cell.arm].needs)


def test_the_arms_switch_off_the_other_parts_of_the_method():
    experiment = read_experiment(FOLDER / 'bev_distillation.py')
    switched_off = {
        arm: {key.split('.')[2] for key, value in experiment.arms[arm].options.items() if key.endswith('weight')}
        for arm in ('a', 'b', 'c', 'a-b', 'a-b-c')
    }
    assert switched_off == {
        'a': {'saliency', 'classes', 'boxes'},
        'b': {'fused', 'views'},
        'c': {'fused', 'views', 'saliency', 'classes', 'boxes'},
        'a-b': set(),
        'a-b-c': set(),
    }
    inherits = {arm: experiment.arms[arm].options['model.inherit'] for arm in switched_off}
    assert inherits == {'a': False, 'b': False, 'c': True, 'a-b': False, 'a-b-c': True}
