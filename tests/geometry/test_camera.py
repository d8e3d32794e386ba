"""perception3d.geometry.camera against general inverses, pyquaternion and the written-out pinhole formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from perception3d.geometry import camera


def random_pose(rng: np.random.Generator, shape: tuple[int, ...] = ()) -> np.ndarray:
    return camera.rigid(rng.normal(size=(*shape, 4)), rng.normal(size=(*shape, 3)) * 10)


def test_rotation_matrix_of_known_quaternions():
    half = np.sqrt(0.5)
    quaternions = np.array([[1, 0, 0, 0], [half, 0, 0, half], [half, half, 0, 0], [3.0, 0, 0, 0]])
    expected = [np.eye(3), [[0, -1, 0], [1, 0, 0], [0, 0, 1]], [[1, 0, 0], [0, 0, -1], [0, 1, 0]], np.eye(3)]
    np.testing.assert_allclose(camera.rotation_matrix(quaternions), expected, atol=1e-15)


def test_rotation_matrix_is_pyquaternions():
    pyquaternion = pytest.importorskip('pyquaternion')
    q = np.random.default_rng(0).normal(size=4)
    np.testing.assert_allclose(camera.rotation_matrix(q), pyquaternion.Quaternion(q).rotation_matrix, atol=1e-12)


@pytest.mark.parametrize('spread', [(1, 0.02, 0.02, 1), (1, 1, 1, 1)])
def test_quaternions_of_matrices_are_pyquaternions_to_the_last_digit(spread: tuple[float, ...]):
    pyquaternion = pytest.importorskip('pyquaternion')
    rng = np.random.default_rng(3)
    for _ in range(40):
        rotation = camera.rotation_matrix(rng.normal(size=4) * spread) @ camera.rotation_matrix(rng.normal(size=4))
        yaws = rng.uniform(-3.2, 3.2, 2)
        quaternion = pyquaternion.Quaternion(matrix=rotation, rtol=1e-5, atol=1e-7)
        yawed = [quaternion * pyquaternion.Quaternion(axis=[0, 0, 1], radians=yaw) for yaw in yaws]
        own = camera.quaternion_wxyz(rotation)
        assert (own == quaternion.elements).all()
        assert (camera.yawed_quaternions(own, yaws) == [one.elements for one in yawed]).all()
        np.testing.assert_allclose(camera.rotation_matrix(own), rotation, atol=1e-14)


@pytest.mark.parametrize('shape', [(), (5,), (2, 3)])
def test_invert_rigid_is_the_inverse_for_numpy_and_torch(shape: tuple[int, ...]):
    pose = random_pose(np.random.default_rng(1), shape)
    np.testing.assert_allclose(camera.invert_rigid(pose), np.linalg.inv(pose), atol=1e-12)
    np.testing.assert_allclose(camera.invert_rigid(torch.from_numpy(pose)).numpy(), np.linalg.inv(pose), atol=1e-12)


def test_chain_reads_left_to_right():
    rng = np.random.default_rng(2)
    a_from_b, b_from_c, points = random_pose(rng), random_pose(rng), rng.normal(size=(7, 3))
    step_by_step = camera.transform(camera.transform(points, b_from_c), a_from_b)
    np.testing.assert_allclose(camera.transform(points, camera.chain(a_from_b, b_from_c)), step_by_step, atol=1e-12)
