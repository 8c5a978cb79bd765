"""The bias of a value on models: against differences made by hand, with episodes as units."""

import math

import numpy as np
import pytest
import torch

from sdewm.base.stats import half_width
from sdewm.latent_sde.losses import value
from sdewm.model.heads import TwoHotHead
from sdewm.model_theorems import value_bias
from sdewm.model_theorems.divergence import diverge_on_model
from sdewm.model_theorems.value_bias import second_order_reach, value_bias_on_model
from sdewm.plots.model_divergence_plots import model_divergence
from sdewm.plots.panels import lay_out
from sdewm.report.divergence import divergence_rows, enclosed_rows, order_row, value_rows
from sdewm.sde.rates import SAMPLED
from sdewm.theory.flow.error_enclosure import NoEnclosure, enclose_errors
from tests.model.small_models import make_model, shake
from tests.model_theorems.test_divergence import NOISE, TURN, own_model, recorded, starts_of


def step(x, a):
    return torch.tanh(x @ TURN.T * (1 + a[:, :1]) + a[:, 1:3])


def cubic(y):
    return y[:, 0] ** 3 + y[:, 0] + y[:, 1]


def ends(states, actions):
    """States (N, 2) after the rows of actions (H, A)."""
    for a in actions:
        states = step(states, a[None])
    return states


def test_measured_terms_and_errors_are_those_of_a_computation_by_hand():
    model, episodes = own_model(step, noise=0.0), recorded(4, 7)
    settings = {"start": 2, "horizon": 3, "copies": 3, "paths": 2}
    found = value_bias_on_model(model, episodes, NOISE, lambda system: cubic, **settings).expansion
    starts, h = starts_of(model, episodes), 1e-3
    rows = {"measured": [], "first": [], "second": []}
    for e in range(4):
        actions = episodes.previous_actions[e, 3:6]
        at = [
            cubic(ends(starts.states[e] + s * starts.errors[e], actions)) for s in (1.0, 0.0, h, -h)
        ]
        rows["measured"].append(at[0] - at[1])
        rows["first"].append((at[2] - at[3]) / (2 * h))
        rows["second"].append((at[2] + at[3] - 2 * at[1]) / (2 * h * h))
    for name, parts in rows.items():
        of_episode = torch.stack(parts).mean(1).numpy()
        estimate = found.terms[name]
        assert estimate.value == pytest.approx(of_episode.mean(), rel=1e-4), name
        error = of_episode.std(ddof=1) / 2
        assert estimate.standard_error == pytest.approx(error, rel=1e-4), name
    size = found.error_moments[0].value
    assert size == pytest.approx(float(starts.errors.norm(dim=2).mean()))
    assert found.order((0.2, 0.1, 0.05)).slope == pytest.approx(3, abs=0.3)


def test_a_policy_needs_no_recorded_actions():
    model, episodes = own_model(lambda x, a: 0.5 * x + a[:, :2]), recorded(3, 3)
    found = value_bias_on_model(
        model, episodes, NOISE, lambda system: lambda y: y[:, 0], start=2, horizon=6,
        copies=3, paths=2, policy=lambda x: 0.3 * x,
    )  # fmt: skip
    error = starts_of(model, episodes).errors[..., 0].mean()
    assert found.expansion.terms["measured"].value == pytest.approx(0.8**6 * float(error))


@pytest.mark.parametrize("policy", [None, lambda x: 0.3 * x[:, :2].tanh()])
def test_the_change_of_the_value_is_enclosed_on_its_paths(policy):
    model, episodes = own_model(lambda x, a: torch.tanh(x @ TURN.T + a[:, :2])), recorded(3, 7)
    settings = {"start": 2, "horizon": 3, "copies": 4, "policy": policy}

    def small(size):
        return lambda o, generator: o + size * (NOISE(o, generator) - o)

    def on(size, paths=1, seed=0):
        return value_bias_on_model(
            model, episodes, small(size), lambda system: cubic, paths=paths, seed=seed, **settings
        )

    bias = on(0.03)
    found = bias.enclosed()
    first = bias.expansion.problem  # the first of four copies of each of three episodes
    states, errors = (part[::4] for part in (first.states, first.errors))
    changes = (cubic(states + errors) - cubic(states)).numpy()
    assert len(changes) == 3
    assert found.bias.values[0] == pytest.approx(changes.mean(), rel=1e-9)
    assert found.change.values[0] == pytest.approx(abs(changes).mean(), rel=1e-9)
    assert (abs(found.bias.values) <= found.change.values).all()
    assert (found.change.values <= found.bound.values).all()
    assert (found.bound.values <= 1.1 * found.change.values).all()
    assert found.kind == SAMPLED
    few = on(0.03, paths=3).enclosed()  # the first copy of each episode
    assert few.bound.values[0] == pytest.approx(found.bound.values[0], rel=1e-12)
    # The control: the bound of smaller errors does not hold for these.
    assert (on(0.02).enclosed().bound.values < found.change.values).all()


def test_no_path_is_enclosed_further_than_the_one_that_abstains_first(monkeypatch):
    model, episodes = (
        own_model(lambda x, a: torch.tanh(6.0 * x @ TURN.T + a[:, :2])),
        recorded(3, 9),
    )
    asked = []

    def recording(*given, steps, **more):
        asked.append(steps)
        return enclose_errors(*given, steps=steps, **more)

    monkeypatch.setattr(value_bias, "enclose_errors", recording)
    found = value_bias_on_model(
        model, episodes, NOISE, lambda system: cubic, start=2, horizon=6, copies=2, paths=1
    ).enclosed()
    bounded = np.isfinite(found.bound.values)
    assert asked[0] == 6 and asked == sorted(asked, reverse=True)
    assert 0 < asked[-1] < 6 and not bounded[asked[-1] + 1 :].any()
    assert (found.change.values <= found.bound.values).all()


def test_a_value_without_enclosure_is_refused_by_name():
    model, episodes = own_model(lambda x, a: 0.5 * x + a[:, :2]), recorded(3, 7)
    settings = {"start": 2, "horizon": 2, "copies": 2}
    found = value_bias_on_model(
        model,
        episodes,
        NOISE,
        lambda system: lambda y: torch.atan(y[:, 0]),
        **settings,
    )
    with pytest.raises(NoEnclosure, match="atan"):
        found.enclosed()
    (row,) = enclosed_rows("own", found)
    assert (row["kind"], row["series"]) == ("left out", "enclosure of the value")
    assert "atan" in row["label"]


def test_second_order_reaches_to_the_last_scale_before_the_first_that_is_off():
    model, episodes = own_model(lambda x, a: 0.5 * x), recorded(3, 8)
    settings = {"start": 2, "horizon": 2, "copies": 4, "paths": 1}
    found = value_bias_on_model(model, episodes, NOISE, lambda system: cubic, **settings).expansion
    rows = found.measure([0.01, 1.0, 100.0])
    off = [abs(row.remainder.value) > 0.1 * abs(row.measured.value) for row in rows]
    assert off == [False, off[1], True]
    assert second_order_reach(rows[::-1]) == (0.01 if off[1] else 1.0)
    assert second_order_reach(rows[2:]) == 0.0


@pytest.fixture(scope="module")
def tables():
    """Rows of a recurrent model with a critic of bins."""
    model, episodes = make_model("gaussian"), recorded(3, 6)
    critic = shake(TwoHotHead(21, 8, 1, 21, "none", "elu").double(), 3, 0.3)
    settings = {"start": 2, "horizon": 3, "copies": 2, "paths": 2}
    bias = value_bias_on_model(
        model, episodes, NOISE, lambda system: value(system, critic), **settings
    )
    found = diverge_on_model(model, episodes, NOISE, grades=("gronwall", "log_norm"), **settings)
    return found, bias, divergence_rows("own", found), value_rows("own", bias)


def test_rows_hold_what_was_found(tables):
    found, bias, rolled, valued = tables
    kinds = {(row["kind"], row["series"], row["horizon"]): row for row in rolled}
    last = kinds["mean", "log_norm", 3.0]
    assert last["value"] == found.bounds["log_norm"]["mean"].last.value
    assert last["label"] == "estimate"
    assert kinds["mean", "measured", 2.0]["standard_error"] == found["mean"].standard_errors[2]
    assert kinds["size", "error", None]["value"] == found.error_size.value
    assert kinds["left out", "certificate", None]["label"].startswith("the cell normalises")
    assert kinds["range", "stated", None]["value"] == found.stated_range
    halves = [r for r in rolled if (r["kind"], r["epsilon"], r["horizon"]) == ("ratio", 0.3, 3.0)]
    assert [row["value"] for row in halves] == [found.ratios[0.3].values[3]]
    terms = {row["series"]: row["value"] for row in valued if row["kind"] == "bias term"}
    assert terms["first"] == bias.expansion.terms["first"].value
    firsts = {r["epsilon"]: r["value"] for r in valued if r["series"] == "first" and r["epsilon"]}
    assert firsts[0.5] == pytest.approx(0.5 * terms["first"])
    assert len({tuple(row) for row in (*rolled, *valued)}) == 1  # one set of columns
    order = order_row("own", "order", "x", bias.expansion.order((0.5, 0.25, 0.125)))
    assert order["label"].split(":")[0] in ("holds", "fails", "undecided")


def test_the_order_of_the_remainder_is_not_said_to_be_exact(tables):
    """Its error is the one from which Student's t over the episodes gives its interval again."""
    bias, scales = tables[1], (0.5, 0.25, 0.125)
    (row,) = (r for r in value_rows("own", bias, (1.0,), scales) if r["kind"] == "bias order")
    low, high = bias.expansion.order(scales).interval
    assert half_width(row["standard_error"], 3) == pytest.approx(0.5 * (high - low))
    assert row["standard_error"] > 0


def test_the_figure_says_from_which_step_on_an_enclosure_abstains(tables):
    rolled = [row for row in tables[2] if not row["series"].startswith("enclosure")]
    measured = [r for r in rolled if (r["kind"], r["series"]) == ("mean", "measured")]
    label = "certificate per path, mean over sampled paths"
    bound = [
        row | {"series": "enclosure", "label": label, "value": value}
        for row, value in zip(measured, (1.0, 1.5, math.inf, math.inf), strict=True)
    ]
    step = rolled[0] | {"kind": "constant", "series": "enclosure: abstains", "value": 2.0}
    note = model_divergence([*rolled, *bound, step]).panels[0].note
    assert "one path of each episode" in note
    assert "abstains from step 2 on." in note
    assert "enclosure: certificate" not in note  # it has no last value
    whole = [row | {"value": 1.0} for row in bound]
    assert "abstains" not in model_divergence([*rolled, *whole]).panels[0].note


def test_the_figure_shows_every_bound_with_its_label(tables):
    figure = lay_out(model_divergence([*tables[2], *tables[3]]))
    (legend,) = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert {"Grönwall: estimate", "logarithmic norm: estimate"} <= {*texts}
    rollouts, bias = figure.axes
    drawn = [line.get_ydata() for line in rollouts.lines if len(line.get_xdata()) == 4]
    assert any(np.array_equal(y, tables[0].bounds["gronwall"]["mean"].values) for y in drawn)
    assert rollouts.get_yscale() == "log" and len(bias.lines) >= 3


def test_the_figure_shows_the_value_change_on_the_enclosed_paths():
    model, episodes = own_model(lambda x, a: torch.tanh(x @ TURN.T + a[:, :2])), recorded(3, 7)
    settings = {"start": 2, "horizon": 3, "copies": 2, "paths": 2}
    found = diverge_on_model(model, episodes, NOISE, grades=("enclosure",), **settings)
    for norm in ("mean", "sup_square"):
        assert (found.enclosed[norm].values <= found.bounds["enclosure"][norm].values).all()
    bias = value_bias_on_model(model, episodes, NOISE, lambda system: cubic, **settings)
    rows = [*divergence_rows("own", found), *value_rows("own", bias), *enclosed_rows("own", bias)]
    figure = lay_out(model_divergence(rows))
    titles = [axes.get_title(loc="left") for axes in figure.axes[:3]]
    assert titles == [
        "(a) Divergence, own",
        "(b) Change of the value, own",
        "(c) Bias of the value, own",
    ]
    (measured, bound) = figure.axes[1].lines
    assert (measured.get_ydata() <= bound.get_ydata()).all()
    assert len(measured.get_ydata()) == 4
    cut = [
        row | {"value": math.inf} if row["label"] == SAMPLED and row["horizon"] >= 2 else row
        for row in rows
    ]
    assert "abstains" not in model_divergence(rows).panels[1].note
    assert "it abstains from step 2 on." in model_divergence(cut).panels[1].note
