"""The table of enclosures: its sets of errors, its criterion, and one short run of it."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from sdewm.base.records import read_table

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def table():
    path = ROOT / "analysis" / "table_enclosure.py"
    spec = importlib.util.spec_from_file_location("table_enclosure", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["table_enclosure"] = module  # its dataclass looks its own module up
    spec.loader.exec_module(module)
    return module


def test_the_ellipsoid_contains_its_share_of_the_errors(table):
    generator = torch.Generator().manual_seed(0)
    errors = torch.zeros(400, 5).double()
    errors[:, 2:] = torch.randn(400, 3, generator=generator).double() * torch.tensor([1.0, 5, 0.1])
    found = table.ellipsoid(0.01, errors, slice(2, 5), 3)
    inside = torch.linalg.lstsq(found.directions, errors.T).solution.norm(dim=0) <= found.radius
    assert int(inside.sum()) == 380
    assert torch.allclose(found.directions @ found.directions.T, errors.T @ errors / 400)


def test_the_last_step_within_three_is_before_the_first_above(table):
    ratio = torch.tensor([1.0, 2.0, 3.1, 1.0])
    assert table._last_within(ratio) == 1
    assert table._last_within(ratio[:2]) == 1
    assert table._last_within(torch.tensor([1.0, 2.0, torch.inf])) == 1


def test_a_short_run_writes_both_tables(table, tmp_path, capsys, monkeypatch):
    small = {"COPIES": 12, "NOISES": (0.001,), "AUDIT_SIZES": (0.03,), "AUDIT_STEPS": 1}
    for name, value in small.items():
        monkeypatch.setattr(table, name, value)
    run = str(ROOT / "paper_checks" / "small_models" / "weight0-seed0")
    table.main([run, "--steps", "1", "--episodes", "1", "--starts", "1", "--out", str(tmp_path)])
    rows, _ = read_table(tmp_path / "table_enclosure.csv")
    assert [row["errors"] for row in rows][:2] == ["z, ball 0.03", "z, ball 0.1"]
    assert all(1.0 <= row["ratio_1"] < 1.1 for row in rows[:3])
    (seen,) = (row for row in rows if row["errors"] == "observation, ball 0.003")
    assert 1.0 <= seen["ratio_1"] < 2.0
    audit, _ = read_table(tmp_path / "table_enclosure_audit.csv")
    assert [(row["violations"], row["starts"]) for row in audit] == [(0, 1)]
    assert "within_3" in capsys.readouterr().out


def test_more_starts_than_there_are_rows_are_refused(table, capsys):
    run = str(ROOT / "paper_checks" / "small_models" / "weight0-seed0")
    with pytest.raises(SystemExit):
        table.main([run, "--episodes", "0", "--starts", "100000"])
    assert "--starts: at most 512 for 32" in capsys.readouterr().err


def test_the_readme_says_what_the_tables_of_enclosures_say():
    readme = " ".join((ROOT / "README.md").read_text("utf-8").split())
    data = ROOT / "figures" / "data"
    rows = [r for r in read_table(data / "table_enclosure.csv")[0] if r["run"] == "weight0-seed0"]
    by_error = {
        (name, cut): [r for r in rows if (r["errors"], r["slabs"] > 1) == (name, cut)]
        for name in {r["errors"] for r in rows}
        for cut in (False, True)
    }
    small, large = by_error["z, ball 0.03", False], by_error["z, ball 0.1", False]
    excess = max(100 * (r["ratio_30"] - 1) for r in small)
    assert f"within {excess:.1f} % of the largest distance that an attack finds, 30 steps" in readme
    reach, cut = (
        sorted(int(r["within_3"]) for r in some) for some in (large, by_error["z, ball 0.1", True])
    )
    assert f"within a factor of 3 for {reach[0]} and {reach[1]} steps" in readme
    assert f"into 16 slabs for {cut[0]} and {cut[1]}" in readme
    whole = {int(r["within_3"]) for r in by_error["whole state, ball 0.03", False]}
    far = min(int(r["within_3"]) for r in by_error["whole state, ball 0.03", True])
    assert f"in the whole state for {whole.pop()} and, in slabs, at least {far}" in readme
    assert not whole
    every = read_table(data / "table_enclosure.csv")[0]
    agent = [r for r in every if r["run"] == "agent" and r["slabs"] == 16]
    own = [r for r in agent if r["errors"] == "z, ellipsoid of noise 0.001"]
    worst = max(r[f"ratio_{k}"] for r in own for k in (1, 5, 10, 15, 20, 30))
    assert f"slabs, is within {100 * (worst - 1):.1f} % for 30 steps on the agent" in readme
    ends = [r["abstains"] for r in every if r["errors"] == "z, ellipsoid of noise 0.01"]
    assert f"and abstains at step {max(ends):.0f} at the latest" in readme
    seen, drawn = (
        max(r["ratio_30"] for r in every if (r["run"], r["errors"]) == ("agent", name))
        for name in ("observation, ball 0.003", "z, a drawn error of noise 0.1")
    )
    assert f"within {100 * (seen - 1):.1f} % of the attack 30 steps ahead" in readme
    assert f"of noise 0.1 it is within {100 * (drawn - 1):.0f} % after 30 steps" in readme
    audit = read_table(data / "table_enclosure_audit.csv")[0]
    starts = sum(int(r["starts"]) for r in audit)
    assert f"[{starts} audited starts]" in readme and not any(r["violations"] for r in audit)


def test_the_readme_says_how_close_the_enclosure_is_in_the_figure_of_divergence():
    rows, _ = read_table(ROOT / "figures" / "data" / "fig_model_divergence.csv")
    worst = {}
    for kind, last in (("mean", 40), ("value change", 30)):
        for panel in {row["panel"] for row in rows}:
            own = [row for row in rows if (row["panel"], row["kind"]) == (panel, kind)]
            bound, measured = (
                {row["horizon"]: row["value"] for row in own if row["series"] == series}
                for series in ("enclosure", "measured on its paths")
            )
            assert all(bound[k] >= measured[k] for k in bound)  # on every path
            ratio = max(bound[k] / measured[k] for k in range(last + 1))
            worst[kind] = max(worst.get(kind, 0.0), ratio)
            if (kind, panel) == ("mean", "recorded actions"):
                assert bound[42] < float("inf") == bound[43]
    every = [row for row in rows if (row["kind"], row["series"]) == ("mean", "measured")]
    first = min(row["value"] for row in every if row["horizon"] == 0)
    assert max(row["value"] for row in every) < 4.0 * first
    readme = " ".join((ROOT / "README.md").read_text("utf-8").split())
    distance, value = (100 * (worst[kind] - 1) for kind in ("mean", "value change"))
    assert f"within {distance:.1f} % of the distance on these paths for 40 steps" in readme
    assert f"within {value:.0f} % of the change of the critic's value for 30" in readme
    assert "that of the distance abstains after 42 steps" in readme
    assert "measured distance stays within four times its first value" in readme
