"""Which phases a run goes through, and what each of them is given.

The topology stage may begin on smaller pictures and a coarser lattice; refining replaces
parameters and optimiser, so it ends one phase and begins the next.
"""

from dataclasses import dataclass
from typing import Literal

__all__ = ["Phase", "phases", "seconds_of"]

_COARSE_SHARE = 0.3  # of the topology stage's steps
_SMALLEST_LATTICE = 16  # cells: a coarser one has lost the object
_SMALLEST_IMAGE = 96  # pixels

# Held back from a time budget: charts and baking between the stages; then exports,
# evaluation, pictures and report. Seconds, and a fraction of the budget.
_BETWEEN = (5.0, 0.04)
_AFTER = (10.0, 0.06)


@dataclass(frozen=True)
class Phase:
    """One run of the loop with one set of parameters."""

    name: str
    stage: Literal["topology", "mesh"]
    steps: int
    resolution: int = 0  # cells along an axis of the lattice; topology only
    shrink: int = 1  # pictures are smaller by this factor


def phases(
    steps: tuple[int, int],
    resolution: int,
    image_size: tuple[int, int],
    coarse_to_fine: bool,
    from_mesh: bool,
) -> tuple[Phase, ...]:
    """The phases of a run.

    Args:
        steps: of the topology stage and of the mesh stage.
        resolution: cells along an axis of the lattice at the end of the topology stage.
        image_size: height and width, pixels.
        coarse_to_fine: begin small.
        from_mesh: a mesh is given; there is no topology stage.
    """
    topology, mesh = steps
    plan: list[Phase] = []
    if not from_mesh:
        coarse = resolution // 2
        if coarse_to_fine and coarse >= _SMALLEST_LATTICE and topology > 1:
            first = max(1, round(topology * _COARSE_SHARE))
            shrink = 2 if min(image_size) >= 2 * _SMALLEST_IMAGE else 1
            plan.append(Phase("topology, coarse", "topology", first, coarse, shrink))
            topology -= first
        plan.append(Phase("topology", "topology", topology, resolution))
    plan.append(Phase("mesh", "mesh", mesh))
    return tuple(plan)


def seconds_of(plan: tuple[Phase, ...], index: int, budget: float, spent: float) -> float:
    """The seconds that phase `index` may take so that the whole command ends in time.

    Steps count as shares here: what is left after the time held back is divided over this
    phase and the later ones in proportion to theirs.
    """
    held = _AFTER[0] + _AFTER[1] * budget
    if plan[index].stage == "topology":
        held += _BETWEEN[0] + _BETWEEN[1] * budget
    later = sum(phase.steps for phase in plan[index:])
    return max(0.0, budget - spent - held) * (plan[index].steps / later if later else 0.0)
