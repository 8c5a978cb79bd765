"""The coverage table: what is simulated, and that a wrong quantile shows."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def load(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "analysis" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_students_t_covers_normal_means_and_the_normal_quantile_does_not(monkeypatch):
    table = load("table_coverage")
    monkeypatch.setattr(table, "EPISODES", (8,))
    monkeypatch.setattr(table, "REPEATS", {"interval": 4000, "bootstrap": 20, "test": 300})
    rows = {(row["quantity"], row["law"]): row for row in table.coverage(seed=3)}
    assert {law for _, law in rows} == {"normal", "skewed", "heavy-tailed"}
    right = rows["mean, Student's t", "normal"]["measured"]
    wrong = rows["mean, normal quantile (not used)", "normal"]["measured"]
    assert abs(right - 0.95) < 0.014 and 0.89 < wrong < 0.923  # P(|t_7| <= 1.96) = 0.909
    assert rows["mean, Student's t", "normal"]["width"] == 1.0
    assert rows["mean, normal quantile (not used)", "normal"]["width"] == 0.83  # 1.96 / 2.3646
    assert rows["zero drift, Hotelling (not used)", "skewed"]["measured"] > 0.1
