"""Negative controls of the checks on trained models: each makes one deliberate mistake."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from paper_checks.cases.trained_models import TrainedCase
from sdewm.latent_sde.models import RSSMModel
from sdewm.model.rssm import State
from sdewm.perturbations.observation import ObservationPerturbation


def _with(case: TrainedCase, **changes: Any) -> TrainedCase:
    return replace(case, options=case.options | changes)


def stationary_variance(case: TrainedCase) -> TrainedCase:
    """The diffusion has the model's stationary variance, not that of one step (S21)."""
    return _with(case, variance="stationary")


def stop_gradient(case: TrainedCase) -> TrainedCase:
    """The deterministic state is detached before it enters the posterior (rule 11)."""
    return replace(case, model=_Cut(case.model))


def double_claim(case: TrainedCase) -> TrainedCase:
    """The claimed drift is twice the drift that was added (S28)."""
    return _with(case, claimed=2.0)


def shift_for_noise(case: TrainedCase) -> TrainedCase:
    """A constant shift replaces the noise, so that the drift is of first order (S28)."""
    return _with(case, perturbation=lambda strength: ObservationPerturbation("shift", strength))


def drop_second_order(case: TrainedCase) -> TrainedCase:
    """The second-order term is left out of the prediction (S2)."""
    return _with(case, second_order=0.0)


def understate_error(case: TrainedCase) -> TrainedCase:
    """The bounds are scaled by 0.1, as if the error were a tenth of its size (S15, S16)."""
    return _with(case, claimed=0.1)


def understate_tenth(case: TrainedCase) -> TrainedCase:
    """The bounds of the enclosure are a tenth lower (S34)."""
    return _with(case, claimed=0.9)


def rare_error(case: TrainedCase) -> TrainedCase:
    """The error is rare, not small, so that E|e| does not determine the order (S14)."""
    return _with(case, law="rare")


def second_exponent(case: TrainedCase) -> TrainedCase:
    """The second Lyapunov exponent is used in place of the first (S26)."""
    return _with(case, exponent=1)


def swap_models(names: tuple[str, str]) -> tuple[str, str]:
    """The models trained with and without the penalty are exchanged."""
    return names[1], names[0]


def forgetful_step(case: TrainedCase) -> TrainedCase:
    """The derivative leaves out most of h, as if the step forgot it; predictions stay (S29)."""
    return replace(case, model=_Forgetful(case.model))


class _Forgetful(RSSMModel):
    """`model.rssm.deterministic` with all but KEPT components of h detached."""

    KEPT = 4

    def __init__(self, model: RSSMModel) -> None:
        vars(self).update(vars(copy.copy(model)))
        rssm = copy.copy(model.rssm)
        inner = model.rssm.deterministic

        def deterministic(state: State, action: Tensor) -> Tensor:
            kept, rest = state.deter.split([self.KEPT, state.deter.shape[1] - self.KEPT], 1)
            deter = torch.cat([kept, rest.detach()], 1)
            return inner(State(deter, state.stoch.detach()), action)

        rssm.deterministic = deterministic  # type: ignore[method-assign]
        self.rssm = rssm


class _Cut(RSSMModel):
    def __init__(self, model: RSSMModel) -> None:
        vars(self).update(vars(copy.copy(model)))

    def _deterministic(self, state: Tensor, action: Tensor) -> Tensor:
        return super()._deterministic(state, action).detach()
