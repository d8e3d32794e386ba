"""The built-in world in the format of TuSimple: label files, clips, lanes in the official rows."""

from __future__ import annotations

import json

import numpy as np

from perception3d.apis.simulate import simulate
from perception3d.files import read_image, read_pickle
from perception3d.formats.tusimple.files import read_labels
from perception3d.formats.tusimple.simulate.profiles import PROFILES
from perception3d.formats.tusimple.simulate.writer import WRITER
from perception3d.simulation.jobs import Request

FILES = {
    'label_data_0313.json': 4,
    'label_data_0601.json': 3,
    'label_data_0531.json': 1,
    'test_label.json': 4,
}


def test_label_files_have_lanes_in_the_official_rows(simulated_tusimple):
    counts = []
    for file, amount in FILES.items():
        labels = read_labels(simulated_tusimple / file)
        assert len(labels) == amount
        for label in labels:
            assert label.raw_file.startswith('clips/') and label.raw_file.endswith('/20.jpg')
            assert read_image(simulated_tusimple / label.raw_file).shape == (720, 1280, 3)
            assert label.h_samples == tuple(range(160, 720, 10))
            lanes = np.array(label.lanes)
            assert ((lanes == -2) | ((lanes >= 0) & (lanes < 1280))).all()
            # Left to right, and the sky has no lanes.
            both = (lanes >= 0).all(0)
            assert (np.diff(lanes[:, both], axis=0) > 0).all() and (lanes[:, 0] == -2).all()
            counts.append(len(lanes))
    assert min(counts) >= 2 and max(counts) <= 5 and len(set(counts)) > 1


def test_the_reader_finds_all_splits_and_draws_masks(simulated_tusimple):
    infos = {split: read_pickle(simulated_tusimple / f'perception3d_infos_{split}.pkl')['data_list'] for split in
             ('train', 'val', 'test')}  # fmt: skip
    assert {split: len(entries) for split, entries in infos.items()} == {'train': 7, 'val': 1, 'test': 4}
    for info in infos['train']:
        # Slots 3 and 4 of six, the borders of the ego lane, are always there.
        assert info['lane_exist'][2:4] == [1, 1]


def test_a_scene_is_the_same_in_any_amount(simulated_tusimple, tmp_path):
    simulate(WRITER, Request(tmp_path, 0, PROFILES['tiny'], 1, 1))
    for file in ('label_data_0313.json', 'test_label.json'):
        (line,) = (tmp_path / file).read_text().splitlines()
        assert line == (simulated_tusimple / file).read_text().splitlines()[0]
        image = json.loads(line)['raw_file']
        assert (tmp_path / image).read_bytes() == (simulated_tusimple / image).read_bytes()
