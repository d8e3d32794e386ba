"""Compares TuSimple's scores with those of the official lane.py, bit for bit, image by image; run by hand.

git clone https://github.com/TuSimple/tusimple-benchmark && pip install scikit-learn
python tests/formats/tusimple/official_tusimple.py tusimple-benchmark/evaluate/lane.py 2000
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from test_tusimple_eval import ROWS, random_image

from perception3d.formats.tusimple.evaluation.accuracy import score_image
from perception3d.formats.tusimple.evaluation.label_files import evaluate_label_files

# Slopes whose limit is a whole number of pixels: a distance may be equal to it.
WHOLE_LIMITS = ((0.75, 25), (-0.75, 25), (1.05, 29), (0, 20))


def official(path: Path) -> Any:
    """Returns the class of the official file, which Python 3 cannot compile whole: its last part prints."""
    module = ModuleType('lane')
    # It reads JSON by ujson; the content of these files is the same by json.
    sys.modules.setdefault('ujson', json)
    exec(compile(path.read_text().partition('if __name__')[0], str(path), 'exec'), module.__dict__)
    return module.LaneEval


def image(number: int) -> tuple[list, list, float]:
    """Returns predicted and annotated lanes and the time; in every fourth image lanes exactly at the limit."""
    pred, gt, run_time = random_image(np.random.default_rng([7, number]))
    if number % 4 == 0 and gt:
        slope, limit = WHOLE_LIMITS[number // 4 % 4]
        gt[0] = [600 + slope * (y - 160) for y in ROWS]
        pred = [[x + away for x in gt[0]] for away in (limit, -limit, limit - 1)]
    return pred, gt, run_time


def main() -> int:
    """Prints how many images differ, and the scores of all in files; returns 0 if nothing differs."""
    tool, count = official(Path(sys.argv[1])), int(sys.argv[2])
    different, lines = 0, {'gt': [], 'pred': []}
    for number in range(count):
        pred, gt, run_time = image(number)
        own, theirs = score_image(pred, gt, ROWS, run_time), tool.bench(pred, gt, ROWS, run_time)
        if theirs != (own.accuracy, own.fp, own.fn):
            different += 1
            print(f'{number}: {own}, official {theirs}')
        lines['gt'].append(json.dumps({'raw_file': str(number), 'lanes': gt, 'h_samples': ROWS}))
        lines['pred'].append(json.dumps({'raw_file': str(number), 'lanes': pred, 'run_time': run_time}))
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / name for name in lines}
        for name, path in files.items():
            path.write_text('\n'.join(lines[name]))
        theirs = [entry['value'] for entry in json.loads(tool.bench_one_submit(files['pred'], files['gt']))]
        own, _ = evaluate_label_files(files['gt'], files['pred'])
    print(f'{count} images compared, {different} differ; {own}, official {theirs}')
    return int(different > 0 or theirs != [own[key] for key in ('accuracy', 'fp', 'fn')])


if __name__ == '__main__':
    sys.exit(main())
