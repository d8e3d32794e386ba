from __future__ import annotations

import numpy as np
import pytest
from slow_crowds import slow_tracking

from perception3d.evaluation.crowd_frames import CrowdFrame, People, Predictions
from perception3d.evaluation.crowd_options import make_options
from perception3d.evaluation.crowd_scores import score_crowds
from perception3d.evaluation.tracking import (
    TrackedFrame,
    average_mota,
    count_tracks,
    prepare_sequence,
    track_ratios,
)


def _walk(seed, frames=8, people=4):
    """People who walk in 3 m x 3 m, and tracks of them with gaps, noise, switched identities and false boxes."""
    rng = np.random.default_rng(seed)
    places, speeds, labels = rng.uniform(0, 3, (people, 2)), rng.normal(0, 0.3, (people, 2)), np.arange(people) + 10
    out = []
    for f in range(frames):
        places = places + speeds
        if rng.random() < 0.4:
            labels = rng.permutation(labels)
        here, seen = rng.random(people) < 0.9, rng.random(people) < 0.8
        own = np.concatenate(
            [places[here & seen] + rng.normal(0, 0.3, ((here & seen).sum(), 2)), rng.uniform(0, 3, (1, 2))]
        )
        ids = np.append(labels[here & seen], 50 + f)
        out.append(TrackedFrame(np.flatnonzero(here), places[here], np.zeros((0, 2)), ids, own, ids / 100))
    return out


def _frame(people, tracks, scores=1.0, ignored=()):
    """A frame of {identity: x} on a line."""
    return TrackedFrame(
        np.array(list(people), np.int64),
        np.array([(x, 0) for x in people.values()], float).reshape(-1, 2),
        np.array([(x, 0) for x in ignored], float).reshape(-1, 2),
        np.array(list(tracks), np.int64),
        np.array([(x, 0) for x in tracks.values()], float).reshape(-1, 2),
        np.full(len(tracks), scores),
    )


def _ratios(*sequences, bound=1.0):
    counts = [count_tracks(prepare_sequence(frames), bound) for frames in sequences]
    return {name: ratio.value for name, ratio in track_ratios(counts).items()}, counts


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('bound', [0.5, 1.0])
def test_mota_idf1_and_switches_are_those_of_the_slow_reference(seed, bound):
    frames = _walk(seed, people=3)
    ratios, (count,) = _ratios(frames, bound=bound)
    assert (ratios['mota'], ratios['idf1'], count.switches) == pytest.approx(slow_tracking(frames, bound))


def test_a_person_keeps_its_track_though_another_one_is_nearer():
    frames = [_frame({1: 0.0}, {7: 0.0}), _frame({1: 0.0}, {7: 0.9, 8: 0.1})]
    _, (count,) = _ratios(frames)
    assert (count.matches, count.switches, count.false) == (2, 0, 1)
    # Out of reach it gets the other one, which is a switch, also after a gap.
    frames = [_frame({1: 0.0}, {7: 0.0}), _frame({1: 0.0}, {}), _frame({1: 0.0}, {7: 1.0, 8: 0.1})]
    _, (count,) = _ratios(frames)
    assert (count.matches, count.switches, count.misses, count.false) == (1, 1, 1, 1)


def test_most_people_are_matched_before_distances_are_small():
    _, (count,) = _ratios([_frame({1: 0.0, 2: 0.9}, {7: 0.85, 8: 1.8})])
    assert count.matches == 2


def test_mostly_tracked_and_mostly_lost_are_strict():
    def tracked(frames, found):
        return _ratios([_frame({1: 0.0}, {7: 0.0} if f < found else {}) for f in range(frames)])[0]

    assert [tracked(10, 9)[k] for k in ('mt', 'ml')] == [100, 0]
    assert [tracked(10, 8)[k] for k in ('mt', 'ml')] == [0, 0]
    assert [tracked(10, 2)[k] for k in ('mt', 'ml')] == [0, 0]
    assert [tracked(10, 1)[k] for k in ('mt', 'ml')] == [0, 100]


def test_ignored_people_take_boxes_out_of_all_scores():
    ratios, _ = _ratios([_frame({1: 0.0}, {7: 0.0, 8: 5.2, 9: 5.4}, ignored=[5.0])])
    assert ratios['mota'] == 100 and ratios['idf1'] == 100
    # The bound is strict there, too.
    assert _ratios([_frame({1: 0.0}, {7: 0.0, 8: 6.0}, ignored=[5.0])])[0]['mota'] == 0


def test_mota_may_be_negative_and_is_unknown_without_people():
    assert _ratios([_frame({1: 0.0}, {7: 5.0, 8: 6.0})])[0]['mota'] == -200
    assert _ratios([_frame({}, {7: 5.0})])[0]['mota'] is None
    assert average_mota([prepare_sequence([_frame({}, {7: 5.0})])], 1.0) is None
    assert average_mota([prepare_sequence([_frame({1: 5.0}, {})])], 1.0) == 0


def test_amota_on_a_case_counted_by_hand():
    # Two people, tracks of 0.9 and 0.5 on them, a false one of 0.7: recalls up to 1/2 have no error.
    frames = [_frame({1: 0.0, 2: 9.0}, {})]
    frames = [
        TrackedFrame(
            frames[0].ids,
            frames[0].centers_m,
            frames[0].ignored_m,
            np.array([7, 8, 9]),
            np.array([(0.0, 0), (9.0, 0), (20.0, 0)]),
            np.array([0.9, 0.5, 0.7]),
        )
    ]
    recalls = np.linspace(0.1, 1, 40).round(12)
    # Interpolated between the scores 0.9 at recall 1/2 and 0.5 at 1.
    least = np.interp(recalls, [0.5, 1], [0.9, 0.5])
    expected = [1.0 if score > 0.7 else (0.0 if score > 0.5 else 0.5) for score in least]
    assert average_mota([prepare_sequence(frames)], 1.0) == pytest.approx(100 * np.mean(expected))


def test_scores_of_tracks_of_crowds():
    def frame(sequence, x, sitting_x, tracks):
        people = People([(x, 0, -1), (sitting_x, 3, -1), (9, 9, -1)], [False, True, False], ids=[1, 2, -1])
        xs = np.array([(*place, -1.0) for place in tracks.values()])
        boxes = Predictions(xs, np.full(len(xs), 0.5), list(tracks))
        return CrowdFrame(sequence, people, boxes, boxes)

    # 7: the person; 8: the sitting one; 9: the one without identity; 10: behind the sensor; 11: without one itself.
    every = {7: (10, 0.2), 8: (12, 3), 9: (9, 9), 10: (-4, 0), -1: (20, 0)}
    frames = [frame(name, 10, 12, every) for name in 'aabb']
    scores = score_crowds(frames, make_options(samples=10)).scores
    assert scores['tracking']['0.5'] == {'mota': 100, 'idf1': 100, 'mt': 100, 'ml': 0}
    assert scores['tracking']['1.0'] == {'mota': 100, 'idf1': 100, 'mt': 100, 'ml': 0, 'amota': 100}
    assert scores['interval']['tracking/1.0/mota'] == [100, 100]
    without = [CrowdFrame(f.sequence, f.people, f.found) for f in frames]
    assert 'tracking' not in score_crowds(without, make_options(samples=0)).scores
