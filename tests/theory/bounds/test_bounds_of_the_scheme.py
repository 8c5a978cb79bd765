"""Bounds of the scheme against exact enumeration, and broken when a part is left out."""

import math
from dataclasses import replace

import pytest
import torch

from sdewm.sde.examples import (
    CircleDiffusion,
    GeometricBrownianMotion,
    PearsonDiffusion,
    TanhWorldModel,
)
from sdewm.sde.noise import EnumeratedNoise
from sdewm.sde.solve import solve_path
from sdewm.theory.bounds import formulas
from sdewm.theory.bounds.formulas import Reference
from sdewm.theory.bounds.jacobian_rates import exact_rates
from sdewm.theory.bounds.tube import sample_tube, sampled_rates
from tests.theory.bounds.rate_cases import (
    F64,
    FLOW,
    O10,
    ROTATION,
    ROUNDING,
    assert_bounded,
    constant,
    enumerated,
    norms_of,
    scalar_rates,
    tensor,
)


def case_rates(name, dt):
    """A system, and rates that hold for all its states."""
    if name == "circle":
        x = torch.linspace(0, 2 * math.pi, 4001, **F64)
        found = scalar_rates(-0.9 * torch.cos(x), -0.2 * torch.sin(x), dt, 0.9, 0.2)
        return CircleDiffusion(), found
    if name == "Pearson":
        slope = torch.linspace(-0.6, 0.6, 201, **F64)
        return PearsonDiffusion(), scalar_rates(0 * slope - 0.5, slope, dt, 0.0, 0.6)
    case = {"Brownian": O10, "flow": FLOW, "rotation": ROTATION}[name]
    return case, exact_rates(case, dt, [slice(0, case.state_size)])


@pytest.mark.parametrize(("t1", "steps"), [(1.0, 10), (5.0, 10), (8.0, 8)])
@pytest.mark.parametrize("name", ["circle", "Pearson", "Brownian", "flow", "rotation"])
def test_every_bound_of_the_scheme_holds_for_all_sign_patterns(name, t1, steps):
    dt = t1 / steps
    case, rates = case_rates(name, dt)
    rates = rates.repeated(steps)
    error = torch.full((case.state_size,), 0.4, **F64)
    length = float(error.norm())
    distances, rest = enumerated(case, error, t1, steps)
    assert_bounded(distances, formulas.log_norm(rates, dt, "step"), length)
    assert_bounded(distances, formulas.gronwall(rates, dt, "step"), length)
    remainder, supremum = formulas.linearised_mean_square(rates, dt, length, "step")
    square = rest.square().mean(0).sqrt()
    assert (square <= remainder * ROUNDING + 1e-13).all()
    assert (rest.cummax(1).values.square().mean(0).sqrt() <= supremum * ROUNDING + 1e-13).all()
    assert (square.max() > 1e-3) == (name in ("circle", "Pearson"))


@pytest.mark.parametrize(("t1", "steps"), [(1.0, 5), (5.0, 5)])
def test_every_bound_holds_for_all_sign_patterns_of_a_world_model(t1, steps):
    case, dt = TanhWorldModel(state_size=3, width=6, seed=3), t1 / steps
    error = tensor(0.3, -0.4, 0.2)
    noise = EnumeratedNoise(drivers=2, steps=steps, t1=t1)
    paths = noise.paths_limit
    tube = sample_tube(case, case.x0.expand(paths, 3), error.expand(paths, 3), noise)
    rates, _ = sampled_rates(case, tube, dt, [slice(0, 3)])
    distances, rest = enumerated(case, error, t1, steps)
    torch.testing.assert_close(distances, tube.difference.norm(dim=2))
    length = float(error.norm())
    assert_bounded(distances, formulas.log_norm(rates, dt, "step"), length)
    assert_bounded(distances, formulas.gronwall(rates, dt, "step"), length)
    remainder, supremum = formulas.linearised_mean_square(rates, dt, length, "step")
    assert (rest.square().mean(0).sqrt() <= remainder + 1e-13).all()
    assert (rest.cummax(1).values.square().mean(0).sqrt() <= supremum + 1e-13).all()
    # Negative control: half of the curvatures is too little for the remainder of a step.
    less = replace(
        rates, curvature=0.5 * rates.curvature, noise_curvature=0.5 * rates.noise_curvature
    )
    cut, _ = formulas.linearised_mean_square(less, dt, length, "step")
    assert rest[:, 1].square().mean().sqrt() > cut[1]


def test_the_mean_square_bound_of_the_scheme_is_met_and_breaks_when_cut():
    rates, dt = constant(O10, 5.0, 10)
    distances, _ = enumerated(O10, tensor(0.4), 5.0, 10)
    exact = distances.square().mean(0)
    found = 0.16 * formulas.log_norm(rates, dt, "step")["mean_square"]
    torch.testing.assert_close(exact, found, rtol=1e-11, atol=0)
    cut = formulas.log_norm(rates.lowered(0.99), dt, "step")
    assert 0.16 * cut["mean_square"][-1] < exact[-1]
    for name in ("mean", "sup", "sup_square"):
        scale = 0.16 if name.endswith("square") else 0.4
        low = formulas.log_norm(rates.lowered(0.8), dt, "step")[name][-1]
        assert scale * low < norms_of(distances)[name][-1], name


def test_gronwall_breaks_when_its_rate_is_halved():
    # The inequality loses e^{3s² − 2s} · 3 at s = αT, never less than 2.15: a cut by 1 % is lost.
    case = GeometricBrownianMotion(growth=1.1, volatility=0.0)
    distances, _ = enumerated(case, tensor(0.4), 1.0, 12)
    rates, dt = constant(case, 1.0, 12)
    for name, measured in norms_of(distances).items():
        scale = 0.16 if name.endswith("square") else 0.4
        found, cut = (
            scale * formulas.gronwall(r, dt, "step")[name][-1] for r in (rates, rates.lowered(0.4))
        )
        assert cut < measured[-1] < found
    exact = math.exp(1.1)
    found, cut = (formulas.gronwall(r, dt, "sde")["mean"][-1] for r in (rates, rates.lowered(0.5)))
    assert cut < exact < found


class Parabola:
    """dx = ½ h x² dt + (½ k x² + s) dB: curvatures h and k exactly."""

    noise_type, sde_type = "diagonal", "ito"

    def __init__(self, h=0.8, k=0.0, s=0.1, start=0.5):
        self.h, self.k, self.s, self.x0 = h, k, s, tensor(start)

    def f(self, t, y):
        return 0.5 * self.h * y**2

    def g(self, t, y):
        return 0.5 * self.k * y**2 + self.s


def parabola_bound(case, error, t1, steps, bend=1.0, transition=True, lower=1.0):
    """d and r of the additive linearised bound on every pattern, the rate of all paths unknown."""
    noise = EnumeratedNoise(drivers=1, steps=steps, t1=t1)
    times, paths, dt = noise.grid(torch.float64).tolist(), noise.paths_limit, t1 / steps
    with torch.no_grad():
        x = solve_path(case, case.x0.expand(paths, 1), noise, times=times)[:, :-1, 0]
    step = lower * (1 + dt * case.h * x)
    inside = torch.cat((torch.ones(paths, 1, **F64), step), 1).cumprod(1)
    ratio = (inside[:, :, None] / inside[:, None]).tril()
    reference = Reference(
        step=step.abs(),
        log_norm=lower * case.h * x,
        variation=error * inside,
        error=torch.full((paths,), error, **F64),
        transition=ratio if transition else None,
    )
    one = scalar_rates(tensor(0.0), tensor(0.0), dt, bend * case.h)
    huge = replace(one, step=tensor(1e3), log_norm=torch.full((3, 1), 1e3, **F64))
    return formulas.linearised(reference, huge.repeated(steps), dt, "step")


@pytest.mark.parametrize("transition", [True, False])
@pytest.mark.parametrize("start", [0.5, -0.5], ids=["expanding", "contracting"])
def test_a_parabola_meets_the_linearised_bound_and_breaks_it_without_curvature(start, transition):
    case, e, t1, steps = Parabola(start=start), 0.3, 2.0, 8
    distances, rest = enumerated(case, tensor(e), t1, steps)
    d, r = parabola_bound(case, e, t1, steps, transition=transition)
    torch.testing.assert_close(d, distances, rtol=1e-11, atol=0)
    torch.testing.assert_close(r, rest, rtol=1e-10, atol=1e-14)
    flat, none = parabola_bound(case, e, t1, steps, bend=0.0, transition=transition)
    assert (flat[:, -1] < 0.95 * distances[:, -1]).all()
    assert not none.any()
    less, _ = parabola_bound(case, e, t1, steps, bend=0.8, transition=transition)
    assert (less[:, -1] < distances[:, -1]).all()
    low, _ = parabola_bound(case, e, t1, steps, transition=transition, lower=0.99)
    assert (low[:, -1] < distances[:, -1]).all()


def test_the_remainder_of_one_step_is_met_for_curved_noise():
    case, e, dt = Parabola(k=0.6), 0.3, 0.25
    _, rest = enumerated(case, tensor(e), dt, 1)
    rates = replace(
        scalar_rates(tensor(0.8 * 0.5), tensor(0.6 * 0.5), dt, 0.8, 0.6), step=tensor(3.0)
    )
    remainder, _ = formulas.linearised_mean_square(rates, dt, e, "step")
    assert rest[:, 1].square().mean().sqrt().item() == pytest.approx(remainder[1].item())
    for name in ("curvature", "noise_curvature"):
        less = replace(rates, **{name: 0.9 * getattr(rates, name)})
        cut, _ = formulas.linearised_mean_square(less, dt, e, "step")
        assert cut[1] < rest[:, 1].square().mean().sqrt()


def test_remainders_are_those_of_their_recursions():
    dt, e = 0.2, 0.3
    rates = scalar_rates(tensor(-0.3, 0.4), tensor(0.4, 0.5), dt, 0.7, 0.2).repeated(6)
    scale = torch.linspace(0.5, 1.5, 6, **F64)
    rates = replace(rates, drift=scale * rates.drift, noise=scale * rates.noise)
    remainder, supremum = formulas.linearised_mean_square(rates, dt, e, "step")
    m, r, drift, martingale = e, 0.0, 0.0, 0.0
    for n in range(6):
        a, a4, alpha, beta = (
            getattr(rates, name)[n].item() for name in ("step", "fourth", "drift", "noise")
        )
        # The code takes the larger of m at both ends of a step for the supremum.
        ahead = max(m, m * a4)
        drift += dt * (alpha * r + 0.5 * 0.7 * ahead**2)
        martingale += dt * (beta * r + 0.5 * 0.2 * ahead**2) ** 2
        mixed = dt * ((1 + dt * alpha) * 0.7 + beta * 0.2) * m**2 * r
        r = math.sqrt(a**2 * r**2 + mixed + 0.25 * m**4 * (dt**2 * 0.7**2 + dt * 0.2**2))
        m *= a4
        assert remainder[n + 1].item() == pytest.approx(r)
        assert supremum[n + 1].item() == pytest.approx(drift + 2 * math.sqrt(martingale))


def test_without_noise_the_remainder_is_the_triangle_inequality():
    one = scalar_rates(tensor(0.6), tensor(0.0), 0.2, 0.7).repeated(5)
    remainder, _ = formulas.linearised_mean_square(one, 0.2, 0.3, "step")
    r, m = 0.0, 0.3
    for n in range(5):
        r, m = 1.12 * r + 0.5 * 0.2 * 0.7 * m**2, 1.12 * m
        assert remainder[n + 1].item() == pytest.approx(r)


def test_the_linearised_bound_of_the_equation_solves_its_riccati_equation():
    # x′ = ½ h x² from x = ½: reference 1/(2 − ½ht), and from ½ + e another of the same kind.
    h, e, t1, steps = 0.8, 0.3, 1.0, 4000
    t = torch.linspace(0, t1, steps + 1, **F64)
    x, other = (1 / (1 / start - 0.5 * h * t) for start in (0.5, 0.5 + e))
    reference = Reference(
        step=torch.ones(1, steps, **F64),
        log_norm=(h * x[:-1])[None],
        variation=torch.full((1, steps + 1), 1e3, **F64),
        error=tensor(e),
    )
    one = scalar_rates(tensor(10.0), tensor(0.0), t1 / steps, h).repeated(steps)
    d, r = formulas.linearised(reference, one, t1 / steps, "sde")
    torch.testing.assert_close(d[0], other - x, rtol=1e-3, atol=0)
    flat, _ = formulas.linearised(
        reference, replace(one, curvature=0 * one.drift), t1 / steps, "sde"
    )
    assert flat[0, -1] < 0.9 * d[0, -1]
    assert (r[0, 1:] < d[0, 1:]).all()


def test_past_the_blow_up_the_linearised_bound_falls_back_on_the_rate_of_all_paths():
    reference = Reference(
        step=torch.ones(1, 50, **F64),
        log_norm=torch.zeros(1, 50, **F64),
        variation=torch.ones(1, 51, **F64),
        error=tensor(1.0),
    )
    one = scalar_rates(tensor(0.5), tensor(0.0), 0.1, 1.0).repeated(50)
    d, r = formulas.linearised(reference, one, 0.1, "sde")
    assert torch.isinf(r[0, -1])
    assert d[0, -1].item() == pytest.approx(math.exp(2.5))
    assert (d <= 1.0 + r).all()


def test_the_remainder_of_the_equation_is_that_of_fine_steps():
    rates = scalar_rates(tensor(-0.3), tensor(0.4), 0.05, 0.7, 0.2)
    limit = formulas.linearised_mean_square(rates.repeated(20), 0.05, 0.3, "sde")
    fine = scalar_rates(tensor(-0.3), tensor(0.4), 0.001, 0.7, 0.2).repeated(1000)
    for one, other in zip(
        limit, formulas.linearised_mean_square(fine, 0.001, 0.3, "step"), strict=True
    ):
        assert one[-1].item() == pytest.approx(other[-1].item(), rel=0.03)
