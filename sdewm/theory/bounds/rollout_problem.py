"""The grades of bounds on the divergence of two rollouts, each from the same checked arguments."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from sdewm.base.stats import Estimate
from sdewm.sde.linear_moments import moment_path
from sdewm.sde.monte_carlo import spread_rows
from sdewm.sde.noise import GaussianNoise
from sdewm.sde.rates import (
    CERTIFICATE,
    ESTIMATE,
    SAMPLED,
    CertifiedSystem,
    ConstantJacobians,
    Rates,
    no_proof,
)
from sdewm.sde.system import System
from sdewm.theory.bounds import formulas
from sdewm.theory.bounds.bound import (
    GradeBound,
    LinearisedBound,
    RolloutBounds,
    added,
    linear_range,
    named_constants,
    widened,
)
from sdewm.theory.bounds.formulas import Reference, four_norms
from sdewm.theory.bounds.jacobian_rates import exact_rates
from sdewm.theory.bounds.tube import (
    Tube,
    exact_reference,
    first_variation,
    missed_kink,
    needs_transition,
    sample_tube,
    sampled_rates,
)
from sdewm.theory.bounds.weighted_rollouts import no_weighted_norms, weighted
from sdewm.theory.curve import NORMS, Curve
from sdewm.theory.flow.error_enclosure import NoEnclosure, enclose_errors
from sdewm.theory.origin import Origin

ENCLOSURE = "enclosure"
RECALLED = "recalled"  # the paper's form, its unspecified constant set to 1
_MOST_PATHS, _FEWEST_PATHS = 256, 8  # paths on which Jacobians are computed, depending on D


@dataclass(frozen=True)
class RolloutProblem:
    """The checked arguments of `rollout_bounds`.

    Attributes:
        system: D components.
        states: starts of the paths `(P, D)`.
        errors: e of each path `(P, D)`.
        drawn: whether a sampler drew the errors, of which other draws may differ.
        noise: the grid and the increments.
        blocks: slices of the state.
        form: "step" or "sde".
        enclosed_paths: see `rollout_bounds`.
    """

    system: System
    states: torch.Tensor
    errors: torch.Tensor
    drawn: bool
    noise: GaussianNoise
    blocks: list[slice]
    form: str
    enclosed_paths: int

    @property
    def step_size(self) -> float:
        """Δ."""
        return self.noise.step_size

    def solve(self, wanted: list[str], kind: str | None, explicit: bool) -> RolloutBounds:
        """The bounds of the wanted grades.

        Args:
            wanted: names of grades.
            kind: see `rollout_bounds`.
            explicit: whether the caller named the grades: one that does not apply is refused;
                otherwise it is left out.

        Raises:
            ValueError: a named grade does not apply; or kind="certificate" without a proof.
        """
        proven, left_out = None, {}
        if kind != ESTIMATE:
            try:
                proven = self._proven_rates()
            except ValueError as reason:
                if kind == CERTIFICATE:
                    raise ValueError(f"kind='certificate': {reason}") from None
                left_out[CERTIFICATE] = str(reason)
        tube = self._tube()
        if proven is None:
            rates, reference = sampled_rates(self.system, tube, self.step_size, self.blocks)
        else:
            rates, needed = proven, needs_transition(proven)
            reference = exact_reference(self.system, tube, self.step_size, needed)
        reasons = {
            "weighted": no_weighted_norms(self.system, self.states.shape[1], proven is not None)
        }
        reasons["block"] = "" if rates.additive else "it needs additive noise (S16)."
        if rates.additive and not math.isfinite(float(rates.step_blocks.sum())):
            reasons["block"] = f"{len(self.blocks)} blocks are too many for this state; give fewer."
        if proven is None and "linearised" in wanted:
            reasons["linearised"] = missed_kink(tube, rates, reference, self.step_size)
        if not (self.form == "step" or rates.additive or self._exact(proven is not None)):
            reasons["linearised"] = "for varying Jacobians y is that of the scheme: form='step'."
        for grade, reason in reasons.items():
            if reason and grade in wanted:
                if explicit:
                    raise ValueError(f"grades contains {grade!r}: {reason}")
                wanted = [other for other in wanted if other != grade]
                left_out[grade] = reason
        origin = Origin.of(self.system, self.states, self.errors, self.noise)
        found = {}
        for grade in wanted:
            try:
                bound = self._bound(grade, rates, reference, tube, proven is not None)
            except NoEnclosure as reason:
                if explicit:
                    raise ValueError(f"grades contains {grade!r}: {reason}") from None
                left_out[grade] = str(reason)
                continue
            found[grade] = replace(bound, origin=origin)
        return RolloutBounds(found, rates, self.form, left_out)

    def _proven_rates(self) -> Rates:
        """The rates that the system proves from these starts; else ValueError saying why not."""
        name = type(self.system).__name__
        if isinstance(self.system, ConstantJacobians):
            rates = exact_rates(self.system, self.step_size, self.blocks)
        elif isinstance(self.system, CertifiedSystem):
            both = torch.cat((self.states, self.states + self.errors))
            box = both.amin(0), both.amax(0)
            try:
                rates = self.system.certified_rates(*box, self.step_size, self.blocks)
            except ValueError as reason:
                raise ValueError(f"{name} has no proof: {reason}") from None
        else:
            raise ValueError(no_proof(self.system))
        return rates.to(self.states).repeated(self.noise.steps)

    def _rows(self) -> torch.Tensor:
        """Rows of starts and errors, spread over all, from which Jacobians are sampled."""
        size = self.states.shape[1]
        few = max(_FEWEST_PATHS, min(_MOST_PATHS, 4096 // size**2))
        return spread_rows(len(self.states), few).to(self.states.device)

    def _tube(self) -> Tube:
        """The tube from these rows and, where it is none of them, that with the largest error."""
        rows, lengths = self._rows(), self.errors.norm(dim=1)
        if bool(lengths.max() > lengths[rows].max()):
            rows = torch.cat((rows, lengths.argmax()[None]))
        return sample_tube(self.system, self.states[rows], self.errors[rows], self.noise)

    def _exact(self, proven: bool) -> bool:
        """Whether the moments of y are known, because the Jacobians are constant."""
        return proven and isinstance(self.system, ConstantJacobians)

    def _bound(
        self, grade: str, rates: Rates, reference: Reference, tube: Tube, proven: bool
    ) -> GradeBound:
        constants = named_constants(rates)
        if grade == "linearised":
            return self._linearised(rates, reference, tube, proven, constants)
        if grade == ENCLOSURE:
            return self._enclosure(rates, proven)
        by_size = grade in ("gronwall", "log_norm")  # they take |e| only
        one = self._moment(1).standard_error == 0 if by_size else _same(self.errors)
        kind = CERTIFICATE if proven and one and not self.drawn else ESTIMATE
        if grade == "block":
            parts = torch.stack([self.errors[:, part].norm(dim=1) for part in self.blocks], dim=1)
            pair = formulas.block(rates, self.step_size, parts, self.form)
            return GradeBound(grade, kind, self._curves(*pair), constants)
        if grade == "double_exponential":
            delta = self._moment(1)
            values = formulas.double_exponential(rates, self.step_size, delta.value)
            curve = self._curve(values, torch.zeros_like(values))
            return GradeBound(grade, RECALLED, {"mean": curve, "sup": curve}, constants)
        if grade == "weighted":
            exact = self._exact(proven)
            found = weighted(self.system, tube, rates, self.errors, exact, self.form)
            curves = {name: self._curve(*pair) for name, pair in found.items()}
            return GradeBound(grade, kind if exact else ESTIMATE, curves, constants)
        curves = self._by_factors(
            {"gronwall": formulas.gronwall, "log_norm": formulas.log_norm}[grade], rates
        )
        return GradeBound(grade, kind, curves, constants)

    def _enclosure(self, rates: Rates, proven: bool) -> GradeBound:
        """Mean of enclosures over a few paths (S34)."""
        if self.form != "step":
            raise NoEnclosure("it bounds the scheme; expected form='step'.")
        one = proven and self._one_path(rates) and _same(self.errors)
        rows = spread_rows(len(self.states), 1 if one else self.enclosed_paths)
        states, errors = (part.cpu()[rows] for part in (self.states, self.errors))
        steps = rates.step.cpu() if proven and rates.additive else None
        bounds = enclose_errors(self.system, states, errors, self.noise, step_rates=steps)
        reached = int(torch.isfinite(bounds).all(0).sum())  # steps with a bound, and step 0
        last = float(reached) if reached <= self.noise.steps else math.inf
        constants = {"paths": float(len(bounds)), "abstains": last}
        kind = CERTIFICATE if one and not self.drawn else SAMPLED
        return GradeBound(ENCLOSURE, kind, self._curves(bounds), constants)

    def _by_factors(self, grade: Callable[..., formulas.Factors], rates: Rates) -> dict[str, Curve]:
        curves = {}
        for name, factor in grade(rates, self.step_size, self.form).items():
            moment = self._moment(2 if name.endswith("square") else 1)
            curves[name] = self._curve(factor * moment.value, factor * moment.standard_error)
        return curves

    def _linearised(
        self,
        rates: Rates,
        reference: Reference,
        tube: Tube,
        proven: bool,
        constants: dict[str, float],
    ) -> LinearisedBound:
        variation = first_variation(self.system, self.states, self.errors, self.noise)
        prediction = self._curves(variation)
        flat = not bool(rates.curvature.any() or rates.noise_curvature.any())
        exact, scheme, few = self._exact(proven), self.form == "step", len(self._rows())
        if flat and (exact or scheme):  # D = y
            curves = self._affine(rates, variation) if exact else prediction
            remainder = torch.zeros_like(variation[0])
            rest = self._curve(remainder, remainder)
        elif rates.additive:
            norms, remainders = formulas.linearised(reference, rates, self.step_size, self.form)
            norms, remainders = norms[:few], remainders[:few]
            # What the bound adds to |y| comes from the few paths with Jacobians, |y| from all.
            excess = self._curves(norms, without=reference.variation[:few] if scheme else None)
            curves = added(excess, prediction) if scheme else excess
            rest = self._curves(remainders)["mean"]
        else:
            fourth = self._moment(4).value ** 0.25
            pair = formulas.linearised_mean_square(rates, self.step_size, fourth, self.form)
            curves = widened(prediction, *(part.cpu().numpy() for part in pair))
            rest = self._curve(pair[0], torch.zeros_like(pair[0]))
        # Elsewhere |y| is a mean over sampled paths, or |D| is bounded along the scheme's paths.
        certain = exact or (proven and scheme and self._one_path(rates))
        one = _same(self.errors) and not self.drawn
        kind = CERTIFICATE if certain and one else ESTIMATE
        first, bend = (part[:few].norm(dim=2).mean(0) for part in (tube.first, tube.second))
        reach = linear_range(first, 0.5 * bend, float(first[0]))  # y starts as e
        return LinearisedBound("linearised", kind, curves, constants, prediction, rest, reach)

    def _affine(self, rates: Rates, variation: torch.Tensor) -> dict[str, Curve]:
        """Bounds of |D| = |y| for constant Jacobians, without sampled paths (S19).

        E|y|² is exact, and E|y| at most its root for each e. Under multiplicative noise the suprema
        are those of S16. Under additive noise y is a function of e, so that all four curves of the
        scheme are exact.
        """
        if rates.additive and self.form == "step":
            return self._curves(variation)
        assert isinstance(self.system, ConstantJacobians)
        drift, noise = (part.to(self.states) for part in self.system.jacobians())
        grid = self.step_size, self.noise.steps
        scheme = self.form == "step"
        if _same(self.errors):
            e = self.errors[0]
            moments = moment_path(drift, noise, torch.outer(e, e), *grid, scheme=scheme)
            squares = moments.diagonal(dim1=1, dim2=2).sum(1)[None]
        else:  # eᵀGe for each e, where G solves the adjoint equation from the identity
            eye = torch.eye(len(drift), dtype=drift.dtype, device=drift.device)
            forms = moment_path(drift.mT, noise.mT, eye, *grid, scheme=scheme)
            squares = torch.einsum("pi,nij,pj->pn", self.errors, forms, self.errors).clamp_min(0)
        exact = self._curves(squares.sqrt())
        return {**self._by_factors(formulas.log_norm, rates), **{n: exact[n] for n in NORMS[:2]}}

    def _one_path(self, rates: Rates) -> bool:
        """Whether all paths are one: a single start and no noise (β = 0 is proven, g is 0)."""
        if not (rates.additive and _same(self.states)):
            return False
        start, grid = self.states[:1], self.noise.grid(torch.float64, self.states.device)
        return not any(bool(self.system.g(t, start).any()) for t in grid[:-1])

    def _moment(self, power: int) -> Estimate:
        """E|e|^q over the paths; without error where |e| is one number, up to rounding."""
        sizes = self.errors.norm(dim=1)
        values, largest = sizes**power, float(sizes.max())
        if largest - float(sizes.min()) <= 1e-12 * largest:
            return Estimate(largest**power, 0.0)
        return Estimate(float(values.mean()), float(values.std()) / math.sqrt(len(values)))

    def _curve(self, values: torch.Tensor, errors: torch.Tensor) -> Curve:
        times = self.noise.grid(torch.float64)
        return Curve(times.numpy(), values.cpu().numpy(), errors.cpu().numpy())

    def _curves(
        self,
        norms: torch.Tensor,
        peaks: torch.Tensor | None = None,
        without: torch.Tensor | None = None,
    ) -> dict[str, Curve]:
        """The four curves of |D_n| `(P, N + 1)`, path by path; or by what they exceed others."""
        values = four_norms(norms, peaks)
        if without is not None:
            values = [value - less for value, less in zip(values, four_norms(without), strict=True)]
        curves = {}
        for name, value in zip(NORMS, values, strict=True):
            if _same(value):
                curves[name] = self._curve(value[0], torch.zeros_like(value[0]))
            else:
                curves[name] = self._curve(value.mean(0), value.std(0) / math.sqrt(len(value)))
        return curves


def _same(rows: torch.Tensor) -> bool:
    """Whether every path has the same row."""
    return bool((rows == rows[:1]).all())
