"""Rows copied past the caches are the rows that torch gathers, in every width, on every boundary."""

from __future__ import annotations

import pytest
import torch

from perception3d.ops import scatter
from perception3d.ops.streamed_rows import can_stream, stream_rows


def gathered(rows: torch.Tensor, table: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    return scatter.gather_rows(rows, table.int(), out)


@pytest.mark.parametrize(('channels', 'dtype'), [(64, torch.bfloat16), (32, torch.float32), (64, torch.float32)])
@pytest.mark.parametrize('count', [1, 11, 5000])
def test_streamed_rows_are_those_of_torch(monkeypatch, channels, dtype, count):
    monkeypatch.setattr(scatter, '_STREAM_FROM_BYTES', 0)
    streamed = []
    monkeypatch.setattr(scatter, 'stream_rows', lambda *arrays: streamed.append(1) or stream_rows(*arrays))
    torch.manual_seed(count)
    rows, table = torch.randn(301, channels).to(dtype), torch.randint(-1, 301, (count,))
    table[-1] = -1
    expected = scatter.gather_rows_torch(rows, table)
    out = torch.full((count, channels), 7, dtype=dtype)
    assert gathered(rows, table, out) is out
    assert torch.equal(out, expected) and streamed
    # A target that is not on a boundary of 32 bytes, as a part of a larger tensor may be, is written in the plain way.
    whole = torch.zeros(count * channels + 4, dtype=dtype)
    shifted = whole[4:].view(count, channels)
    assert torch.equal(gathered(rows, table, shifted), expected) and len(streamed) == 1
    assert not whole[:4].any()


def test_large_outputs_are_streamed(monkeypatch):
    sizes = []
    monkeypatch.setattr(scatter, 'stream_rows', lambda source, table, target: sizes.append(target.nbytes))
    rows = torch.zeros(5, 64)
    for count in (1 << 17, (1 << 17) - 1):
        gathered(rows, torch.zeros(count))
    assert sizes == [32 << 20]


def test_other_widths_are_not_streamed():
    words = torch.zeros(4, 24, dtype=torch.int64).numpy()
    assert not can_stream(words, words)
    assert not can_stream(words[:, :16], words)
    assert not can_stream(words.view('int32')[:, :16].copy(), words)
