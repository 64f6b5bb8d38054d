"""The loop: objective, guard, step. Everything else watches it."""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from isolux.optimize.clock import Clock
from isolux.optimize.distributed import ALONE, Group
from isolux.optimize.observers import Observer, StepInfo
from isolux.optimize.weights import Ramp, weighted_sum

__all__ = ["Gradients", "Objective", "fit", "plain"]

Objective = Callable[[int, float], dict[str, Tensor]]  # from step and progress to named terms
# From step and progress to the terms and their weighted sum, numbers only: the gradients of the
# sum are left at the parameters.
Gradients = Callable[[int, float], tuple[dict[str, Tensor], Tensor]]


def fit(
    stage: str,
    objective: Objective,
    weights: Mapping[str, Ramp],
    optimizer: torch.optim.Optimizer,
    decay: float,
    clock: Clock,
    first: int = 0,
    observers: Sequence[Observer] = (),
    after_step: Callable[[], None] = lambda: None,
    seconds: Callable[[], float] = lambda: 0.0,
    group: Group = ALONE,
    gradients: Gradients | None = None,
) -> int:
    """Minimise the objective until the clock says that the stage is over.

    Args:
        stage: its name, for the observers.
        objective: from step and progress to named terms: renders a batch and compares.
        weights: one for every term.
        optimizer: with a rate `initial_lr` in each group, which falls by the factor `decay`.
        decay: of the rates over the stage.
        clock: says how far the stage has come.
        first: the step to begin with; more than zero when a run is resumed.
        observers: told of every step.
        after_step: puts parameters back into their range.
        seconds: that the run has taken so far, for the observers.
        group: of processes that do the same steps; gradients and terms are averaged over it.
        gradients: another way to those of the objective than `plain`.

    Returns:
        The number of steps that the stage has made.

    Raises:
        FloatingPointError: at the first term or gradient that is not finite, by name and
            step, before it reaches a parameter.
    """
    step = first
    gradients = gradients or plain(objective, weights, optimizer)
    parameters = [p for param_group in optimizer.param_groups for p in param_group["params"]]
    while (progress := group.same(clock.progress(step))) < 1.0:
        for rates in optimizer.param_groups:
            rates["lr"] = rates["initial_lr"] * decay**progress
        terms, total = gradients(step, progress)
        *means, mean_total = group.means([*terms.values(), total])
        told = dict(zip(terms, means, strict=True))
        group.average(parameters)
        total_is_finite, bad_groups = _looked_at(mean_total, optimizer)
        if not total_is_finite:
            bad = {name: term.item() for name, term in told.items() if not term.isfinite()}
            said = f"terms are not finite: {bad or 'their sum overflows'}"
            raise FloatingPointError(f"{stage}, step {step}: {said}")
        if bad_groups:
            guilty = _guilty(objective(step, progress), weights, progress, parameters)
            raise FloatingPointError(
                f"{stage}, step {step}: gradients of {bad_groups} are not finite, "
                f"from the terms {group.union(guilty)}"
            )
        optimizer.step()
        after_step()
        info = StepInfo(
            stage=stage,
            step=step,
            steps=clock.expected_steps(step + 1),
            raw_terms=told,
            raw_total=mean_total,
            seconds=seconds(),
            progress=clock.progress(step + 1),
        )
        step += 1
        for observer in observers:
            observer(info)
    return step


def plain(
    objective: Objective, weights: Mapping[str, Ramp], optimizer: torch.optim.Optimizer
) -> Gradients:
    """Terms and gradients of an objective, by going forward and back."""

    def gradients(step: int, progress: float) -> tuple[dict[str, Tensor], Tensor]:
        terms = objective(step, progress)
        total = weighted_sum(terms, weights, progress)
        optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        return {name: term.detach() for name, term in terms.items()}, total.detach()

    return gradients


def _looked_at(total: Tensor, optimizer: torch.optim.Optimizer) -> tuple[bool, list[str]]:
    """Whether the total is finite, and the names of groups with a gradient that is not."""
    sums, owners = [total], [""]
    for number, group in enumerate(optimizer.param_groups):
        for parameter in group["params"]:
            if parameter.grad is not None:
                sums.append(parameter.grad.sum())
                owners.append(str(group.get("name", number)))
    # sync: a NaN found late is a lost night. One wait for all of them.
    first, *rest = (math.isfinite(value) for value in torch.stack(sums).tolist())
    bad = [owner for owner, finite in zip(owners[1:], rest, strict=True) if not finite]
    return first, list(dict.fromkeys(bad))


def _guilty(
    terms: Mapping[str, Tensor],
    weights: Mapping[str, Ramp],
    progress: float,
    parameters: Sequence[Tensor],
) -> list[str]:
    """Names of the terms that give such gradients, each differentiated alone."""

    def is_guilty(name: str, term: Tensor) -> bool:
        if not term.requires_grad:
            return False
        gradients = torch.autograd.grad(
            weights[name](progress) * term, parameters, retain_graph=True, allow_unused=True
        )
        return any(g is not None and not bool(g.isfinite().all()) for g in gradients)

    return [name for name, term in terms.items() if is_guilty(name, term)]
