"""A small nuScenes-lidarseg tree and results for it, written by hand: nothing of the package under test."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from nuscenes_tree import HandmadeTree

# The order of the released category.json: the row is the index.
CATEGORIES = (
    'noise', 'animal', 'human.pedestrian.adult', 'human.pedestrian.child', 'human.pedestrian.construction_worker',
    'human.pedestrian.personal_mobility', 'human.pedestrian.police_officer', 'human.pedestrian.stroller',
    'human.pedestrian.wheelchair', 'movable_object.barrier', 'movable_object.debris',
    'movable_object.pushable_pullable', 'movable_object.trafficcone', 'static_object.bicycle_rack', 'vehicle.bicycle',
    'vehicle.bus.bendy', 'vehicle.bus.rigid', 'vehicle.car', 'vehicle.construction', 'vehicle.emergency.ambulance',
    'vehicle.emergency.police', 'vehicle.motorcycle', 'vehicle.trailer', 'vehicle.truck', 'flat.driveable_surface',
    'flat.other', 'flat.sidewalk', 'flat.terrain', 'static.manmade', 'static.other', 'static.vegetation', 'vehicle.ego',
)  # fmt: skip
# By the index of the released category.json, as in the code of the benchmark's own users; 0 is not scored.
BENCHMARK_ID = np.array(
    [0, 0, 7, 7, 7, 0, 7, 0, 0, 1, 0, 0, 8, 0, 2, 3, 3, 4, 5, 0, 0, 6, 9, 10, 11, 12, 13, 14, 15, 0, 16, 0]
)
MINI_VAL = ('scene-0103', 'scene-0916')


def token_of(name: str) -> str:
    """Returns a token of hexadecimal digits, as the real ones are; an empty name stays empty."""
    return name and hashlib.md5(name.encode()).hexdigest()


@dataclass
class LidarsegTree:
    """Writes a nuScenes tree with point labels.

    index: category -> id; the released one by default. absent: categories that no point has. labelled: False writes an
    empty lidarseg.json, as in v1.0-test.
    """

    root: Path
    version: str = 'v1.0-mini'
    scenes: tuple[str, ...] = (*MINI_VAL, 'scene-0061')
    keyframes: int = 2
    index: dict[str, int] = field(default_factory=lambda: {name: k for k, name in enumerate(CATEGORIES)})
    absent: tuple[str, ...] = ('vehicle.trailer', 'flat.other')
    labelled: bool = True

    def write(self) -> Path:
        """Writes the tables, the clouds, the semantic and the panoptic labels; returns the root."""
        tree = HandmadeTree(self.root, self.version, self.scenes, self.keyframes, annotated=False)
        tree.write()
        tables = self.root / self.version
        rows = [{'token': f'category {n}', 'name': n, 'description': '', 'index': k} for n, k in self.index.items()]
        (tables / 'category.json').write_text(json.dumps(rows))
        # Tokens of the handmade tree are paths; those of label files are part of a name.
        for row in tree.tables['sample_data']:
            row.update({key: token_of(row[key]) for key in ('token', 'prev', 'next')})
        (tables / 'sample_data.json').write_text(json.dumps(tree.tables['sample_data']))
        keys = [row for row in tree.tables['sample_data'] if row['is_key_frame'] and 'LIDAR_TOP' in row['filename']]
        records: dict[str, list[dict[str, str]]] = {'lidarseg': [], 'panoptic': []}
        for name in records:
            (self.root / name / self.version).mkdir(parents=True)
        for number, row in enumerate(keys):
            rng = np.random.default_rng(number)
            count = 400 + 7 * number
            cloud = np.column_stack(
                [rng.uniform(-40, 40, (count, 3)), rng.integers(0, 255, count), np.arange(count) % 32]
            )
            cloud.astype(np.float32).tofile(self.root / row['filename'])
            if self.labelled:
                self._labels(rng, row['token'], count, records)
        for name, content in records.items():
            (tables / f'{name}.json').write_text(json.dumps(content))
        return self.root

    def _labels(self, rng: np.random.Generator, token: str, count: int, records: dict[str, list]) -> None:
        """Writes the labels of a cloud: segments of 5 to 60 neighbours, each of one category and instance."""
        known = [k for name, k in self.index.items() if name not in self.absent]
        ids, instances = np.zeros(count, np.int64), np.zeros(count, np.int64)
        start = 0
        while start < count:
            size = int(rng.integers(5, 60))
            ids[start : start + size] = rng.choice(known)
            instances[start : start + size] = rng.integers(0, 4)
            start += size
        paths = {name: f'{name}/{self.version}/{token}_{name}' for name in records}
        ids.astype(np.uint8).tofile(self.root / f'{paths["lidarseg"]}.bin')
        np.savez_compressed(self.root / f'{paths["panoptic"]}.npz', data=(1000 * ids + instances).astype(np.uint16))
        for name, suffix in (('lidarseg', '.bin'), ('panoptic', '.npz')):
            records[name].append({'token': token, 'sample_data_token': token, 'filename': paths[name] + suffix})

    def write_results(self, results: Path, split: str = 'mini_val', wrong: float = 0.3) -> Path:
        """Writes semantic and panoptic results of all labelled keyframes as those of a split; returns the folder.

        They are the truth with a share of wrong ids, which come in runs, so that segments match in part.
        """
        tokens = {row['token'] for row in json.loads((self.root / self.version / 'lidarseg.json').read_text())}
        for number, token in enumerate(sorted(tokens)):
            rng = np.random.default_rng(100 + number)
            with np.load(self.root / 'panoptic' / self.version / f'{token}_panoptic.npz') as content:
                truth = content['data'].astype(np.int64)
            # Any ids do for points that are not scored. Trailers, 9, occur nowhere, other flat ground, 12, only here.
            some = np.setdiff1d(np.arange(1, 17), [9])
            ids = BENCHMARK_ID[self._official(truth // 1000)]
            ids = np.where(ids == 0, rng.choice(some, len(ids)), ids)
            instances = truth % 1000
            for start in np.flatnonzero(rng.random(len(ids)) < wrong / 6):
                ids[start : start + 6] = rng.choice(some)
                instances[start : start + 3] = rng.integers(0, 4)
            folders = [results / task / split for task in ('lidarseg', 'panoptic')]
            for folder in folders:
                folder.mkdir(parents=True, exist_ok=True)
            ids.astype(np.uint8).tofile(folders[0] / f'{token}_lidarseg.bin')
            # Panoptic nuScenes takes points without a class as well.
            ids[-4:] = 0
            np.savez_compressed(folders[1] / f'{token}_panoptic.npz', data=(1000 * ids + instances).astype(np.uint16))
        return results

    def _official(self, ids: np.ndarray) -> np.ndarray:
        """Returns the released ids of ids of this tree."""
        table = np.zeros(256, np.int64)
        for number, name in enumerate(CATEGORIES):
            table[self.index[name]] = number
        return table[ids]
