"""Rows of the repository's studies with values of one's own."""

import importlib.util

from sdewm.base.records import ROOT
from sdewm.study.committed import Results, declaration
from sdewm.study.rows import COLUMNS
from sdewm.study.study_file import read_study


def load(stem):
    """A script of analysis/ as a module."""
    spec = importlib.util.spec_from_file_location(stem, ROOT / "analysis" / f"{stem}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def results_of(name, seeds, value):
    """The first seeds of a study; value(arm, seed, updates, end point) of each row."""
    study = read_study(declaration(name))
    rows = [
        dict.fromkeys(COLUMNS, "x")
        | {
            "arm": arm, "seed": str(seed), "updates": str(updates), "end_point": end_point,
            "value": repr(float(value(arm, seed, updates, end_point))), "digest": study.digest,
        }
        for seed in study.seeds[:seeds]
        for arm in study.arms
        for updates in study.measured_at
        for end_point in study.end_points
    ]  # fmt: skip
    return Results(study, rows)
