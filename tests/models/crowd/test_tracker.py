"""CenterTracker against a slow reference; people who cross, hide, stand equally near; empty frames, uneven times."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from perception3d.checks import InputError
from perception3d.geometry.camera import rigid
from perception3d.models.crowd.association import assign
from perception3d.models.crowd.tracker import CenterTracker

PERSON = (0.6, 0.6, 1.7)


def box(x, y, vx=np.nan, vy=np.nan, yaw=0.0):
    return [x, y, -1.0, *PERSON, yaw, vx, vy]


def run(tracker, frames, step_s=0.4):
    """The tracks of frames, each a list of boxes, or of (box, score)."""
    found = []
    for k, frame in enumerate(frames):
        pairs = [entry if isinstance(entry, tuple) else (entry, 0.9) for entry in frame]
        boxes = np.array([pair[0] for pair in pairs]).reshape(-1, 9)
        found.append(tracker.update(boxes, np.array([pair[1] for pair in pairs]), 10.0 + step_s * k))
    return found


def best_pairs(apart, gates, widest):
    """Brute force: the pairs of least sum of distances and of `widest` for each row without a pair."""
    options = [[c for c in range(apart.shape[1]) if apart[r, c] < gates[r]] + [None] for r in range(len(apart))]
    best, cost = {}, np.inf
    for chosen in itertools.product(*options):
        columns = [c for c in chosen if c is not None]
        if len(set(columns)) == len(columns):
            total = sum(widest[r] if c is None else apart[r, c] + 1e-9 * c for r, c in enumerate(chosen))
            if total < cost:
                best, cost = {r: c for r, c in enumerate(chosen) if c is not None}, total
    return best


class SlowTracker:
    """CenterTracker with its defaults, one object at a time, with a filter of the whole state x, y, vx, vy."""

    def __init__(self):
        self.tracks, self.time_s, self.next_id = [], None, 1

    def update(self, boxes, scores, time_s):
        step = 0.0 if self.time_s is None else time_s - self.time_s
        self.time_s = time_s
        F, G = np.eye(4), np.zeros((4, 2))
        F[0, 2] = F[1, 3] = step
        G[:2], G[2:] = np.eye(2) * step**2 / 2, np.eye(2) * step
        for track in self.tracks:
            track['x'], track['P'] = F @ track['x'], F @ track['P'] @ F.T + 1.5**2 * G @ G.T
            track['missed'] += 1
            track['lost_s'] += step
        self.tracks = [track for track in self.tracks if track['lost_s'] <= 2.0]
        widest = max(2.0 * step, 0.25)
        gate = {}
        for track in self.tracks:
            others = [other for other in self.tracks if other is not track]
            spacing = min((np.hypot(*(other['x'] - track['x'])[:2]) for other in others), default=np.inf)
            gate[id(track)] = min(widest, max(0.6 * spacing, 0.25)) if track['moves'] else widest
        order = sorted(range(len(boxes)), key=lambda k: (-scores[k], boxes[k, 0], boxes[k, 1]))
        left = [k for k in order if scores[k] >= 0.1]
        for confirmed, low in ((True, False), (True, True), (False, False)):
            rows = [track for track in self.tracks if (track['id'] > 0) == confirmed and track['missed']]
            columns = [k for k in left if (scores[k] < 0.3) == low]
            apart = np.array([[np.hypot(*(track['x'][:2] - boxes[k, :2])) for k in columns] for track in rows])
            pairs = best_pairs(
                apart.reshape(len(rows), len(columns)), [gate[id(track)] for track in rows], [widest] * len(rows)
            )
            for row, column in pairs.items():
                self.correct(rows[row], boxes[columns[column]], scores[columns[column]])
            left = [k for k in left if k not in [columns[column] for column in pairs.values()]]
        self.tracks = [track for track in self.tracks if track['missed'] <= (3 if track['id'] else 0)]
        self.tracks += [self.born(boxes[k], scores[k]) for k in left if scores[k] >= 0.3]
        for track in self.tracks:
            if track['id'] == 0 and track['hits'] >= 2:
                track['id'], self.next_id = self.next_id, self.next_id + 1
        return [track for track in self.tracks if track['id'] and not track['missed']]

    def born(self, box, score):
        moves = bool(np.isfinite(box[7:9]).all())
        x = np.array([*box[:2], *(box[7:9] if moves else (0, 0))])
        P = np.diag([0.15**2] * 2 + [0.5**2 if moves else 1.4**2] * 2)
        front = np.array([np.cos(box[6]), np.sin(box[6])])
        return dict(x=x, P=P, rest=np.array([box[2], *box[3:6], *front]), moves=moves, id=0, hits=1, missed=0,
                    lost_s=0.0, scores=[score])  # fmt: skip

    def correct(self, track, box, score):
        for first, values, deviation in ((0, box[:2], 0.15), (2, box[7:9], 0.5)):
            if np.isfinite(values).all():
                H = np.eye(4)[first : first + 2]
                K = track['P'] @ H.T @ np.linalg.inv(H @ track['P'] @ H.T + deviation**2 * np.eye(2))
                track['x'] = track['x'] + K @ (values - H @ track['x'])
                track['P'] = (np.eye(4) - K @ H) @ track['P']
        rest = np.array([box[2], *box[3:6], np.cos(box[6]), np.sin(box[6])])
        track['rest'] = 0.5 * track['rest'] + 0.5 * rest
        track.update(hits=track['hits'] + 1, missed=0, lost_s=0.0, moves=True, scores=[*track['scores'], score])


def crowd(seed, people=5, frames=12):
    """Detections of people who cross a place of 4 m: noise, misses, low scores, false ones, unknown velocities."""
    rng = np.random.default_rng(seed)
    places, speeds = rng.uniform(-2, 2, (people, 2)), rng.normal(0, 1.2, (people, 2))
    time_s = 3.0
    for _ in range(frames):
        seen = np.flatnonzero(rng.random(people) < 0.8)
        found = [box(*places[k] + rng.normal(0, 0.1, 2), *speeds[k], rng.uniform(-3, 3)) for k in seen]
        found += [box(*rng.uniform(-3, 3, 2), 0, 0) for _ in range(rng.integers(2))]
        boxes = np.array(found).reshape(-1, 9)
        boxes[rng.random(len(boxes)) < 0.3, 7:] = np.nan
        yield boxes, rng.uniform(0.05, 1.0, len(boxes)), time_s
        step_s = rng.choice([0.2, 0.4, 0.8, 3.0], p=[0.3, 0.4, 0.25, 0.05])
        places, time_s = places + step_s * speeds, time_s + step_s


def test_equal_to_a_slow_reference():
    reported = 0
    for seed in range(12):
        fast, slow = CenterTracker(), SlowTracker()
        for boxes, scores, time_s in crowd(seed):
            found, expected = fast.update(boxes, scores, time_s), slow.update(boxes, scores, time_s)
            assert found.ids.tolist() == [track['id'] for track in expected]
            for row, score, track in zip(found.boxes.boxes, found.boxes.scores, expected):
                rest = track['rest']
                yaw = np.arctan2(rest[5], rest[4])
                np.testing.assert_allclose(row, [*track['x'][:2], *rest[:4], yaw, *track['x'][2:]], atol=1e-9)
                assert score == pytest.approx(np.mean(track['scores']))
            reported += len(expected)
    assert reported > 200


@pytest.mark.parametrize('method', ['hungarian', 'greedy'])
def test_assignment_against_brute_force(method):
    rng = np.random.default_rng(0)
    for _ in range(60):
        # Whole numbers: many distances are equal.
        apart = rng.integers(0, 5, (rng.integers(0, 5), rng.integers(0, 5))).astype(float)
        gates = rng.uniform(0, 5, len(apart))
        rows, columns = assign(apart, gates, np.ones(apart.shape, bool), np.full(len(apart), 5.0), method)
        expected = {}
        if method == 'hungarian':
            expected = best_pairs(apart, gates, [5.0] * len(apart))
        else:
            nearest = sorted(np.ndindex(*apart.shape), key=lambda pair: (apart[pair], pair[1], pair[0]))
            for row, column in nearest:
                if apart[row, column] < gates[row] and row not in expected and column not in expected.values():
                    expected[row] = column
        cost = [sum(apart[row, column] for row, column in pairs.items()) + 5 * (len(apart) - len(pairs))
                for pairs in (dict(zip(rows, columns)), expected)]  # fmt: skip
        assert len(rows) == len(expected) and cost[0] == pytest.approx(cost[1])
        if method == 'greedy':
            assert dict(zip(rows.tolist(), columns.tolist())) == expected


def test_crossing_people_keep_their_identities():
    # They meet at frame 5 and pass each other at 0.2 m.
    times = 0.4 * np.arange(11)
    frames = [[box(-2 + t, 0.1, 1, 0), box(2 - t, -0.1, -1, 0, np.pi)] for t in times]
    tracks = run(CenterTracker(), frames)
    assert [len(found) for found in tracks] == [0] + [2] * 10
    for found, t in zip(tracks[1:], times[1:]):
        by_id = dict(zip(found.ids.tolist(), found.boxes.boxes))
        np.testing.assert_allclose([by_id[1][0], by_id[2][0]], [-2 + t, 2 - t], atol=1e-6)
    assert len(tracks[-1].history[0]) == 10
    np.testing.assert_allclose(tracks[-1].history[0][:, 0], -2 + times[:10], atol=1e-6)


@pytest.mark.parametrize('hidden, same', [(3, True), (4, False)])
def test_lost_and_found(hidden, same):
    frames = [[box(0.4 * k, 0.0)] for k in range(10 + hidden)]
    frames[4 : 4 + hidden] = [[]] * hidden
    tracks = run(CenterTracker(), frames)
    assert not any(len(found) for found in tracks[4 : 4 + hidden])
    assert tracks[-1].ids.tolist() == [1 if same else 2]
    assert len(tracks[4 + hidden]) == same


def test_a_hidden_person_continues_with_a_low_score_but_begins_with_a_high_one():
    frames = [[(box(0, 0), 0.9), (box(3, 0), 0.2)]] * 2 + [[(box(0, 0), 0.15), (box(3, 0), 0.05)]]
    tracks = run(CenterTracker(), frames)
    assert [found.ids.tolist() for found in tracks] == [[], [1], [1]]
    assert tracks[2].boxes.scores == pytest.approx([(0.9 + 0.9 + 0.15) / 3])
    # A single detection is no track, not even where the same place is seen again one frame later.
    assert not any(map(len, run(CenterTracker(), [[box(0, 0)], [], [box(0, 0)], []])))


def test_of_equal_distances_the_better_detection_continues():
    for order in ([0, 1], [1, 0]):
        third = [(box(0.2, 0), 0.5), (box(-0.2, 0), 0.8)]
        found = run(CenterTracker(), [[box(0, 0)], [box(0, 0)], [third[k] for k in order]])[2]
        assert found.ids.tolist() == [1] and found.boxes.boxes[0, 0] < 0


def test_a_crowd_narrows_the_gate():
    # The right one of two people leaves; a stranger appears 0.45 m further right.
    before, after = [box(0, 0, 0, 0), box(0.5, 0, 0, 0)], [box(0, 0, 0, 0), box(0.95, 0, 0, 0)]
    assert run(CenterTracker(), [before, before, after])[2].ids.tolist() == [1]
    assert run(CenterTracker(density_gate=None), [before, before, after])[2].ids.tolist() == [1, 2]


def test_gates_follow_the_time_and_empty_frames_are_frames():
    frames = [[box(0, 0, 0, 0)], [box(0, 0, 0, 0)], [box(0.6, 0, 0, 0)]]
    assert run(CenterTracker(), frames)[2].ids.tolist() == [1]
    assert run(CenterTracker(), frames, step_s=0.2)[2].ids.tolist() == []
    assert [len(found) for found in run(CenterTracker(), [[]] * 3)] == [0, 0, 0]
    tracker = CenterTracker()
    run(tracker, frames)
    # After 5 s nobody is where he was; without a time the fixed step counts.
    assert len(tracker.update(np.array([box(0.6, 0, 0, 0)]), [0.9], 16.0)) == 0
    assert tracker.update(np.array([box(0.6, 0, 0, 0)]), [0.9]).ids.tolist() == [2]
    with pytest.raises(InputError, match='order of time: 16.400 s came after 16.400 s'):
        tracker.update(np.zeros((0, 9)), [], 16.4)


def test_tracks_follow_the_motion_of_the_vehicle():
    turn = rigid([np.cos(0.15), 0, 0, np.sin(0.15)], [0.5, 0.2, 0.0])  # now from before, 0.3 rad in a frame
    tracker, place = CenterTracker(), np.array([4.0, 1.0, -1.0])
    for _ in range(5):
        found = tracker.update(np.array([box(*place[:2], 0.0, 0.0)]), [0.9], None, turn)
        before, place = place, turn[:3, :3] @ place + turn[:3, 3]
    assert found.ids.tolist() == [1]
    np.testing.assert_allclose(found.boxes.boxes[0, :2], before[:2], atol=1e-9)
    np.testing.assert_allclose(found.history[0], np.tile(before, (4, 1)), atol=1e-9)
    assert not len(CenterTracker().update(np.array([box(*place[:2])]), [0.9]))


def test_classes_stay_apart_and_those_without_a_gate_are_left_out():
    tracker = CenterTracker(gate_mps={'person': 2.0, 'car': 20.0})
    tracker.begin(['car', 'cone', 'person'])
    boxes = np.array([box(0, 0)] * 3)
    for k in range(3):
        boxes[:, 0] = [4.0 * k, 0, 0.4 * k]
        found = tracker.update(boxes, [0.9] * 3, k * 0.4, None, np.array([0, 1, 2]))
    assert found.boxes.labels.tolist() == [0, 2] and found.ids.tolist() == [1, 2]
    assert found.classes == ('car', 'cone', 'person')
    with pytest.raises(InputError, match="class in gate_mps of the tracker 'car'"):
        tracker.begin(['person'])
    with pytest.raises(InputError, match='must name the classes first'):
        CenterTracker(gate_mps={'car': 1.0}).update(boxes, [0.9] * 3)


def test_bad_settings_and_boxes():
    for settings, text in (
        (dict(keep_score=0.5), 'keep_score <= birth_score, got 0.5 and 0.3'),
        (dict(min_hits=0), 'min_hits is 0, expected 1 or more'),
        (dict(frame_s=0), 'frame_s'),
        (dict(matching='hungary'), "did you mean 'hungarian'"),
    ):
        with pytest.raises(InputError, match=text):
            CenterTracker(**settings)
    with pytest.raises(InputError, match='give one score a box|do not fit'):
        CenterTracker().update(np.zeros((2, 9)), [0.5])
    broken = [box(np.nan, 0), box(np.inf, 0), box(1, 1)]
    assert run(CenterTracker(min_hits=1), [broken])[0].ids.tolist() == [1]
    # KITTI's boxes have no velocities.
    found = [CenterTracker(min_hits=1, history=0).update(np.array([box(1, 1)])[:, :7], [0.9]) for _ in range(2)][1]
    assert np.isnan(found.boxes.boxes[0, 7:]).all() and found.history[0].shape == (0, 3)


def test_a_crowd_of_500():
    rng = np.random.default_rng(1)
    places = np.stack(np.meshgrid(np.arange(25), np.arange(20)), -1).reshape(-1, 2) * 0.8
    tracker = CenterTracker()
    for k in range(4):
        order = rng.permutation(500)
        rows = np.array([box(x + 0.1 * k, y) for x, y in places])[order]
        found = tracker.update(rows, rng.uniform(0.3, 1, 500), 0.4 * k)
    np.testing.assert_allclose(np.sort(found.ids), np.arange(1, 501))
    nearest = np.linalg.norm(found.boxes.boxes[:, None, :2] - found.history[0][None, -1:, :2], axis=2).min()
    assert nearest < 0.2
