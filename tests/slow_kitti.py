"""KITTI's rules once more, in plain Python and as slow as they are written down; and random frames to score.

Everything is computed again for each threshold, and boxes are clipped by half planes, so that nothing is shared with
the evaluator under test.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

CLASSES = ('car', 'pedestrian', 'cyclist')
NEIGHBOURS = {'car': 'van', 'pedestrian': 'person_sitting', 'cyclist': None}
LEVELS = {'easy': (40, 0, 0.15), 'moderate': (25, 1, 0.30), 'hard': (25, 2, 0.50)}
STRICT = {'2d': (0.7, 0.5, 0.5), 'bev': (0.7, 0.5, 0.5), '3d': (0.7, 0.5, 0.5)}
LOOSE = {'2d': (0.7, 0.5, 0.5), 'bev': (0.5, 0.25, 0.25), '3d': (0.5, 0.25, 0.25)}


def read(path: Path) -> list[dict]:
    objects = []
    for line in path.read_text().splitlines():
        name, *words = line.split()
        v = [float(word) for word in words]
        score = v[14] if len(v) == 15 else None
        objects.append(
            dict(name=name.lower(), truncated=v[0], occluded=v[1], alpha=v[2], box=v[3:7], hwl=v[7:10], xyz=v[10:13])
            | dict(ry=v[13], score=score)
        )
    return objects


def ground_polygon(o: dict) -> list[tuple[float, float]]:
    _, w, length = o['hwl']
    c, s = math.cos(o['ry']), math.sin(o['ry'])
    corners = [(length / 2, w / 2), (-length / 2, w / 2), (-length / 2, -w / 2), (length / 2, -w / 2)]
    return [(o['xyz'][0] + c * a + s * b, o['xyz'][2] - s * a + c * b) for a, b in corners]


def area(polygon: list[tuple[float, float]]) -> float:
    pairs = zip(polygon, polygon[1:] + polygon[:1], strict=True)
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairs) / 2


def clipped(subject: list[tuple[float, float]], window: list[tuple[float, float]]) -> list[tuple[float, float]]:
    sign = 1 if area(window) > 0 else -1
    for (ax, ay), (bx, by) in zip(window, window[1:] + window[:1], strict=True):
        side = [sign * ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) for x, y in subject]
        kept = []
        for k, (p, d) in enumerate(zip(subject, side, strict=True)):
            q, e = subject[(k + 1) % len(subject)], side[(k + 1) % len(subject)]
            if d >= 0:
                kept.append(p)
            if d * e < 0:
                kept.append((p[0] + d / (d - e) * (q[0] - p[0]), p[1] + d / (d - e) * (q[1] - p[1])))
        subject = kept
        if not subject:
            break
    return subject


def overlap(metric: str, found: dict, truth: dict, of_found: bool = False) -> float:
    if metric == '2d':
        (a0, b0, a1, b1), (c0, d0, c1, d1) = found['box'], truth['box']
        w, h = min(a1, c1) - max(a0, c0), min(b1, d1) - max(b0, d0)
        both = w * h if w > 0 and h > 0 else 0.0
        own, other = (a1 - a0) * (b1 - b0), (c1 - c0) * (d1 - d0)
    else:
        if math.dist(found['xyz'][::2], truth['xyz'][::2]) > 40 or 0 in found['hwl'] or 0 in truth['hwl']:
            return 0.0
        # Relative to the object, so that little is lost to large coordinates.
        ox, _, oz = truth['xyz']
        p, q = ([(x - ox, z - oz) for x, z in ground_polygon(o)] for o in (found, truth))
        both, own, other = abs(area(clipped(p, q))), abs(area(p)), abs(area(q))
        if metric == '3d':
            y0, y1 = found['xyz'][1], truth['xyz'][1]
            both *= max(0.0, min(y0, y1) - max(y0 - found['hwl'][0], y1 - truth['hwl'][0]))
            own, other = own * found['hwl'][0], other * truth['hwl'][0]
    if both == 0:
        return 0.0
    return both / own if of_found else both / (own + other - both)


def statistics(frame: dict, bound: float, threshold: float | None) -> tuple[int, int, float, list[float]]:
    """tp, fp, similarity and the scores of true positives of one frame; all detections if there is no threshold."""
    n = len(frame['det'])
    free = [frame['det_role'][j] != -1 for j in range(n)]
    if threshold is not None:
        free = [free[j] and frame['det'][j]['score'] >= threshold for j in range(n)]
    tp, similarity, scores = 0, 0.0, []
    for i, role in enumerate(frame['gt_role']):
        if role == -1:
            continue
        candidates = [j for j in range(n) if free[j] and frame['iou'][i][j] > bound]
        if not candidates:
            continue
        counted = [j for j in candidates if frame['det_role'][j] == 0]
        if threshold is None:
            best = max(candidates, key=lambda j: (frame['det'][j]['score'], -j))
        elif counted:
            best = max(counted, key=lambda j: (frame['iou'][i][j], -j))
        else:
            best = candidates[0]
        free[best] = False
        if role == 0 and frame['det_role'][best] == 0:
            tp += 1
            scores.append(frame['det'][best]['score'])
            similarity += (1 + math.cos(frame['gt'][i]['alpha'] - frame['det'][best]['alpha'])) / 2
    fp = sum(free[j] and frame['det_role'][j] == 0 and frame['dontcare_overlap'][j] <= bound for j in range(n))
    return tp, fp, similarity, scores


def thresholds(scores: list[float], objects: int) -> list[float]:
    scores = sorted(scores, reverse=True)
    chosen, recall = [], 0.0
    for k, score in enumerate(scores):
        left, right = (k + 1) / objects, (k + 2) / objects
        if k + 1 < len(scores) and right - recall < recall - left:
            continue
        chosen.append(score)
        recall += 1 / 40
    return chosen


def prepared(frames: list[dict], kind: str, level: tuple, metric: str, above: bool) -> int:
    """Gives each frame its roles and overlaps; returns the number of objects that count."""
    least, occlusion, truncation = level
    objects = 0
    for frame in frames:
        frame['gt_role'], frame['det_role'] = [], []
        for o in frame['gt']:
            height = o['box'][3] - o['box'][1]
            low = height <= least if above else height < least
            hard = low or o['occluded'] > occlusion or o['truncated'] > truncation
            role = (1 if hard else 0) if o['name'] == kind else 1 if o['name'] == NEIGHBOURS[kind] else -1
            frame['gt_role'].append(role)
            objects += role == 0
        for o in frame['det']:
            low = int(abs(o['box'][3] - o['box'][1])) < least
            frame['det_role'].append(1 if low else 0 if o['name'] == kind else -1)
        key = f'iou of {metric}'
        if key not in frame:
            frame[key] = [[overlap(metric, d, g) for d in frame['det']] for g in frame['gt']]
            regions = [g for g in frame['gt'] if g['name'] == 'dontcare']
            frame[f'dontcare_overlap of {metric}'] = [
                max([overlap(metric, d, g, True) for g in regions], default=0.0) for d in frame['det']
            ]
        frame['iou'], frame['dontcare_overlap'] = frame[key], frame[f'dontcare_overlap of {metric}']
    return objects


def average(curve: list[float]) -> dict[str, float]:
    curve = curve + [0.0] * (41 - len(curve))
    best = [max(curve[k:]) for k in range(41)]
    return {'R11': 100 / 11 * sum(best[::4]), 'R40': 100 / 40 * sum(best[1:])}


def slow_scores(gt: Path, pred: Path, bounds: dict = STRICT, above: bool = False) -> dict:
    frames = [dict(gt=read(gt / path.name), det=read(path)) for path in sorted(pred.iterdir())]
    every = [o for frame in frames for o in frame['det']]
    oriented = all(o['alpha'] != -10 for o in every)
    scores: dict = {kind: {metric: {} for metric in ('2d', 'aos', 'bev', '3d')} for kind in CLASSES}
    for number, kind in enumerate(CLASSES):
        own = [o for o in every if o['name'] == kind]
        evaluated = {
            '2d': any(o['box'][0] >= 0 for o in own),
            'bev': any(o['xyz'][0] != -1000 for o in own),
            '3d': any(o['xyz'][1] != -1000 for o in own),
        }
        for metric in ('2d', 'bev', '3d'):
            for name, level in LEVELS.items():
                precision, similarity = [], []
                objects = prepared(frames, kind, level, metric, above)
                bound = bounds[metric][number]
                true = [score for frame in frames for score in statistics(frame, bound, None)[3]]
                for threshold in thresholds(true, objects) if evaluated[metric] else []:
                    parts = [statistics(frame, bound, threshold) for frame in frames]
                    tp, fp, alike = (sum(part[k] for part in parts) for k in range(3))
                    precision.append(tp / (tp + fp) if tp + fp else 0.0)
                    similarity.append(alike / (tp + fp) if tp + fp else 0.0)
                scores[kind][metric][name] = average(precision)
                if metric == '2d':
                    scores[kind]['aos'][name] = average(similarity) if oriented else {'R11': None, 'R40': None}
    return scores


SIZES = {
    'Car': (1.5, 1.6, 3.9),
    'Van': (2, 1.9, 4.8),
    'Pedestrian': (1.75, 0.6, 0.8),
    'Person_sitting': (1.2, 0.6, 0.8),
}
SIZES |= {'Cyclist': (1.75, 0.6, 1.75), 'Truck': (3.2, 2.6, 10.0)}


def line(name, truncated, occluded, hwl, xyz, ry, score=None) -> str:
    """A label or result line; the image box is that of a pinhole camera, roughly."""
    x, y, z = xyz
    scale, half = 720 / max(z, 1.0), (abs(math.cos(ry)) * hwl[2] + abs(math.sin(ry)) * hwl[1]) / 2
    box = (600 + (x - half) * scale, 170 + (y - hwl[0]) * scale, 600 + (x + half) * scale, 170 + y * scale)
    alpha = math.remainder(ry - math.atan2(x, z), 2 * math.pi)
    text = f'{name} {truncated} {occluded} ' + ' '.join(f'{v:.2f}' for v in (alpha, *box, *hwl, *xyz, ry))
    return text + ('' if score is None else f' {score:.4f}')


def write_random_frames(root: Path, seed: int, frames: int, objects: float) -> tuple[Path, Path]:
    """Writes root/gt and root/pred: crowds, copies, turned and misnamed boxes, DontCare regions, empty frames."""
    rng = np.random.default_rng(seed)
    gt, pred = root / 'gt', root / 'pred'
    gt.mkdir(parents=True)
    pred.mkdir()
    for frame in range(frames):
        labels, results = [], []
        for _ in range(rng.poisson(objects) if frame % 5 != 3 else 0):
            name = rng.choice(list(SIZES), p=[0.4, 0.1, 0.2, 0.05, 0.2, 0.05])
            hwl = np.array(SIZES[name]) * rng.normal(1, 0.08, 3)
            z = rng.uniform(5, 50)
            xyz = np.array([rng.uniform(-0.7, 0.7) * z, 1.6, z])
            ry = rng.choice([rng.uniform(-3.1, 3.1), math.pi / 2 * rng.integers(-1, 2)])
            crowd = 1 + (rng.random() < 0.2)
            for _ in range(crowd):
                place = xyz + rng.normal(size=3) * 0.15 * (crowd > 1)
                labels.append(line(name, rng.choice([0, 0.2, 0.4, 0.7]), rng.integers(0, 4), hwl, place, ry))
            for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
                spread = rng.choice([0, 0.05, 0.5, 1])
                size = hwl * (1 + rng.normal(size=3) * 0.05 * spread)
                place = xyz + rng.normal(size=3) * 0.15 * spread
                angle = math.remainder(ry + rng.normal() * 0.1 * spread + math.pi * (rng.random() < 0.1), 2 * math.pi)
                seen = name if rng.random() < 0.85 else rng.choice(['Car', 'pedestrian', 'CYCLIST', 'Van'])
                score = rng.choice([rng.random(), 0.5, -0.5])
                results += [line(seen, -1, -1, size, place, angle, score)] * (1 + (rng.random() < 0.1))
        for _ in range(rng.poisson(objects / 2)):
            z = rng.uniform(5, 60)
            name = rng.choice(['Car', 'Pedestrian', 'Cyclist'])
            place = (rng.uniform(-0.7, 0.7) * z, 1.6, z)
            results.append(line(name, -1, -1, SIZES[name], place, rng.uniform(-3, 3), rng.random()))
        for _ in range(rng.poisson(2)):
            box = rng.uniform([0, 100, 0, 100], [1000, 150, 1000, 200])
            if results and rng.random() < 0.7:
                box = np.array(rng.choice(results).split()[4:8], float) + rng.normal(size=4) * 5
            box = ' '.join(f'{value:.2f}' for value in box)
            labels.append(f'DontCare -1 -1 -10 {box} -1 -1 -1 -1000 -1000 -1000 -10')
        rng.shuffle(results)
        rng.shuffle(labels)
        (gt / f'{frame * 7:06d}.txt').write_text(''.join(f'{text}\n' for text in labels))
        (pred / f'{frame * 7:06d}.txt').write_text(''.join(f'{text}\n' for text in results))
    return gt, pred
