"""nuScenes-lidarseg: the nuScenes tree of the built-in world with `lidarseg/` and `panoptic/` of every keyframe."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np

from perception3d.files import write_bytes
from perception3d.formats.nuscenes.simulate.tables import fixed_tables, token
from perception3d.formats.nuscenes.simulate.writer import VERSION, SceneWriter, write_tables
from perception3d.formats.nuscenes_lidarseg.simulate.labels import CATEGORY_INDEX, panoptic_labels
from perception3d.formats.nuscenes_lidarseg.simulate.profiles import POPULATION, NuScenesLidarsegProfile
from perception3d.simulation.jobs import Job, Request, Writer
from perception3d.simulation.render.lidar import Sweep
from perception3d.simulation.rig import NUSCENES_RIG, Rig


class LabelledSceneWriter(SceneWriter):
    """Writes the files of one scene with the labels of its keyframes."""

    population = POPULATION

    def __init__(self, job: Job[NuScenesLidarsegProfile]) -> None:
        super().__init__(job)
        self.tables.rows.update(lidarseg=[], panoptic=[])

    def draw_rig(self, rng: np.random.Generator) -> Rig:
        """Returns the sensors of the scene, with the columns of the profile and without cameras if it has no images."""
        rig = super().draw_rig(rng)
        lidar = replace(rig.lidar, model=replace(rig.lidar.model, columns=self.profile.columns))
        return Rig(rig.cameras if self.profile.images else (), lidar)

    def keep_keyframe(self, token: str, sweep: Sweep) -> None:
        """Writes the labels of a keyframe and adds their rows."""
        labels = panoptic_labels(sweep, self.recorder.scene.agents)
        packed = io.BytesIO()
        np.savez_compressed(packed, data=labels)
        for table, suffix, content in (
            ('lidarseg', '_lidarseg.bin', (labels // 1000).astype(np.uint8).tobytes()),
            ('panoptic', '_panoptic.npz', packed.getvalue()),
        ):
            filename = f'{table}/{VERSION}/{token}{suffix}'
            write_bytes(self.request.out / filename, content)
            self.tables.rows[table].append({'token': token, 'sample_data_token': token, 'filename': filename})


def write_scene(job: Job[NuScenesLidarsegProfile]) -> dict[str, Any]:
    """Writes one scene's files; returns its rows of the tables."""
    return LabelledSceneWriter(job).write()


def finish(
    request: Request[NuScenesLidarsegProfile],
    jobs: list[Job[NuScenesLidarsegProfile]],
    records: list[dict[str, Any]],
) -> None:
    """Writes the tables of nuScenes, those of the labels, and the custom splits `sim_train` and `sim_val`."""
    cameras = [camera.name for camera in NUSCENES_RIG.cameras if request.profile.images]
    tables = fixed_tables([NUSCENES_RIG.lidar.name, *cameras])
    tables['category'] = [
        {'token': token('category', name), 'name': name, 'description': '', 'index': index}
        for name, index in CATEGORY_INDEX.items()
    ]
    write_tables(request, jobs, records, tables)


WRITER = Writer('nuscenes-lidarseg', write_scene, finish)
