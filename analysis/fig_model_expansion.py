"""The change of a trained model's losses under its encoder's error: measured, and second order.

python analysis/fig_model_expansion.py     the committed table, drawn anew
python analysis/fig_model_expansion.py runs/model --data data/cartpole
python analysis/fig_model_expansion.py runs/model --data data/cartpole --perturbation mask

From row --start of recorded episodes on, the encoder is shown perturbed observations for --horizon
steps. The error is scaled from ε = 0 to 1, at 1 the model fed with them. Drawn are the change of
the loss at the end, measured on shared noise; the second-order prediction with the error as the
encoder makes it; and with the drift and diffusion measured beforehand, which do not depend on the
state. The table holds the terms of both expansions as well. Episodes are the units of error bars.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from sdewm.base.checks import check_count
from sdewm.base.records import ROOT, Row, manifest, read_table, write_table
from sdewm.base.stats import Estimate
from sdewm.evaluate.episodes import read_episodes
from sdewm.evaluate.model_expansion import MakeLoss, ModelExpansion, expand_on_model
from sdewm.evaluate.perturbations import ObservationPerturbation
from sdewm.latent_sde.losses import reconstruction_loss, reward_loss, value
from sdewm.latent_sde.models import RSSMModel
from sdewm.latent_sde.system import LatentSystem
from sdewm.plots.error_plots import loss_changes
from sdewm.plots.style import save_figure
from sdewm.plots.tables import estimate_text, text_table
from sdewm.train.agent import Agent
from sdewm.train.evaluation import saved_agent
from sdewm.train.run_directory import read_run

STEM = "fig_model_expansion"
SIZES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
TERMS = ("c0", "P", "Q", "S", "P_drift", "Q_drift", "S_cross", "S_drift", "c1", "c2")
WITHIN = 0.1


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, predict, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, nargs="?", help="directory of a run")
    parser.add_argument("--data", type=Path, help="directory of recorded episodes")
    parser.add_argument("--perturbation", default="noise", help="name (noise)")
    parser.add_argument("--strength", type=float, default=0.1, help="its strength (0.1)")
    parser.add_argument("--start", type=int, default=20, help="row of the first state (20)")
    parser.add_argument("--horizon", type=int, default=10, help="steps (10)")
    parser.add_argument("--episodes", type=int, default=None, help="episodes (all)")
    parser.add_argument("--copies", type=int, default=8, help="perturbed copies of each (8)")
    parser.add_argument("--paths", type=int, default=4, help="sample paths of each copy (4)")
    parser.add_argument("--seed", type=int, default=0, help="root seed (0)")
    parser.add_argument("--out", type=Path, default=ROOT / "figures", help="folder of the files")
    options = parser.parse_args(arguments)
    table = options.out / "data" / f"{STEM}.csv"
    if options.run is None and options.data is None and table.is_file():
        for path in save_figure(loss_changes(read_table(table)[0]), options.out, STEM):
            print(path)
        return
    if options.run is None or options.data is None:
        parser.error(f"expected RUN and --data DIRECTORY ({table} is drawn anew without both).")
    try:
        check_count("--horizon", options.horizon)
        perturbation = ObservationPerturbation(options.perturbation, options.strength)
        config, agent, counters = saved_agent(options.run)
        steps = options.start + 1 + options.horizon
        episodes = read_episodes(options.data, steps=steps, count=options.episodes)
    except ValueError as problem:
        parser.error(str(problem))
    learnt_all = read_run(options.run).data is None
    rows: list[Row] = []
    label = ""
    for name, make_loss in losses(agent, with_value=learnt_all).items():
        found = expand_on_model(
            RSSMModel(agent.world_model),
            episodes,
            perturbation,
            make_loss,
            start=options.start,
            horizon=options.horizon,
            copies=options.copies,
            paths=options.paths,
            seed=options.seed,
        )
        rows += rows_of(name, found)
        label = found.label
    facts = manifest(seed=options.seed) | {
        **{"run": options.run.name, "env": config.env, "obs": config.obs, "noise": label},
        **{"updates": counters["updates"], "episodes": len(episodes.rewards)},
        **{name: getattr(options, name) for name in ("perturbation", "strength", "start")},
        **{name: getattr(options, name) for name in ("horizon", "copies", "paths")},
    }
    write_table(table, rows, facts)
    for path in (*save_figure(loss_changes(rows), options.out, STEM), table):
        print(path)
    print(summary(rows), f"noise of the model: {label}", sep="\n")


def losses(agent: Agent, *, with_value: bool) -> dict[str, MakeLoss]:
    """What is expanded, by name."""

    def reconstruction(system: LatentSystem, observations: Tensor, rewards: Tensor) -> Any:
        return reconstruction_loss(system, observations)

    def reward(system: LatentSystem, observations: Tensor, rewards: Tensor) -> Any:
        return reward_loss(system, rewards)

    def critic(system: LatentSystem, observations: Tensor, rewards: Tensor) -> Any:
        return value(system, agent.behaviour.critic)

    found: dict[str, MakeLoss] = {"reconstruction loss": reconstruction, "reward error": reward}
    return found | ({"value": critic} if with_value else {})


def rows_of(panel: str, found: ModelExpansion) -> list[Row]:
    """Changes of the loss by ε, the remainders, and the terms of both expansions."""
    rows: list[Row] = []

    def add(kind: str, series: str, epsilon: float | None, estimate: Estimate) -> None:
        numbers = {"value": estimate.value, "standard_error": estimate.standard_error}
        rows.append({"panel": panel, "kind": kind, "series": series, "epsilon": epsilon, **numbers})

    for form in ("encoder", "measured"):
        expansion = getattr(found, form)
        for row in expansion.measure(SIZES):
            assert isinstance(row.epsilon, float)
            if form == "encoder":
                add("change", "measured, encoder", row.epsilon, row.change)
            add("change", f"predicted, {form}", row.epsilon, row.predicted_change)
            add("remainder", form, row.epsilon, row.remainder)
        for name in TERMS:
            add("term", f"{name}, {form}", None, expansion.terms[name])
    return rows


def summary(rows: Sequence[Row]) -> str:
    """Terms, and up to which ε second order is within a tenth of the measured change."""
    lines = []
    for panel in dict.fromkeys(str(row["panel"]) for row in rows):
        mine = [row for row in rows if row["panel"] == panel]
        terms = {row["series"]: row for row in mine if row["kind"] == "term"}
        for form in ("encoder", "measured"):
            shown = [
                estimate_text(
                    terms[f"{n}, {form}"]["value"], terms[f"{n}, {form}"]["standard_error"]
                )
                for n in ("c1", "c2")
            ]
            reach = 0.0
            for size in SIZES:
                change, predicted = (
                    next(
                        float(r["value"])  # type: ignore[arg-type]
                        for r in mine
                        if r["kind"] == "change" and (r["series"], r["epsilon"]) == (series, size)
                    )
                    for series in ("measured, encoder", f"predicted, {form}")
                )
                if abs(change - predicted) > WITHIN * abs(change):
                    break
                reach = size
            lines.append([panel, form, *shown, f"{reach:g}"])
    return text_table(["loss", "error", "c1", "c2", "within 10 % to ε ="], lines)


if __name__ == "__main__":
    main()
