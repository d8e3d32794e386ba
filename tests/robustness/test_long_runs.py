"""The script of long runs recognises growth; its clouds, some of them empty, get equal results in two threads."""

from __future__ import annotations

from pathlib import Path

import memory
import numpy as np
import pytest
from kitti_tree import KittiTree


def test_growth_compares_the_last_third_with_the_one_before():
    assert memory.growth([500.0] * 3 + [100.0] * 6) == 0
    assert memory.growth([100.0] * 6 + [103.0] * 3) == pytest.approx(0.03)


def test_clouds_of_two_threads_get_the_answers_of_single_calls(tmp_path: Path):
    KittiTree(tmp_path).write({'train': ['000000', '000001']})
    assert len(memory.cloud_of(20, np.ones((9, 4), np.float32))) == 0
    watch = memory.run_clouds(tmp_path, clouds=12, threads=2)
    assert not watch.different and len(watch.resident_mib) == 12
    assert watch.digests['0'] == watch.digests['10'] == 'nothing'
    assert len({watch.digests[str(k)] for k in range(1, 10)}) == 9
