"""Commands that are killed and run again give the results of undisturbed ones; see kills.py for all 40 kills."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_five_killed_commands_end_with_the_results_of_undisturbed_ones(tmp_path):
    script = Path(__file__).with_name('kills.py')
    command = [sys.executable, str(script), '--suite', '--out', str(tmp_path)]
    out = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert out.returncode == 0, out.stdout[-2000:] + out.stderr[-2000:]
    kills = json.loads((tmp_path / 'kills.json').read_text())['kills']
    assert len(kills) == 5 and all(kill['equal'] and kill['gone_s'] is not None for kill in kills)
