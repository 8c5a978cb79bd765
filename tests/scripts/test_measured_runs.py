"""Rows of several runs: an interrupted command measures again only what is not whole in its log."""

import argparse
import json
import re
import shutil
from types import SimpleNamespace

import pytest

from sdewm.base.records import manifest
from sdewm.scripts.measured_runs import RunsTable, data_facts, measured_runs, require_alike
from sdewm.study.declaration import with_settings
from sdewm.train.presets import preset
from tests.plots.committed import load
from tests.study.declared import EPISODES

SHIPPED = EPISODES.parent / "weight0-seed0"

DECIDING = ("seed", "code")


@pytest.fixture
def measure(tmp_path):
    """Rows of the runs a, b and c, of which one may be interrupted; and which were measured."""
    asked = []

    def call(seed=0, stop="", weights=""):
        def rows_of(name):
            asked.append(name)
            if name == stop:
                raise KeyboardInterrupt
            return [{"run": name, "quantity": q, "value": float(seed)} for q in ("x", "y")]

        runs = [(name + weights, lambda name=name: rows_of(name)) for name in "abc"]
        facts = manifest(seed=seed, code="1")
        asked.clear()
        return measured_runs(runs, tmp_path / "log.jsonl", facts, DECIDING)

    return call, asked, tmp_path / "log.jsonl"


def test_a_second_call_measures_what_is_missing(measure):
    call, asked, _ = measure
    with pytest.raises(KeyboardInterrupt):
        call(stop="b")
    assert asked == ["a", "b"]
    rows = call()
    assert asked == ["b", "c"]
    assert [(row["run"], row["quantity"]) for row in rows] == [(r, q) for r in "abc" for q in "xy"]
    assert [*rows[0]] == ["run", "quantity", "value"]
    assert call() == rows and asked == []


def test_a_run_that_was_cut_off_is_measured_again(measure):
    call, asked, log = measure
    rows = call()
    lines = log.read_text("utf-8").splitlines(keepends=True)
    log.write_text("".join(lines[:-1]), "utf-8")
    assert call() == rows and asked == ["c"]


def test_rows_of_other_settings_or_weights_do_not_count(measure):
    call, asked, _ = measure
    call()
    assert call(seed=1)[0]["value"] == 1.0 and asked == ["a", "b", "c"]
    call(seed=1, weights=" other")
    assert asked == ["a", "b", "c"]


def test_a_table_is_measured_again_where_a_deciding_fact_differs(tmp_path, capsys):
    asked = []

    def runs_of(given):
        return [("a", lambda: asked.append(given.data) or [{"value": 1.0}])], {
            "data": given.data.name
        }

    table = RunsTable("some", "data", "episodes", runs_of, episodes=(4, 2))
    parser = table.parser("", tmp_path)

    def rows(*words):
        given = parser.parse_args([*words, "--log", str(tmp_path / "log.jsonl")])
        return table.rows(given, tmp_path / "some.csv")

    with pytest.raises(ValueError, match=r"expected RUNS and --data DIRECTORY \(.*some\.csv is"):
        rows()
    for half in (["run"], ["--data", "d"]):
        with pytest.raises(ValueError, match="expected RUNS and --data DIRECTORY"):
            rows(*half)
    for wrong in (["--episodes", "1"], ["--seed", "-1"]):
        with pytest.raises(ValueError, match=wrong[0]):
            rows("run", "--data", "d", *wrong)
    assert not asked
    found, facts = rows("run", "--data", "d")
    assert found == [{"value": 1.0}] and (facts["data"], facts["episodes"]) == ("d", "4")
    assert rows("run", "--data", "d") == rows() == (found, facts) and len(asked) == 1
    for ignored in (["--seed", "1"], ["--episodes", "3"]):
        with pytest.raises(ValueError, match="is taken as it is: leave out --seed and --episodes"):
            rows(*ignored)
    for other in (
        ["--data", "e"],
        ["--data", "e", "--seed", "1"],
        ["--data", "e", "--episodes", "2"],
    ):
        rows("run", *other)
    assert len(asked) == 4


def of_run(updates=8000, **settings):
    config = with_settings(preset("tiny", seed=settings.pop("seed", 0)), settings)
    return SimpleNamespace(config=config, counters={"updates": updates})


def test_runs_that_a_table_tells_apart_are_alike():
    runs = {
        "a": of_run(),
        "b": of_run(seed=1, pictures=False),
        "c": of_run(**{"jacobian.weight": 0.1}),
        "d": of_run(seed=1, **{"jacobian.weight": 0.1}),
    }
    require_alike(runs, ["jacobian.weight"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"jacobian.squared": False}, "'b' has jacobian.squared=False, 'a' has True"),
        ({"jacobian.excess_over": 4.0}, "jacobian.excess_over=4.0"),
        ({"comparator.latent_noise": 0.2}, "comparator.latent_noise=0.2"),
        ({"optimiser.dynamics_weight_decay": 1e-4}, "dynamics_weight_decay=0.0001"),
        ({"updates": 3000}, "updates made=3000, 'a' has 8000"),
        ({"seed": 0}, "'b' and 'a' have one seed, 0, and the same jacobian.weight"),
    ],
)
def test_runs_that_differ_in_more_than_a_table_says_are_refused(settings, message):
    runs = {"a": of_run(), "b": of_run(**({"seed": 1} | settings))}
    with pytest.raises(ValueError, match=re.escape(message)):
        require_alike(runs, ["jacobian.weight"])


def test_episodes_of_one_name_are_told_apart(tmp_path):
    """Rows that were measured on other episodes in a folder of the same name are not reused."""
    shutil.copytree(EPISODES, tmp_path / EPISODES.name)
    assert data_facts(tmp_path / EPISODES.name) == data_facts(EPISODES)
    manifest = tmp_path / EPISODES.name / "manifest.json"
    text = manifest.read_text()
    sums = json.loads(text)["chunks"][0]["sha256"]
    manifest.write_text(text.replace(sums, "0" * len(sums)))
    other = data_facts(tmp_path / EPISODES.name)
    assert other["data"] == EPISODES.name and other != data_facts(EPISODES)
    for stem in ("fig_jacobian_weight", "fig_certified_horizon", "table_related"):
        given = argparse.Namespace(runs=[SHIPPED], data=EPISODES, episodes=2, seed=0)
        facts = load(stem).runs_of(given)[1]
        assert facts["data_digest"] == data_facts(EPISODES)["data_digest"]
