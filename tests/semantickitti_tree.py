"""A handmade SemanticKITTI tree of tiny scans, for tests of several folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from perception3d.formats.semantickitti.files import LABEL_IDS


def write_scan(root: Path, sequence: str, scan: int, num_points: int = 60, labelled: bool = True) -> None:
    """Writes one scan of random points and, if `labelled`, a label file with all ids and some objects."""
    rng = np.random.default_rng([int(sequence), scan])
    folder = root / 'sequences' / sequence
    points = np.column_stack(
        [rng.uniform(-40, 40, (num_points, 2)), rng.uniform(-2, 2, num_points), rng.random(num_points)]
    )
    ids = rng.permutation(np.resize(list(LABEL_IDS.values()), num_points)).astype(np.uint32)
    objects = np.where((ids < 40) | (ids > 250), rng.integers(0, 4, num_points), 0).astype(np.uint32)
    for part, content in (('velodyne', points.astype('<f4')), ('labels', (ids | objects << 16).astype('<u4'))):
        if part == 'velodyne' or labelled:
            (folder / part).mkdir(parents=True, exist_ok=True)
            content.tofile(folder / part / f'{scan:06d}{".bin" if part == "velodyne" else ".label"}')


def write_tree(root: Path, sequences: dict[str, int], poses: bool = True, labelled: bool = True) -> Path:
    """Writes `sequences`, name -> number of scans; with `poses` the vehicle goes 1 m ahead and turns each scan."""
    for name, count in sequences.items():
        for scan in range(count):
            write_scan(root, name, scan, 60 + scan, labelled)
        if poses:
            folder = root / 'sequences' / name
            # Camera 0: x right, y down, z ahead.
            (folder / 'calib.txt').write_text('P0: 1 0 0 0 0 1 0 0 0 0 1 0\nTr: 0 -1 0 0.1 0 0 -1 -0.2 1 0 0 -0.3\n')
            lines = []
            for scan in range(count):
                c, s = np.cos(0.1 * scan), np.sin(0.1 * scan)
                lines.append(' '.join(str(v) for v in (c, 0, s, 0.2 * scan, 0, 1, 0, 0, -s, 0, c, 1.0 * scan)))
            (folder / 'poses.txt').write_text('\n'.join(lines) + '\n')
            (folder / 'times.txt').write_text('\n'.join(f'{0.1 * scan:e}' for scan in range(count)) + '\n')
    return root
