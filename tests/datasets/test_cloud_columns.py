"""The ranges of the columns of clouds, and a warning where they are those of columns that are mixed up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from perception3d.apis.formats import find_command
from perception3d.datasets.cloud_columns import ColumnRanges


def street(columns: int, seed: int = 0) -> np.ndarray:
    """Points on a road, 36 m long and wide, with intensities in 0..1 and further columns of the same range."""
    rng = np.random.default_rng(seed)
    rest = rng.uniform(0, 1, (400, columns - 3))
    xyz = [rng.uniform(2, 38, 400), rng.uniform(-18, 18, 400), rng.normal(-1.7, 0.3, 400)]
    return np.column_stack([*xyz, rest]).astype(np.float32)


@pytest.mark.parametrize('columns', [3, 4, 5, 6])
def test_columns_as_they_are_give_no_warning(columns: int):
    one, two = street(columns), street(columns, 1)
    ranges = ColumnRanges.over([ColumnRanges.of(one), ColumnRanges.of(two[:0]), ColumnRanges.of(two)])
    both = np.concatenate([one, two])
    np.testing.assert_array_equal([ranges.low, ranges.high], [both.min(0), both.max(0)])
    assert ranges.warnings() == [] and len(ranges.lines()) == columns + 1
    assert ranges.lines()[1].split() == ['x', f'{both[:, 0].min():.4g}', f'{both[:, 0].max():.4g}']


@pytest.mark.parametrize(('columns', 'read_as'), [(5, 4), (4, 5), (6, 4), (3, 4), (4, 3), (5, 3)])
def test_columns_of_another_number_of_floats_are_warned_of(columns: int, read_as: int):
    mixed = street(columns).ravel()
    warnings = ColumnRanges.of(mixed[: len(mixed) // read_as * read_as].reshape(-1, read_as)).warnings()
    assert warnings and all(f'are {read_as} floats a point right? Set --features' in warning for warning in warnings)


def test_empty_clouds_give_no_warning():
    assert ColumnRanges.of(np.zeros((0, 4), np.float32)).warnings() == []


@pytest.mark.parametrize('features', ['4', '5'])
def test_the_command_prints_ranges_and_warns(tmp_path: Path, capsys: pytest.CaptureFixture[str], features: str):
    import argparse

    for part in ('ImageSets', 'points', 'labels'):
        (tmp_path / part).mkdir()
    (tmp_path / 'ImageSets' / 'train.txt').write_text('a\n')
    street(5).tofile(tmp_path / 'points' / 'a.bin')
    (tmp_path / 'labels' / 'a.txt').write_text('10 0 -1 4 2 2 0 Car\n')
    command, parser = find_command('custom-boxes', 'create_data'), argparse.ArgumentParser()
    command.add_arguments(parser)
    command.run(parser.parse_args(['--root', str(tmp_path), '--features', features]))
    printed = capsys.readouterr().out
    assert 'intensity' in printed and ('column 5' in printed) == (features == '5')
    assert ('warning: intensity goes from -1' in printed) == (features == '4')
