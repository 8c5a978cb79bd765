"""The committed figures: their drawings, from the tables in figures/data."""

import importlib.util
from functools import cache

from paper_checks.figure_tables import rows_of
from sdewm.base.records import ROOT, read_table
from sdewm.plots.approximation_plots import approximation
from sdewm.plots.certified_horizon_plots import certified_horizon
from sdewm.plots.jacobian_weight_plots import effects_of_penalty
from sdewm.plots.related_plots import related_measurements
from sdewm.plots.study_plots import (
    horizon_convergence,
    implicit_regularisation,
    robustness_of_filters,
    weight_sweep,
)
from sdewm.plots.training_plots import learning_curves
from sdewm.report.analyses import ANALYSES
from sdewm.study.committed import read_results

STEMS = sorted(path.stem for path in (ROOT / "analysis").glob("fig_*.py"))
FROM_ROWS = {one.stem: one.figure for one in ANALYSES.values()}
FROM_ROWS["fig_representation_error_pixels"] = FROM_ROWS["fig_representation_error"]
FROM_ROWS["fig_jacobian_weight"] = effects_of_penalty
FROM_ROWS["fig_certified_horizon"] = certified_horizon
FROM_STUDIES = {"fig_weight_sweep": weight_sweep, "fig_horizon_convergence": horizon_convergence}


def load(stem):
    spec = importlib.util.spec_from_file_location(stem, ROOT / "analysis" / f"{stem}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def drawing(stem):
    """What the committed figure shows."""
    script = load(stem)
    if stem in FROM_STUDIES:
        return FROM_STUDIES[stem](script.differences(read_results(script.STUDY)))
    rows, facts = read_table(rows_of(stem))
    if stem == "fig_related":
        return related_measurements(script.figure_rows(rows), script.trade_off(rows))
    if stem in FROM_ROWS:
        return FROM_ROWS[stem](rows)
    if stem == "fig_approximation":
        return approximation(script.figure_rows(rows))
    if stem == "fig_implicit_regularisation":
        return implicit_regularisation(script.figure_rows(rows), script.RATIO)
    if stem == "fig_robustness_curves":
        return robustness_of_filters(script.figure_rows(rows))
    if stem == "fig_learning_curves":
        return learning_curves(script.figure_rows(rows, read_table(script.PUBLISHED)[0]))
    return script.SCRIPT.drawing(rows, facts)
