from __future__ import annotations

import json

import numpy as np
import pytest
from slow_crowds import slow_ap, slow_matches

from perception3d.checks import InputError
from perception3d.evaluation.crowd_frames import CrowdFrame, People, Predictions
from perception3d.evaluation.crowd_options import make_options
from perception3d.evaluation.crowd_report import flatten, table
from perception3d.evaluation.crowd_scores import score_crowds


def _frame(people, found, scores=None, sequence='1', tracks=None, **attributes):
    """A frame of x, y positions 1 m below the sensor, or of x, y, z."""
    people, found = (
        np.column_stack([p, np.full(len(p), -1.0)]) if p.shape[1] == 2 else p
        for p in (np.reshape(part, (len(part), -1)) if len(part) else np.zeros((0, 3)) for part in (people, found))
    )
    scores = np.linspace(0.9, 0.5, len(found)) if scores is None else scores
    return CrowdFrame(sequence, People(people, **attributes), Predictions(found, scores), tracks)


def _score(*frames, **settings):
    return score_crowds(frames, make_options(**{'samples': 0, **settings})).scores


def _random_frames(seed, sequences=3, frames=4):
    """Crowds of 4 m x 4 m, some of them ignored, with noisy, missing, false and doubled predictions and tied scores."""
    rng = np.random.default_rng(seed)
    out = []
    for name in range(sequences):
        for _ in range(frames):
            count = int(rng.integers(0, 12))
            people = np.column_stack(
                [rng.uniform(8, 12, count), rng.uniform(-2, 2, count), rng.normal(-0.8, 0.1, count)]
            )
            found = np.concatenate([people[::2], people[:4], rng.uniform([8, -2, -1], [12, 2, 0], (2, 3))])
            found += rng.normal(0, 0.2, found.shape)
            out.append(
                CrowdFrame(
                    f'{name}',
                    People(people, rng.random(count) < 0.2, rng.integers(-1, 3, count), rng.integers(15, 200, count)),
                    Predictions(found, rng.integers(0, 20, len(found)) / 20),
                )
            )
    return out


@pytest.fixture(scope='module')
def random_frames():
    return _random_frames(0)


@pytest.mark.parametrize('reading', ['3d', 'bev'])
def test_ap_and_recall_are_those_of_the_slow_reference(random_frames, reading):
    part = _score(*random_frames)[reading]
    for bound in (0.25, 0.5, 1.0):
        assert part['ap'][f'{bound}'] == pytest.approx(slow_ap(random_frames, bound, reading == '3d'), abs=1e-9)
    assert part['ap']['mean'] == pytest.approx(np.mean([part['ap'][f'{bound}'] for bound in (0.25, 0.5, 1.0)]))
    found, total = np.zeros(4), np.zeros(4)
    for frame in random_frames:
        counted, levels = ~frame.people.ignored, frame.people.occlusion
        total += [counted.sum(), *(((levels == level) & counted).sum() for level in range(3))]
        for bound in (0.25, 0.5, 1.0):
            matches = slow_matches(frame, bound, reading == '3d')
            taken = [i for j, i in matches.items() if i not in (None, 'out') and frame.found.scores[j] >= 0.1]
            found += [len(taken), *((levels[taken] == level).sum() for level in range(3))]
    recall = 100 * found / 3 / total
    assert [part['ar']['overall'], *part['ar']['occlusion'].values()] == pytest.approx(list(recall))


@pytest.mark.parametrize('reading', ['3d', 'bev'])
def test_rates_and_counts_are_those_of_the_slow_reference(random_frames, reading):
    scores = _score(*random_frames)
    axes = slice(0, 3 if reading == '3d' else 2)
    kept = doubled = people = merged = 0
    errors = []
    for frame in random_frames:
        strong = [j for j in range(len(frame.found)) if frame.found.scores[j] >= 0.1]
        near = (
            np.linalg.norm(frame.found.centers_m[:, None, axes] - frame.people.centers_m[None, :, axes], axis=-1) < 0.5
        )
        near[:, frame.people.ignored] = False
        matches = slow_matches(frame, 0.5, reading == '3d')
        taken = {matches[j] for j in strong}
        scored = [j for j in strong if matches[j] != 'out']
        kept, doubled = kept + len(scored), doubled + sum(matches[j] is None and near[j].any() for j in scored)
        missed = [i for i in np.flatnonzero(~frame.people.ignored) if i not in taken]
        people, merged = people + (~frame.people.ignored).sum(), merged + sum(near[strong, i].any() for i in missed)
        plane = slow_matches(frame, 1.0, False)
        errors.append(abs(sum(plane[j] != 'out' for j in strong) - (~frame.people.ignored).sum()))
    assert scores[reading]['duplicate_rate'] == pytest.approx(doubled / kept) and doubled
    assert scores[reading]['merge_rate'] == pytest.approx(merged / people) and merged
    assert scores['counting_error'] == pytest.approx(np.mean(errors))


def test_two_people_with_one_prediction_are_a_merge_and_two_predictions_of_one_person_a_duplicate():
    merged = _score(_frame([(10, 0), (10, 0.6)], [(10, 0.3)]))
    assert merged['bev']['merge_rate'] == 0.5 and merged['bev']['duplicate_rate'] == 0
    doubled = _score(_frame([(10, 0)], [(10, 0), (10, 0.3)]))
    assert doubled['bev']['merge_rate'] == 0 and doubled['bev']['duplicate_rate'] == 0.5
    assert merged['counting_error'] == doubled['counting_error'] == 1


def test_the_height_counts_in_3d_alone_and_the_bound_is_strict():
    high = _score(_frame([(10, 0, 0)], [(10, 0, 0.3)]))
    assert high['3d']['ap'] == {'0.25': 0, '0.5': 100, '1.0': 100, 'mean': pytest.approx(200 / 3)}
    assert high['bev']['ap']['mean'] == pytest.approx(100)
    assert _score(_frame([(10, 0)], [(10, 0.5)]))['bev']['ap']['0.5'] == 0


def test_ignored_people_are_neither_hit_nor_false():
    sitting = _frame([(10, 0), (12, 0)], [(10, 0), (12, 0.1), (12, 0.2)], [0.5, 0.9, 0.8], ignored=[False, True])
    scores = _score(sitting)
    assert scores['3d']['ap']['mean'] == pytest.approx(100) and scores['3d']['ar']['overall'] == pytest.approx(100)
    assert scores['3d']['duplicate_rate'] == 0 and scores['counting_error'] == 0
    # A person who counts comes first, even if an ignored one is nearer.
    both = _score(_frame([(10, 0), (10, 0.4)], [(10, 0.3)], ignored=[False, True]))
    assert both['bev']['ar']['overall'] == pytest.approx(200 / 3)


def test_the_sector_and_the_range_drop_predictions_and_ignore_people():
    frame = _frame([(10, 0), (-3, 0), (36, 0)], [(10, 0), (-3, 0), (36, 0), (34.9, 0)])
    cropped = _score(frame)
    assert cropped['3d']['ar']['overall'] == pytest.approx(100)
    # The one at 34.9 m is false: nobody is near, since 1.1 m are too far.
    assert cropped['counting_error'] == 1
    every = _score(frame, compat='crowdquery')
    assert every['3d']['ar']['overall'] == pytest.approx(100) and every['counting_error'] == 1
    assert _score(_frame([(0, 35)], [(0, 35)]))['3d']['ap']['mean'] == pytest.approx(100)


def test_per_level_matching_credits_a_hidden_neighbour_and_joint_matching_does_not():
    # One prediction on the visible person; the hidden one beside is missed.
    frame = _frame([(10, 0), (10, 0.2)], [(10, 0)], occlusion=[0, 2])
    joint, alone = _score(frame), _score(frame, ar_match='per_level')
    assert joint['bev']['ar']['occlusion'] == {'0': pytest.approx(100), '1': None, '2': 0}
    assert alone['bev']['ar']['occlusion'] == {'0': pytest.approx(100), '1': None, '2': pytest.approx(100)}


def test_bins_have_their_lower_bound():
    people = [(10, 0), (10, 1), (10, 2.5), (10, 4.9), (20, 0), (5, 0)]
    frame = _frame(people, people[:1] + people[4:], points=[14, 15, 30, 99, 100, 500])
    recall = _score(frame)['3d']['recall']
    assert recall['by_range'] == {'0-10': pytest.approx(100), '10-20': pytest.approx(25), '20-35': pytest.approx(100)}
    # 14 points are in no bin.
    assert recall['by_points'] == {'15-30': 0, '30-100': 0, '100+': pytest.approx(100)}
    # Neighbours: 1, 2, 1, 0, 0, 0.
    assert recall['by_density'] == {'0-1': pytest.approx(60), '2-3': 0, '4+': None}


def test_area_ap_and_least_scores():
    frame = _frame([(10, 0), (12, 0)], [(10, 0), (15, 0), (12, 0)], [0.9, 0.8, 0.05])
    # Precision 1 up to recall 1/2, then 2/3.
    assert _score(frame, ap='area')['3d']['ap']['mean'] == pytest.approx(50 + 100 / 3)
    assert _score(frame, ap='area', ap_score_thr=0.1)['3d']['ap']['mean'] == pytest.approx(50)
    # Recall wants 0.1.
    assert _score(frame)['3d']['ar']['overall'] == pytest.approx(50)
    assert _score(frame, score_thr=0.0)['3d']['ar']['overall'] == pytest.approx(100)
    assert _score(frame, ap='area', max_dets=1)['3d']['ap']['mean'] == pytest.approx(50)


def test_frames_without_people_or_predictions():
    nobody = _score(_frame([], [(10, 0)]), _frame([(10, 0)], []))
    assert nobody['3d']['ap']['mean'] == 0 and nobody['3d']['ar']['overall'] == 0 and nobody['counting_error'] == 1
    empty = _score(_frame([], []))
    assert empty['3d']['ap']['mean'] is None and empty['3d']['merge_rate'] is None and empty['counting_error'] == 0
    assert flatten(empty, make_options()) == {'counting_error': 0}
    assert json.loads(json.dumps(empty)) == empty
    with pytest.raises(InputError, match='there are no frames to score'):
        score_crowds([])


def test_a_crowd_of_500_keeps_the_best_200_predictions():
    rng = np.random.default_rng(1)
    people = np.column_stack([rng.uniform(1, 30, 500), rng.uniform(-15, 15, 500)])
    scores = rng.permutation(500) / 500
    part = _score(_frame(people, people, scores), score_thr=0.0)['bev']
    assert part['ar']['overall'] == pytest.approx(40)


def test_intervals_are_seeded_and_of_sequences(random_frames):
    settings = dict(samples=50, seed=3)
    first, again = (score_crowds(random_frames, make_options(**settings)).scores for _ in range(2))
    other = score_crowds(random_frames, make_options(samples=50, seed=4)).scores
    assert first == again and first['interval'] != other['interval']
    for path, (low, high) in first['interval'].items():
        value = first
        for name in path.split('/'):
            value = value[name]
        assert low <= high and low - 1 <= value <= high + 1, path
    assert {'3d/ap/mean', 'bev/ar/occlusion/2', '3d/merge_rate', 'counting_error'} <= set(first['interval'])
    # The bootstrap draws sequences: equal ones have no spread, but for AP, where the order of equal scores counts.
    equal = [
        CrowdFrame(name, *(getattr(f, k) for k in ('people', 'found'))) for name in 'abc' for f in random_frames[:4]
    ]
    spread = {p: pair for p, pair in score_crowds(equal).scores['interval'].items() if '/ap/' not in p}
    assert len(spread) > 10 and all(low == pytest.approx(high) for low, high in spread.values())
    assert 'interval' not in _score(*random_frames[:4], samples=50)


def test_names_of_the_log_and_the_table(random_frames):
    result = score_crowds(random_frames, make_options(samples=20))
    flat = flatten(result.scores, make_options())
    assert flat['map'] == result.scores['3d']['ap']['mean'] and flat['bev/map'] == result.scores['bev']['ap']['mean']
    assert {'ap@0.25', 'ar', 'ar@occ2', 'recall@n2m_4+', 'recall@range_10-20', 'duplicate_rate'} <= set(flat)
    assert flatten(result.scores, make_options(distance='bev'))['map'] == result.scores['bev']['ap']['mean']
    low, high = result.scores['interval']['bev/ap/mean']
    assert f'{flat["bev/map"]:.2f} [{low:.2f}, {high:.2f}]' in table(result)


@pytest.mark.parametrize(
    'settings, text',
    [
        ({'distance': '2d'}, 'distance of the crowd metric'),
        ({'ap': 'voc'}, 'ap of the crowd metric'),
        ({'compat': 'nuscenes'}, 'compat of the crowd metric'),
        ({'max_dets': 0}, 'max_dets of the crowd metric is 0: expected 1 or more'),
        ({'score': 0.1}, 'setting of the crowd metric'),
    ],
)
def test_wrong_settings_are_named(settings, text):
    with pytest.raises(InputError, match=text):
        make_options(**settings)
