"""Crowd metrics and scores of tracks the slow way: one person, one prediction, one threshold at a time."""

from __future__ import annotations

import itertools
import math

import numpy as np


def slow_matches(frame, bound, in_space, wanted=None):
    """The person of each prediction of a frame: its index, None for nobody, 'out' where an ignored one is near."""
    people, found = frame.people, frame.found
    rows = range(len(people)) if wanted is None else [i for i in range(len(people)) if wanted[i]]
    matches, taken = {}, set()
    for j in sorted(range(len(found)), key=lambda j: -found.scores[j]):
        reach = [
            (math.dist(people.centers_m[i][: 3 if in_space else 2], found.centers_m[j][: 3 if in_space else 2]), i)
            for i in rows
        ]
        free = [(d, i) for d, i in reach if d < bound and not people.ignored[i] and i not in taken]
        matches[j] = min(free)[1] if free else None
        taken.add(matches[j])
        if not free and any(d < bound and people.ignored[i] for d, i in reach):
            matches[j] = 'out'
    return matches


def slow_ap(frames, bound, in_space):
    """AP in percent as the devkit's `calc_ap` on its `accumulate`, of frames whose people and predictions all count."""
    rows = []
    for frame in frames:
        matches = slow_matches(frame, bound, in_space)
        rows += [(frame.found.scores[j], i is not None) for j, i in sorted(matches.items()) if i != 'out']
    total = sum(int((~frame.people.ignored).sum()) for frame in frames)
    hits = [hit for _, hit in sorted(rows, key=lambda row: -row[0])]
    if not any(hits):
        return 0.0
    found = np.cumsum(hits).astype(float)
    precision = np.interp(np.linspace(0, 1, 101), found / total, found / np.arange(1, len(hits) + 1), right=0)
    return float(np.mean(np.maximum(precision[11:] - 0.1, 0)) / 0.9) * 100


def slow_tracking(frames, bound):
    """MOTA and IDF1 in percent, and switches, of the frames of one sequence; assignments by trying all of them."""
    last, switches, misses, false, boxes, predicted = {}, 0, 0, 0, 0, 0
    together = {}
    for frame in frames:
        near = {
            (i, j): math.dist(a, b)
            for i, a in zip(frame.ids, frame.centers_m)
            for j, b in zip(frame.track_ids, frame.tracks_m)
            if math.dist(a, b) < bound
        }
        for pair in near:
            together[pair] = together.get(pair, 0) + 1
        pairs = {i: last[i] for i in frame.ids if (i, last.get(i)) in near}
        rest = [i for i in frame.ids if i not in pairs]
        free = [j for j in frame.track_ids if j not in pairs.values()]
        best = (0, 0.0, {})
        for chosen in itertools.permutations([*free, *[None] * len(rest)], len(rest)):
            new = {i: j for i, j in zip(rest, chosen) if (i, j) in near}
            rank = (len(new), -sum(near[pair] for pair in new.items()), new)
            best = max(best, rank, key=lambda value: value[:2])
        for i, j in best[2].items():
            switches += i in last and last[i] != j
            pairs[i] = j
        last.update(pairs)
        boxes, predicted = boxes + len(frame.ids), predicted + len(frame.track_ids)
        misses, false = misses + len(frame.ids) - len(pairs), false + len(frame.track_ids) - len(pairs)
    people, tracks = sorted({i for i, _ in together}), sorted({j for _, j in together})
    right = max(
        (
            sum(together.get(pair, 0) for pair in zip(people, chosen))
            for chosen in itertools.permutations([*tracks, *[None] * len(people)], len(people))
        ),
        default=0,
    )
    return 100 * (1 - (misses + false + switches) / boxes), 200 * right / (boxes + predicted), switches
