"""Memory and answers of long runs: thousands of frames through one stream or one Inferencer, from one and two threads.

    python tests/robustness/memory.py --out docs/results          # memory.json and memory.md
    python tests/robustness/memory.py --out FOLDER --frames 300 --clouds 100

Four runs, each in a process of its own: `stream` passes frames of rendered scenes through the test step that
`tools/test.py --stream` takes, with the tiny Fast-BEV of four frames; `clouds` asks one Inferencer (fast) of the tiny
PointPillars for clouds of many sizes, of which every twentieth has no point in range and every twentieth no point at
all. Each is done with one thread and with two. Weights are random.

Resident memory is read after every frame. Its mean over the last third of a run may be at most 2 % above that of the
second third. Each answer must be, bit for bit, that of a single call: of a stream that saw this scene alone, of an
Inferencer that was made for this cloud alone (every 25th cloud), of the run with one thread (all clouds).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
# The imports below need the path above (E402).

import numpy as np  # noqa: E402
import torch  # noqa: E402
from mmengine.dataset import pseudo_collate  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402

from perception3d.apis.config import load_config  # noqa: E402
from perception3d.apis.inferencer import Inferencer  # noqa: E402
from perception3d.benchmark.report import machine, markdown_table  # noqa: E402
from perception3d.engine.stream_step import StreamStep  # noqa: E402
from perception3d.files import write_json, write_whole  # noqa: E402
from perception3d.models.fast_bev.streaming import HISTORY_S, FastBEVStream  # noqa: E402
from perception3d.registry import DATASETS, MODELS  # noqa: E402

CAMERA = ROOT / 'configs/fast_bev/fast_bev_tiny_4frame_96x352_9e_sim.py'
LIDAR = ROOT / 'configs/point_pillars/point_pillars_tiny_10e_kitti_sim.py'
MAX_GROWTH = 0.02
SINGLE_EVERY = 25
RUNS = (('stream', 1), ('stream', 2), ('clouds', 1), ('clouds', 2))


class Watch:
    """Notes resident memory in MiB, in the order of time, and digests of answers by name."""

    def __init__(self) -> None:
        self.resident_mib: list[float] = []
        self.digests: dict[str, str] = {}
        self.different: list[str] = []

    def note(self, name: str, answer: str, expected: str | None) -> None:
        """Notes the digest of an answer, and whether it is the expected one."""
        self.digests[name] = answer
        if expected not in (None, answer):
            self.different.append(name)
        pages = int(Path('/proc/self/statm').read_text().split()[1])
        self.resident_mib.append(pages * os.sysconf('SC_PAGE_SIZE') / 2**20)


def digest(sample: Any) -> str:
    """Returns a text that differs for other boxes, scores or labels; 'nothing' without boxes."""
    predicted = sample.pred_instances_3d
    if not len(predicted):
        return 'nothing'
    parts = (predicted.bboxes_3d.tensor, predicted.scores_3d, predicted.labels_3d)
    return hashlib.sha256(b''.join(part.contiguous().numpy().tobytes() for part in parts)).hexdigest()[:16]


def growth(resident_mib: Sequence[float]) -> float:
    """Returns by which share the mean of the last third lies above that of the second third."""
    second, last = np.array_split(np.asarray(resident_mib), 3)[1:]
    return float(last.mean() / second.mean() - 1)


def in_threads(work: Callable[[int], None], threads: int) -> None:
    """Runs work(0) .. work(threads - 1), each in a thread of its own, and raises what one of them raised."""
    errors: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    running = [threading.Thread(target=guarded, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    if errors:
        raise errors[0]


def run_stream(root: Path, frames: int, threads: int) -> Watch:
    """Passes `frames` frames of the scenes below `root` through streams of one model, one stream a thread."""
    config = load_config(CAMERA, {'data_root': str(root)})
    init_default_scope(config.default_scope)
    torch.manual_seed(0)
    model = MODELS.build(config.model).eval()

    def ask(step: StreamStep, dataset: Any, index: int, suffix: str) -> str:
        data = dataset[index]
        data['data_samples'].set_metainfo({'scene_token': data['data_samples'].metainfo['scene_token'] + suffix})
        return digest(step(pseudo_collate([data]))[0])

    def make_step() -> StreamStep:
        return StreamStep(FastBEVStream(model, HISTORY_S))

    datasets = [DATASETS.build(config.test_dataloader['dataset']) for _ in range(threads)]
    scenes: dict[str, list[int]] = {}
    for index in range(len(datasets[0])):
        scenes.setdefault(datasets[0].get_data_info(index)['scene_token'], []).append(index)
    expected = {}
    for indices in scenes.values():
        step = make_step()
        expected.update({index: ask(step, datasets[0], index, '') for index in indices})
    watch, order = Watch(), list(scenes.values())

    def work(thread: int) -> None:
        step, done, turn = make_step(), 0, thread
        # Every thread drives through the scenes in turn, and begins with another one.
        while done < frames // threads:
            for index in order[turn % len(order)][: frames // threads - done]:
                answer = ask(step, datasets[thread], index, f' {turn}')
                watch.note(f'{thread} {turn} {index}', answer, expected[index])
                done += 1
            turn += 1

    in_threads(work, threads)
    return watch


def cloud_of(number: int, base: np.ndarray) -> np.ndarray:
    """Returns cloud `number` (N, 4): some of the points of `base`, a little aside; N is 0 for 0, 20, 40, ...

    Of 10, 30, 50, ... no point is in range.
    """
    rng = np.random.default_rng(number)
    if number % 20 == 0:
        return np.zeros((0, 4), np.float32)
    count = int(len(base) * rng.random() ** 2) + 1
    points = base[rng.permutation(len(base))[:count]].copy()
    points[:, :2] += rng.uniform(-2, 2, 2) + (1000 if number % 20 == 10 else 0)
    return points


def run_clouds(root: Path, clouds: int, threads: int) -> Watch:
    """Asks one Inferencer for `clouds` clouds, made of those below `root`; threads take them in turn."""
    files = sorted((root / 'training/velodyne').glob('*.bin'))
    bases = [np.fromfile(file, np.float32).reshape(-1, 4) for file in files]
    config = load_config(LIDAR, {'data_root': str(root)})
    config.model.test_cfg.score_thr = 0.0
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder, 'random.pth')
        torch.manual_seed(0)
        torch.save({'state_dict': MODELS.build(config.model).state_dict()}, weights)

        def ask(inferencer: Inferencer, number: int) -> str:
            path = Path(folder, f'{number:06d}.bin')
            cloud_of(number, bases[number % len(bases)]).tofile(path)
            try:
                (sample,) = inferencer(path)
            finally:
                path.unlink()
            return digest(sample)

        def make() -> Inferencer:
            return Inferencer(config, weights, device='cpu', fast=True)

        expected = {number: ask(make(), number) for number in range(1, clouds, SINGLE_EVERY)}
        inferencer = make()
        # Nothing in range means no boxes, and so does a file without points.
        expected.update({number: 'nothing' for number in range(0, clouds, 10)})

        def work(thread: int) -> None:
            for number in range(thread, clouds, threads):
                watch.note(str(number), ask(inferencer, number), expected.get(number))

        in_threads(work, threads)
    return watch


def make_worlds(folder: Path) -> None:
    """Renders six scenes of five frames for the camera and four clouds for the LiDAR into `folder`."""
    from tools import create_data, simulate

    camera, lidar = str(folder / 'camera'), str(folder / 'lidar')
    small = ['--profile', 'tiny', '--jobs', '1']
    simulate.main(['nuscenes', '--out', camera, '--scenes', '1', '--val-scenes', '6', '--keyframes', '5', *small])
    create_data.main(['nuscenes', '--root', camera])
    simulate.main(['kitti', '--out', lidar, '--scenes', '3', '--val-scenes', '1', *small])


def run_one(name: str, threads: int, count: int, data: Path) -> dict[str, Any]:
    """Does one run in this process and returns its figures."""
    torch.set_num_threads(1)
    start = time.perf_counter()
    root = data / ('camera' if name == 'stream' else 'lidar')
    watch = {'stream': run_stream, 'clouds': run_clouds}[name](root, count, threads)
    thirds = [float(part.mean()) for part in np.array_split(np.asarray(watch.resident_mib), 3)]
    return {
        'run': name,
        'threads': threads,
        'frames': len(watch.resident_mib),
        'without boxes': sum(value == 'nothing' for value in watch.digests.values()),
        'refused': sum(value.startswith('refused') for value in watch.digests.values()),
        'different': watch.different,
        'thirds_mib': [round(value, 2) for value in thirds],
        'growth': round(growth(watch.resident_mib), 5),
        'seconds': round(time.perf_counter() - start, 1),
        'resident_mib': [round(value, 1) for value in watch.resident_mib[:: max(1, len(watch.resident_mib) // 100)]],
        'digests': watch.digests,
    }


def compare_threads(results: list[dict[str, Any]]) -> None:
    """Counts, for clouds asked by two threads, the answers that differ from those of the run with one thread."""
    one, two = (next((r for r in results if (r['run'], r['threads']) == ('clouds', n)), None) for n in (1, 2))
    if one and two:
        others = {name for name, value in two['digests'].items() if one['digests'].get(name) != value}
        two['different'] = sorted({*two['different'], *others}, key=int)


def write_results(out: Path, results: list[dict[str, Any]]) -> bool:
    """Writes memory.json and memory.md; returns whether memory was flat and every answer right."""
    compare_threads(results)
    rows = [
        {
            'run': f'{result["run"]}, {result["threads"]} thread{"s" if result["threads"] > 1 else ""}',
            'frames': str(result['frames']),
            'without boxes': str(result['without boxes']),
            'refused': str(result['refused']),
            'results that differ': str(len(result['different'])),
            'MiB, second third': f'{result["thirds_mib"][1]:.1f}',
            'MiB, last third': f'{result["thirds_mib"][2]:.1f}',
            'growth': f'{100 * result["growth"]:+.2f} %',
        }
        for result in results
    ]
    good = all(not result['different'] and result['growth'] <= MAX_GROWTH for result in results)
    facts = machine(torch.device('cpu'))
    for result in results:
        result.pop('digests')
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / 'memory.json', {'machine': facts, 'runs': results}, indent=1)
    with write_whole(out / 'memory.md') as path:
        path.write_text(page(facts, rows, good))
    return good


def page(facts: dict[str, Any], rows: list[dict[str, str]], good: bool) -> str:
    """Returns the page with the table `rows`."""
    return f"""# Memory of long runs

Does memory grow over thousands of frames, and does a frame get the same result as in a call of its own?

{markdown_table(rows)}

{'**Passed**' if good else '**Failed**'}: memory may grow by {100 * MAX_GROWTH:g} % from the second to the last
third of a run, and every result must equal that of a single call, bit for bit. `stream`: frames of rendered scenes
through `test --stream` of the tiny Fast-BEV with four frames. `clouds`: one `Inferencer` of the tiny PointPillars; one
in twenty of its clouds has no point in range, and one in twenty no point at all. Weights are random.

Other work ran on the machine ({facts['processor']}, torch {facts['torch']}, Python {facts['python']}), so the times in
`memory.json` do not measure speed.

    python tests/robustness/memory.py --out docs/results
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, does all runs, or with --run one of them, and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, required=True, help='folder for memory.json and memory.md')
    parser.add_argument('--frames', type=int, default=3000, help='frames of each stream run (default 3000)')
    parser.add_argument('--clouds', type=int, default=1000, help='clouds of each Inferencer run (default 1000)')
    parser.add_argument('--data', type=Path, help='folder for the rendered world (default: a temporary one)')
    parser.add_argument('--run', nargs=2, metavar=('NAME', 'THREADS'), help='one run alone, into OUT/NAME_THREADS.json')
    args = parser.parse_args(argv)
    counts = {'stream': args.frames, 'clouds': args.clouds}
    if args.run:
        name, threads = args.run[0], int(args.run[1])
        args.out.mkdir(parents=True, exist_ok=True)
        write_json(args.out / f'{name}_{threads}.json', run_one(name, threads, counts[name], args.data))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        data = args.data or Path(folder)
        if not (data / 'lidar').exists():
            make_worlds(data)
        results = []
        for name, threads in RUNS:
            command = [sys.executable, __file__, '--out', folder, '--data', str(data), '--run', name, str(threads)]
            command += ['--frames', str(args.frames), '--clouds', str(args.clouds)]
            subprocess.run(command, check=True, env={**os.environ, 'OMP_NUM_THREADS': '1'})
            results.append(json.loads(Path(folder, f'{name}_{threads}.json').read_text()))
            print({key: value for key, value in results[-1].items() if key not in ('digests', 'resident_mib')})
        return 0 if write_results(args.out, results) else 1


if __name__ == '__main__':
    sys.exit(main())
