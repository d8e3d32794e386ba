"""The crowds of the built-in world: nobody walks through anybody, people move as their pose says, who hides whom."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from perception3d.simulation.capture import SweepRecorder
from perception3d.simulation.rig import crowd_rig
from perception3d.simulation.world.agents import make_body, still
from perception3d.simulation.world.crowd_motion import LEAST_SPACING_M, too_near
from perception3d.simulation.world.crowd_people import CHILD_CLASSES, CROWD_CLASSES, SITTING, STANDING, WALKING
from perception3d.simulation.world.crowd_places import KINDS
from perception3d.simulation.world.crowd_scene import make_crowd_scene
from perception3d.simulation.world.scene import Scene

SECONDS = 4.0


@pytest.fixture(scope='module')
def scenes() -> list[Scene]:
    return [make_crowd_scene(3, index, SECONDS) for index in range(len(KINDS))]


def test_nobody_walks_through_anybody(scenes: list[Scene]) -> None:
    assert [scene.layout.kind for scene in scenes] == list(KINDS)
    nearest = []
    for scene in scenes:
        assert len(scene.agents) > 10
        # A few are behind the sensors.
        assert any(agent.track[0, 0] < -2 for agent in scene.agents)
        # Also between the times of the tracks.
        for time_s in np.arange(0.0, SECONDS, 0.13):
            places = scene.poses(float(time_s))[:, :2]
            nearest.append(pdist(places).min())
            # The vehicle of the sensors is at the origin.
            assert np.hypot(*places.T).min() > 1.9
    assert LEAST_SPACING_M <= min(nearest) < 0.6


def test_people_do_what_their_pose_says(scenes: list[Scene]) -> None:
    poses: dict[str, list[np.ndarray]] = {}
    for scene in scenes:
        for agent in scene.agents:
            run = np.linalg.norm(np.diff(agent.track[:, :2], axis=0), axis=1) / scene.clock.step_s
            heading = np.stack([np.cos(agent.track[:-1, 2]), np.sin(agent.track[:-1, 2])], -1)
            ahead = (np.diff(agent.track[:, :2], axis=0) * heading).sum(1) / scene.clock.step_s
            poses.setdefault(agent.name, []).append(np.array([run.mean(), run.max(), ahead.mean()]))
            assert (agent.name == SITTING) == (agent.body.size_m[2] < 1.2)
    mean = {name: np.array(rows) for name, rows in poses.items()}
    assert (mean[SITTING][:, 1] == 0).all()
    assert mean[STANDING][:, 0].mean() < 0.1
    assert 0.7 < np.median(mean[WALKING][:, 0]) < 1.4 and mean[WALKING][:, 1].max() < 3.5
    # People walk the way they look.
    assert np.median(mean[WALKING][:, 2] / mean[WALKING][:, 0]) > 0.95


def test_a_scene_depends_on_its_number_alone(scenes: list[Scene]) -> None:
    again = make_crowd_scene(3, 1, SECONDS)
    for first, second in zip(again.agents, scenes[1].agents, strict=True):
        assert np.array_equal(first.track, second.track) and first.body.size_m == second.body.size_m
    assert not np.array_equal(scenes[1].agents[0].track, scenes[0].agents[0].track)


def test_who_comes_too_near_is_left_out() -> None:
    times = np.linspace(0, 1, 5)[:, None]
    # The first two pass each other between two times of the grid, 0.2 m apart; the third stands in a post.
    tracks = np.zeros((4, 5, 3))
    tracks[0, :, :2] = times * [2.0, 0.0]
    tracks[1, :, :2] = [2.25, 0.2] - times * [2.0, 0.0]
    tracks[2, :, :2] = [5.1, 0.0]
    tracks[3, :, :2] = [5.6, 0.0]
    assert too_near(tracks, np.array([[5.0, 0.0, 0.2]])) == [1, 2]


def test_the_visible_share_is_that_of_the_person_alone(scenes: list[Scene]) -> None:
    rng = np.random.default_rng(0)
    bodies = [make_body(rng, STANDING, classes=CROWD_CLASSES) for _ in range(3)]
    # The second is 0.6 m behind the first, the third stands alone.
    steps = scenes[0].clock.steps
    agents = [still(body, *place, np.pi, steps) for body, place in zip(bodies, [(6, 0), (6.6, 0), (7, 4)])]
    empty = scenes[0].scenery
    scene = replace(scenes[0], agents=agents, scenery=replace(empty, center=empty.center + np.float32(500)))
    recorder = SweepRecorder(scene, crowd_rig(512))
    sweep, _ = recorder.sweep(0.05)
    alone = recorder.points_alone(0.05)
    share = np.bincount(sweep.owner[sweep.owner >= 0], minlength=3) / alone
    assert alone.min() > 60 and abs(share[0] - 1) < 0.05 and abs(share[2] - 1) < 0.05 and share[1] < 0.6
    only = SweepRecorder(replace(scene, agents=agents[1:2]), crowd_rig(512))
    assert only.points_alone(0.05)[0] == alone[1]
    # A child hides less: its head is lower.
    child = replace(agents[0], body=make_body(rng, STANDING, classes=CHILD_CLASSES))
    behind = SweepRecorder(replace(scene, agents=[child, *agents[1:]]), crowd_rig(512)).sweep(0.05)[0]
    assert (behind.owner == 1).sum() > (sweep.owner == 1).sum()
