"""Clip planes that leave nothing of the object are told before the first step."""

import pytest
import torch

from isolux.geometry.cameras import Cameras, look_at
from isolux.optimize.depths import check_depths

CENTRE = torch.tensor([1.0, 2.0, 3.0])


def cameras(distance: float) -> Cameras:
    """Six along the axes, of a cube about CENTRE."""
    eye = CENTRE + distance * torch.cat([torch.eye(3), -torch.eye(3)])
    pose = look_at(eye, CENTRE, torch.tensor([0.3, 0.8, 0.5]))
    return Cameras(pose, torch.full((6, 2), 50.0), torch.full((6, 2), 25.0), 50, 50)


@pytest.mark.parametrize(("near", "far"), [(0.1, 100.0), (4.9, 6.0), (0.1, 3.1), (4.0, 4.1)])
def test_some_of_the_object_is_enough(near: float, far: float) -> None:
    check_depths(cameras(4.0), CENTRE, 2.0, near, far)


def test_nothing_of_it_is_told_with_its_place() -> None:
    with pytest.raises(ValueError, match=r"data\.near=5\.5: .* 3 to 5 before .* below 3$"):
        check_depths(cameras(4.0), CENTRE, 2.0, 5.5, 100.0)
    with pytest.raises(ValueError, match=r"data\.far=2\.5: .* 3 to 5 before .* beyond 5$"):
        check_depths(cameras(4.0), CENTRE, 2.0, 0.1, 2.5)
    with pytest.raises(ValueError, match=r"0 to 1\.5 before .* well below 1\.5$"):
        check_depths(cameras(0.5), CENTRE, 2.0, 5.5, 100.0)


def test_one_camera_that_sees_it_is_enough() -> None:
    near, far = cameras(4.0), cameras(40.0)
    both = Cameras(
        torch.cat([near.world_from_camera, far.world_from_camera[:1]]),
        torch.full((7, 2), 50.0), torch.full((7, 2), 25.0), 50, 50,
    )  # fmt: skip
    check_depths(both, CENTRE, 2.0, 20.0, 100.0)
