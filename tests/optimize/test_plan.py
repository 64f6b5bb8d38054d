"""The phases of a run, and its clock."""

import pytest

from isolux.optimize.clock import Clock
from isolux.optimize.plan import phases, seconds_of


@pytest.mark.parametrize("topology", [0, 1, 2, 7, 1000])
@pytest.mark.parametrize("coarse", [True, False])
def test_phases_share_out_all_steps(topology: int, coarse: bool) -> None:
    plan = phases((topology, 30), 64, (256, 256), coarse, False)
    assert sum(p.steps for p in plan if p.stage == "topology") == topology
    assert plan[-1].stage == "mesh"
    assert plan[-1].steps == 30
    assert plan[-2].resolution == 64


def test_a_given_mesh_has_no_topology_stage() -> None:
    assert [p.stage for p in phases((100, 30), 64, (256, 256), True, True)] == ["mesh"]


def test_small_pictures_are_not_shrunk() -> None:
    assert all(p.shrink == 1 for p in phases((100, 30), 64, (64, 64), True, False))


def test_a_budget_is_never_overdrawn() -> None:
    plan = phases((600, 400), 64, (256, 256), True, False)
    budget, spent = 600.0, 5.0
    for index in range(len(plan)):
        spent += seconds_of(plan, index, budget, spent)
    assert spent < budget
    assert seconds_of(plan, 0, 10.0, 60.0) == 0.0


def test_clock_goes_by_steps_or_by_time() -> None:
    assert [Clock(4).progress(s) for s in range(5)] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert Clock(0).progress(0) == 1.0
    assert Clock(10, seconds=0.0).progress(0) == 1.0
    assert Clock(10, seconds=5.0, already=6.0).progress(3) == 1.0
    assert Clock(10, seconds=1e9).progress(1000) < 1e-3


def test_steps_of_a_stage_that_goes_by_time() -> None:
    """An estimate on the way, more than are done; at the end what was made."""
    assert Clock(10).expected_steps(3) == 10
    assert Clock(10, seconds=1e9).expected_steps(7) > 7
    assert Clock(10, seconds=2e6, already=1e6).expected_steps(20) == 40
    assert Clock(10, seconds=5.0, already=6.0).expected_steps(31) == 31
