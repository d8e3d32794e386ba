"""Mistakes in the command line of tools/compare.py; its pictures are made by the README's test."""

from __future__ import annotations

from pathlib import Path

import pytest

from perception3d.apis.compare import compare
from perception3d.checks import InputError

CONFIG = Path(__file__).resolve().parents[2] / 'configs' / 'fast_bev' / 'fast_bev_tiny_96x352_9e_sim.py'


@pytest.mark.parametrize(
    'model, message',
    [
        ('teacher', 'expected TITLE=CONFIG,CHECKPOINT'),
        (f'teacher={CONFIG}', 'expected TITLE=CONFIG,CHECKPOINT'),
        ('teacher=none.py,none.pth', 'none.py does not exist'),
        (f'teacher={CONFIG},none.pth', 'perception3d_infos_sim_val.pkl does not exist'),
    ],
)
def test_models_are_named_by_title_config_and_checkpoint(model, message, tmp_path):
    with pytest.raises(InputError, match=message):
        compare([model], [0], tmp_path, {'data_root': str(tmp_path)})


def test_a_head_of_object_queries_has_no_map_to_draw():
    from torch import nn

    from perception3d.apis.compare import _range_of

    model, head = nn.Module(), nn.Module()
    head.range_m = (-51.2, -51.2, -5.0, 51.2, 51.2, 3.0)
    model.bbox_head = head
    with pytest.raises(InputError, match='logits on a map'):
        _range_of(model)
    head.range_m = (-25.6, -25.6, 25.6, 25.6)
    assert _range_of(model) == head.range_m
