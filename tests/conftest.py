"""Data that tests of several folders share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from nuscenes_tree import HandmadeTree

import perception3d  # noqa: F401  (relaxes the import asserts of mmdet3d before a test imports it)

# Tensors are small in tests: a pool of threads on a busy machine costs more than it gives.
torch.set_num_threads(1)

REPOSITORY = Path(__file__).resolve().parents[1]

# Files whose tests take longest: trainings, commands in processes of their own, kills, and slow references. `make
# test-fast` leaves them out. A single slow test in another file has the marker itself.
SLOW = (
    'apis/test_bad_input.py',
    'apis/test_compare_tool.py',
    'apis/test_demo_checkpoint.py',
    'apis/test_derived_options.py',
    'apis/test_export.py',
    'apis/test_held_folders.py',
    'apis/test_inferencer_threads.py',
    'apis/test_lane_runs.py',
    'apis/test_lidar_custom_runs.py',
    'apis/test_lidar_inference.py',
    'apis/test_lidar_runs.py',
    'apis/test_lidar_seg_runs.py',
    'apis/test_official_splits.py',
    'benchmark/test_benchmark.py',
    'compat/test_lidar_ops_on_cpu.py',
    'compat/test_mmdet_on_cpu.py',
    'datasets/test_nuscenes_lidar_config.py',
    'datasets/test_objects_left_out.py',
    'distill/losses/test_bev_losses.py',
    'distill/losses/test_cpu_kernels.py',
    'distill/test_bev_configs.py',
    'distill/test_distilled_runs.py',
    'distill/test_experiments.py',
    'distill/test_inherit.py',
    'distill/test_point_distiller_configs.py',
    'engine/test_averaging.py',
    'engine/test_cpu.py',
    'engine/test_loader_workers.py',
    'engine/test_resuming.py',
    'engine/test_stream_step.py',
    'engine/test_training.py',
    'engine/test_two_processes.py',
    'experiment/test_experiment_commands.py',
    'experiment/test_experiment_runs.py',
    'formats/custom_boxes/test_lidar_metrics_two_processes.py',
    'formats/kitti/test_kitti_dataset.py',
    'formats/kitti/test_kitti_eval.py',
    'formats/kitti/test_kitti_writer.py',
    'formats/nuscenes/test_nuscenes_categories.py',
    'formats/nuscenes/test_nuscenes_dataset.py',
    'formats/nuscenes/test_nuscenes_metric.py',
    'formats/nuscenes/test_nuscenes_writer.py',
    'geometry/test_threads.py',
    'models/fast_bev/test_configs.py',
    'models/fast_bev/test_convert.py',
    'models/fast_bev/test_fast_bev_export.py',
    'models/lidar_det/test_empty_clouds.py',
    'models/lidar_det/test_empty_clouds_of_mmdet3d.py',
    'ops/test_points_in_boxes.py',
    'robustness/test_kills.py',
    'robustness/test_long_runs.py',
    'simulation/test_seed_digests.py',
    'simulation/test_variety.py',
    'simulation/test_world.py',
    'test_compat.py',
    'test_outputs.py',
    'test_readme.py',
    'visualization/test_visualizer.py',
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests of the slow files."""
    slow = {REPOSITORY / 'tests' / name for name in SLOW}
    for item in items:
        if item.path in slow:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope='module', autouse=True)
def default_scope() -> Iterator[None]:
    """Takes the default scope of registries, which runners of a file set, away from the files after it."""
    yield
    # Not at the top: perception3d is imported before mmengine, whose loaders it replaces.
    from mmengine.registry import DefaultScope

    DefaultScope._instance_dict.clear()


@pytest.fixture(scope='session')
def nuscenes_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A handmade nuScenes tree with info files. Read only: a test that changes something copies it first."""
    from perception3d.formats.nuscenes.info.build import create_infos

    root = tmp_path_factory.mktemp('nuscenes')
    HandmadeTree(root).write({'hand_train': ['scene-a'], 'hand_val': ['scene-b']})
    create_infos(root, progress=False)
    return root


@pytest.fixture(scope='session')
def simulated_semantickitti(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SemanticKITTI tree of the built-in world, with info files and all 19 classes in its validation split.

    Sequences 00, 01 and 11 have 2 scans each, 08 has 8; a scan has about 10,000 points. Read only.
    """
    from perception3d.apis.simulate import simulate
    from perception3d.formats.semantickitti.info import create_infos
    from perception3d.formats.semantickitti.simulate.profiles import PROFILES
    from perception3d.formats.semantickitti.simulate.writer import WRITER
    from perception3d.simulation.jobs import Request

    root = tmp_path_factory.mktemp('simulated_semantickitti')
    simulate(WRITER, Request(root, 0, PROFILES['tiny'], 2, 4))
    create_infos(root, progress=False)
    return root


@pytest.fixture(scope='session')
def simulated_stcrowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny STCrowd tree of the built-in world, with info files. Read only.

    Sequences 1 to 4 train, 100001 and 100002 val, 3 frames each; a scan has about 50,000 points.
    """
    from perception3d.apis.simulate import simulate
    from perception3d.formats.stcrowd.info import create_infos
    from perception3d.formats.stcrowd.simulate.profiles import PROFILES
    from perception3d.formats.stcrowd.simulate.writer import WRITER
    from perception3d.simulation.jobs import Request

    root = tmp_path_factory.mktemp('simulated_stcrowd')
    simulate(WRITER, Request(root, 0, PROFILES['tiny'], 4, 2))
    create_infos(root, progress=False)
    return root


@pytest.fixture(scope='session')
def simulated_lidarseg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny nuScenes-lidarseg tree of the built-in world, with info files and all 16 classes in its split sim_val.

    sim_train has 2 keyframes, sim_val 8, of about 8,000 points; there are no images and no sweeps. Read only.
    """
    from perception3d.apis.simulate import simulate
    from perception3d.formats.nuscenes_lidarseg.info import create_infos
    from perception3d.formats.nuscenes_lidarseg.simulate.profiles import PROFILES
    from perception3d.formats.nuscenes_lidarseg.simulate.writer import WRITER
    from perception3d.simulation.jobs import Request

    root = tmp_path_factory.mktemp('simulated_lidarseg')
    simulate(WRITER, Request(root, 0, PROFILES['tiny'], 1, 4))
    create_infos(root, sweeps=0, progress=False)
    return root


@pytest.fixture(scope='session')
def simulated_culane(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CULane tree of the built-in world, with masks, `extra/` and info files. Read only.

    7 images to train on, 1 for validation and 9 for testing, one of each category; 1640 x 590 pixels.
    """
    from perception3d.apis.simulate import simulate
    from perception3d.formats.culane.info import create_infos
    from perception3d.formats.culane.simulate.profiles import PROFILES
    from perception3d.formats.culane.simulate.writer import WRITER
    from perception3d.simulation.jobs import Request

    root = tmp_path_factory.mktemp('simulated_culane')
    simulate(WRITER, Request(root, 0, PROFILES['tiny'], 8, 9))
    create_infos(root, jobs=1, progress=False)
    return root


@pytest.fixture(scope='session')
def simulated_tusimple(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny TuSimple tree of the built-in world, with masks, lists and info files. Read only.

    7 images to train on, 1 for validation and 4 for testing; 1280 x 720 pixels.
    """
    from perception3d.apis.simulate import simulate
    from perception3d.formats.tusimple.info import create_infos
    from perception3d.formats.tusimple.simulate.profiles import PROFILES
    from perception3d.formats.tusimple.simulate.writer import WRITER
    from perception3d.simulation.jobs import Request

    root = tmp_path_factory.mktemp('simulated_tusimple')
    simulate(WRITER, Request(root, 0, PROFILES['tiny'], 8, 4))
    create_infos(root, jobs=1, progress=False)
    return root


@pytest.fixture(scope='session')
def samples_of() -> Callable[[str], Path]:
    """Returns the folder of a data set's real frames, read only; tests that ask for one that is missing are skipped."""
    root = Path(os.environ.get('PERCEPTION3D_SAMPLES', REPOSITORY.parent / 'shared' / 'samples')).absolute()

    def find(dataset: str) -> Path:
        if not (root / dataset).is_dir():
            pytest.skip(f'PERCEPTION3D_SAMPLES: no real frames in {root / dataset}')
        return root / dataset

    return find


@pytest.fixture(scope='session')
def nuscenes_sample(samples_of: Callable[[str], Path]) -> Path:
    """The real nuScenes keyframe."""
    return samples_of('nuscenes')
