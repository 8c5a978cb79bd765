"""From which committed table each figure is drawn that is not measured by its own script."""

from __future__ import annotations

from pathlib import Path

from sdewm.base import records
from sdewm.study.committed import table_of

FROM_STUDIES = {"fig_weight_sweep": "cartpole", "fig_horizon_convergence": "cartpole"}
FROM_TABLES = {"fig_related": "table_related"}  # of the same numbers
FROM_RUNS = {
    *("fig_approximation", "fig_jacobian_weight", "fig_learning_curves", "fig_model_divergence"),
    *("fig_model_expansion", "fig_model_stability", "fig_open_loop", "fig_representation_error"),
    *("fig_representation_error_pixels", "fig_implicit_regularisation", "fig_robustness_curves"),
    "fig_certified_horizon",
    *FROM_STUDIES,
    *FROM_TABLES,
}


def rows_of(stem: str) -> Path:
    """The committed table from which a figure of runs or of a study is drawn."""
    data = records.ROOT / "figures" / "data"
    if stem in FROM_STUDIES:
        return table_of(FROM_STUDIES[stem], data)
    return data / f"{FROM_TABLES.get(stem, stem)}.csv"
