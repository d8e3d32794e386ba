"""The table of an experiment: means, spreads, differences by the paired t test."""

from __future__ import annotations

import json
import math

import pytest
from experiment_lab import ARMS, ROOT, TINY
from scipy import stats

from perception3d.checks import InputError
from perception3d.experiment.plan import read_experiment
from perception3d.experiment.table import markdown, paired_difference, spread, summarise, wall_times


def test_the_table_has_the_numbers_of_a_textbook(lab):
    lab.write("""
baseline = 'base'
scale = 100.0
def arm(score, **more):
    return dict(config='config.py', options={'+score': score}, **more)
arms = {
    'base': arm([0.01, 0.02, 0.04], extra={'parameters, M': 0.25}),
    'better': arm([0.02, 0.04, 0.05]),
    'short': arm([0.03], seeds=(0,), extra={'note': 'a|b'}),
    'blank': arm([0.07, None, 0.09]),
    'alone': arm([0.09, 0.09, 0.09], baseline=None),
    'other': arm([0.05, 0.05, 0.05], baseline='alone'),
}""")
    assert lab.run(jobs=2) == 0
    lines = (lab.out / 'exam.md').read_text().splitlines()
    cells = [[text.strip() for text in line.replace(r'\|', '/').split('|')[1:-1]] for line in lines if line[:2] == '| ']
    columns = ['arm', 'n', 'compared with', 'score', 'score: difference [95 %]', 'train, min', 'test, min']
    assert cells[0] == [*columns, 'parameters, M', 'note']
    rows = {row[0]: row[1:5] for row in cells[1:]}
    # (1, 2, 4): mean 7/3, s = sqrt(7/3). Differences 1, 2, 1: mean 4/3, s = sqrt(1/3), t(0.975, 2) = 4.3027,
    # half width 4.3027 * sqrt(1/3) / sqrt(3) = 1.4342.
    assert rows['base'] == ['3', '-', '2.333 ± 1.528', '-']
    assert rows['better'] == ['3', 'base', '3.667 ± 1.528', '+1.333 [-0.101, +2.768]']
    assert rows['short'] == ['1', 'base', '3.000', '+2.000 [-]']
    # A null counts for nothing: 7 and 9 against 1 and 4, differences 6 and 5, t(0.975, 1) = 12.706.
    assert rows['blank'] == ['3', 'base', '8.000 ± 1.414 (n=2)', '+5.500 [-0.853, +11.853] (n=2)']
    assert rows['alone'] == ['3', '-', '9.000 ± 0.000', '-']
    assert rows['other'] == ['3', 'alone', '5.000 ± 0.000', '-4.000 [-4.000, -4.000]']
    assert [row[-2:] for row in cells[1:4]] == [['0.25', '-'], ['-', '-'], ['-', 'a/b']]
    content = json.loads((lab.out / 'exam.json').read_text())
    assert content['arms'][1]['metrics']['score']['difference']['mean'] == pytest.approx(0.04 / 3)
    seconds = [cell['train_seconds'] + cell['test_seconds'] for cell in content['cells']]
    assert content['seconds'] == {
        'cells': pytest.approx(sum(seconds)), 'cells_side_by_side': pytest.approx(sum(seconds) / 2), 'prepare': 0.0
    }  # fmt: skip
    assert len(content['cells']) == 16 and content['cells'][0]['train']['parts'][0]['command']


def test_counts_stay_as_they_are_next_to_scaled_rates(lab):
    head = "name = 'exam'\nseeds = (0,)\nmetrics = ('score', 'other')\nscale = 100.0\nunscaled = ('other',)\n"
    lab.write("arms = {'a': dict(config='config.py', options={'+score': [0.5]})}", head=head)
    assert lab.run() == 0
    page = (lab.out / 'exam.md').read_text()
    assert '| a | 1 | 50.00 | 1.000 |' in page and 'multiplied by 100 but for other.' in page


def test_the_page_says_how_long_all_cells_take():
    def record(train, test, jobs):
        return {'train_seconds': train, 'test_seconds': test, 'machine': {'cells side by side': jobs}}

    records = [record(3600.0, 60.0, 2), record(1800.0, 30.0, 1)]
    assert wall_times(records, [{'seconds': 5.0}, {'seconds': None}]) == {
        'cells': 5490.0, 'cells_side_by_side': 3660.0, 'prepare': 5.0
    }  # fmt: skip


def test_the_table_alone_shows_what_is_there(lab, capsys):
    with pytest.raises(InputError, match='no cell of exam in .* is done: run the experiment first'):
        lab.run(table_only=True)
    assert lab.run(seeds=[0, 1]) == 0
    (lab.out / 'exam.md').unlink()
    assert lab.run(table_only=True) == 0
    assert '- not done: a, seeds 2' in (lab.out / 'exam.md').read_text()
    assert not (lab.out / 'cells/a/seed2').exists()


def test_differences_are_those_of_the_paired_t_test():
    assert spread([1.0, 2.0, 4.0]) == (3, pytest.approx(7 / 3), pytest.approx(math.sqrt(7 / 3)))
    assert spread([1.0]) == (1, 1.0, None) and spread([]) == (0, None, None)
    values, baseline = {0: 3.1, 1: 2.9, 2: 4.0, 3: 3.3, 7: 100.0}, {3: 3.0, 2: 3.2, 1: 2.5, 0: 3.2, 5: 0.0}
    common = [0, 1, 2, 3]
    test = stats.ttest_rel([values[key] for key in common], [baseline[key] for key in common])
    for confidence in (0.95, 0.8):
        found = paired_difference(values, baseline, confidence)
        assert found.n == 4 and found.mean == pytest.approx(0.35)
        assert (found.low, found.high) == pytest.approx(tuple(test.confidence_interval(confidence)))
    assert paired_difference({0: 3.0}, {0: 1.0}) == (1, 2.0, None, None)
    assert paired_difference({0: 3.0}, {1: 1.0}) == (0, None, None, None)


def test_a_table_without_a_finished_cell_says_so():
    experiment = read_experiment(TINY)
    rows = summarise(experiment, [])
    assert [(row['arm'], row['n'], row['missing_seeds']) for row in rows] == [(arm, 0, [0, 1]) for arm in ARMS]
    page = markdown(experiment, rows, [], [], ['python', 'tools/experiment.py'], ROOT)
    assert '- wall time: no cell is done\n' in page and '- not done: tuned, seeds 0, 1\n' in page
    assert '- code:' not in page and 'nan' not in page
