"""Declared studies: what is refused, which cells run, what survives, and the verdicts."""

import hashlib
import json
import signal
import sys
import threading
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sdewm.base.stats import Estimate
from sdewm.cli import main
from sdewm.commands import study_cell
from sdewm.robustness.statistics import compare
from sdewm.study import end_points, engine
from sdewm.study.declaration import read_study, with_settings
from sdewm.study.engine import LocalPool, run_study
from sdewm.study.rows import (
    COLUMNS,
    Place,
    append_rows,
    expected_cost,
    missing_cells,
    read_rows,
)
from sdewm.study.verdicts import judge, report
from sdewm.train.presets import preset
from sdewm.train.run_directory import locked
from sdewm.train.signals import Interrupted, StopRequest
from tests.child_process import ROOT, wait_until

EPISODES = ROOT / "paper_checks" / "small_models" / "episodes"
TEXT = f"""
name = "smoke"
data = "{EPISODES}"
test_data = "{EPISODES}"
preset = "tiny"
updates = 4
seeds = [0, 1, 2]
end_points = ["open_loop 5", "jacobian"]

[settings]
"model.units" = 16
"model.rssm.deter" = 16
"model.rssm.hidden" = 16
batch_size = 2
batch_length = 8

[arms.baseline]
[arms.strong]
"jacobian.weight" = 1.0
pictures = false

[[comparisons]]
claim = "C5"
arm = "strong"
baseline = "baseline"
end_point = "open_loop 5"

[[controls]]
arm = "strong"
baseline = "baseline"
end_point = "jacobian"
expected = "better"
"""


def written(folder, text=TEXT):
    path = folder / "study.toml"
    path.write_text(text)
    return path


@pytest.fixture
def study(tmp_path):
    return read_study(written(tmp_path))


@pytest.fixture
def place(study, tmp_path):
    return Place(tmp_path / "out", study.digest, tmp_path / "study.toml")


def test_cells_are_all_arms_with_all_seeds_and_their_commands_say_so(study, tmp_path):
    assert [cell.name for cell in study.cells][:3] == [
        *("baseline-seed0", "strong-seed0", "baseline-seed1")
    ]
    assert len(study.cells) == 6
    words = study.words(study.cells[1], tmp_path / "run")
    assert words[:3] == ["train", "--preset", "tiny"] and "--world-model-only" in words
    for pair in (["--updates", "4"], ["--seed", "0"], ["--jacobian.weight", "1.0"]):
        assert words[words.index(pair[0]) + 1] == pair[1]
    assert (
        "--no-pictures" in words
        and ["--model.units", "16"]
        == words[words.index("--model.units") : words.index("--model.units") + 2]
    )
    config = study.config(study.cells[1])
    assert (config.jacobian.weight, config.model.units, config.pictures) == (1.0, 16, False)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "smoke"', 'nam = "smoke"', "did you mean 'name'?"),
        ('name = "smoke"\n', "", "name is missing"),
        ("updates = 4", "updates = 0", "updates=0"),
        ("seeds = [0, 1, 2]", "seeds = [0, 0]", "expected different seeds"),
        ("seeds = [0, 1, 2]", "seeds = []", "expected different seeds, at least one"),
        ("seeds = [0, 1, 2]", "seeds = 3", "seeds=3: expected list"),
        ('"jacobian.weight" = 1.0', '"jacobian.wieght" = 1.0', "did you mean 'weight'?"),
        ('"jacobian.weight" = 1.0', '"jacobian.weight" = -1.0', "jacobian.weight=-1.0"),
        ('"jacobian.weight" = 1.0', '"batch_size.x" = 1', "part of no group"),
        ('preset = "tiny"', 'preset = "tyni"', "preset='tyni' is not allowed"),
        ('"open_loop 5", "jacobian"', '"open_lop 5"', "did you mean 'open_loop'?"),
        ('"open_loop 5", "jacobian"', '"open_loop 500", "jacobian"', "expected 1 to 80 policy"),
        ('"open_loop 5", "jacobian"', '"decoded noise", "jacobian"', "expected NAME:STRENGTH"),
        ('end_point = "jacobian"', 'end_point = "decoded noise:0"', "end_point="),
        ('arm = "strong"', 'arm = "stong"', "did you mean 'strong'?"),
        ('expected = "better"', 'expected = "good"', "expected="),
        ('claim = "C5"', 'clam = "C5"', "did you mean 'claim'?"),
        ('claim = "C5"\n', "", "claim"),
        (f'test_data = "{EPISODES}"', 'test_data = "nowhere"', "there is no such directory"),
        ('"jacobian"]', '"jacobian", "area rotation"]', "is for images, not for vectors"),
        ("[arms.baseline]", "[arms.baseline", "cannot be read"),
        ("pictures = false", "seed = 7", "setting 'seed': it follows from the rest of the"),
        ("pictures = false", "updates = 9", "setting 'updates': it follows from"),
        ("batch_size = 2", "keep-every-updates = 3", "setting 'keep-every-updates': it follows"),
        ('name = "smoke"', 'name = "../smoke"', "name='../smoke': expected letters"),
        ("[arms.strong]", '[arms."../strong"]', "name='../strong': expected letters"),
        ('baseline = "baseline"', 'baseline = "strong"', "expected another arm than its baseline"),
        ('"open_loop 5", "jacobian"', '"jacobian", "jacobian"', "expected different ones"),
    ],
)
def test_a_wrong_declaration_is_one_sentence_before_anything_starts(
    old, new, said, tmp_path, capsys
):
    assert old in TEXT
    path = written(tmp_path, TEXT.replace(old, new))
    assert main(["study", str(path), "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_file_that_is_no_text_is_named(tmp_path, capsys):
    path = tmp_path / "study.toml"
    path.write_bytes(b'name = "\xff"')
    assert main(["study", str(path)]) == 2
    assert f"study={str(path)!r} cannot be read" in capsys.readouterr().err


def test_no_cell_at_a_time_is_refused(tmp_path, capsys):
    assert main(["study", str(written(tmp_path)), "--jobs", "0"]) == 2
    assert "jobs=0" in capsys.readouterr().err


def test_two_processes_do_not_share_a_study(tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    with locked(out):
        assert main(["study", str(written(tmp_path)), "--out", str(out)]) == 2
    assert f"out={str(out)!r} is being trained by process" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["lock"]


def test_settings_reach_nested_fields_and_are_checked():
    assert with_settings(preset("tiny"), {"model.rssm.deter": 32}).model.rssm.deter == 32
    with pytest.raises(ValueError, match="model.units=-1"):
        with_settings(preset("tiny"), {"model.units": -1})


def rows_for(study, values):
    """Rows from {(arm, end_point): values by seed}."""
    return [
        {
            "arm": arm, "end_point": name, "seed": str(seed), "digest": study.digest,
            "value": repr(value), "standard_error": "0.1", "updates": str(study.updates),
        }
        for (arm, name), row in values.items()
        for seed, value in enumerate(row)
    ]  # fmt: skip


SEEN = {  # differences of the arm to the baseline: three seeds
    "support": [-0.30, -0.31, -0.29],
    "refuted": [0.00, 0.01, -0.01],
    "undecided": [-0.30, 0.10, -0.10],
}


@pytest.mark.parametrize("outcome", [*SEEN])
@pytest.mark.parametrize("control", [True, False])
def test_verdicts_follow_the_declared_rule_and_are_void_without_the_control(
    study, outcome, control
):
    values = {
        ("baseline", "open_loop 5"): [1.0, 2.0, 3.0],
        ("strong", "open_loop 5"): [
            a + b for a, b in zip([1.0, 2.0, 3.0], SEEN[outcome], strict=True)
        ],
        ("baseline", "jacobian"): [1.0, 1.1, 1.2],
        ("strong", "jacobian"): [0.5, 0.61, 0.7] if control else [1.4, 0.9, 1.2],
    }
    rows = rows_for(study, values)
    controls, comparisons = judge(study, rows)
    assert controls[0].outcome == ("holds" if control else "fails")
    assert comparisons[0].outcome == (outcome if control else "void")
    text = report(study, rows)
    assert ("VOID" in text) == (not control) and comparisons[0].outcome in text


@pytest.mark.parametrize(("clean", "outcome"), [(0.0, "support"), (0.2, "undecided")])
def test_a_gain_that_costs_another_end_point_is_no_support(clean, outcome, tmp_path):
    """Also where the interval of the cost only reaches above its margin."""
    text = TEXT.replace('"jacobian"]', '"jacobian", "decoded noise:0"]', 1)
    text = text.replace('claim = "C5"', 'claim = "C5"\nnot_worse = "decoded noise:0"')
    study = read_study(written(tmp_path, text))
    base = [1.0, 2.0, 3.0]
    values = {
        ("baseline", "open_loop 5"): base,
        ("strong", "open_loop 5"): [0.7, 1.69, 2.71],
        ("baseline", "jacobian"): base,
        ("strong", "jacobian"): [0.5, 1.51, 2.5],
        ("baseline", "decoded noise:0"): base,
        # With 0.2 the mean cost is 0 and its interval reaches from below −.05 to above .05.
        ("strong", "decoded noise:0"): [1.0 + clean, 2.0, 3.0 - clean],
    }
    assert judge(study, rows_for(study, values))[1][0].outcome == outcome


def test_the_cost_of_a_plan_is_that_of_the_missing_cells(study, place):
    for cell, seconds, memory in zip(study.cells, (1800.0, 5400.0), (300.0, 500.0), strict=False):
        place.run(cell).mkdir(parents=True)
        row = {"updates": 4, "seconds": seconds, "memory_mb": memory}
        manifest = {"manifest": {"seed": 0}}
        lines = [json.dumps(line) for line in (manifest, row)]
        (place.run(cell) / "metrics.jsonl").write_text("\n".join(lines) + "\n")
        place.rows(cell).write_text("[]")
    told = expected_cost(place, study.cells, 4)
    assert told == "about 4 hours of one worker, as the 2 trained cells took, and 500 MB each"


def test_pairs_are_of_equal_seeds_and_one_pair_decides_nothing(study):
    values = {("baseline", "open_loop 5"): [1.0, 5.0], ("strong", "open_loop 5"): [0.5]}
    _, comparisons = judge(study, rows_for(study, values))
    assert comparisons[0].paired is None and comparisons[0].outcome == "undecided"


def test_there_is_no_verdict_before_all_declared_seeds_are_there(study):
    base = [1.0, 2.0, 3.0]
    values = {
        ("baseline", "open_loop 5"): base,
        ("strong", "open_loop 5"): [0.7, 1.69, 2.71],
        ("baseline", "jacobian"): base,
        ("strong", "jacobian"): [0.5, 1.51, 2.5],
    }
    for name, outcome in (
        ("open_loop 5", "undecided"),
        ("jacobian", "undecided"),
        (None, "support"),
    ):
        rows = rows_for(study, values)
        if name is not None:  # the last seed of one arm is missing
            rows = [
                row for row in rows
                if (row["arm"], row["end_point"], row["seed"]) != ("strong", name, "2")
            ]  # fmt: skip
        controls, comparisons = judge(study, rows)
        assert comparisons[0].outcome == outcome
        assert controls[0].outcome == ("open" if name == "jacobian" else "holds")
        text = report(study, rows)
        assert ("INTERIM: 1 of 2" in text) == (name is not None) and "VOID" not in text


class FakeCells:
    """In the place of training and measuring; the code runs in the process of the cell.

    It finds the name of its cell in `cell`, the number of its attempts in `attempt`, and a folder
    for marks in `marks`.
    """

    def __init__(self, monkeypatch, study, folder, code="pass"):
        self.names = folder / "started.txt"
        script = folder / "cell.py"
        row = dict.fromkeys(COLUMNS, "x") | {"value": "1.5", "standard_error": "0.1"}
        row |= {"digest": study.digest, "updates": str(study.updates)}
        rows = [row | {"end_point": name} for name in study.end_points]
        script.write_text(
            "import json, pathlib, signal, sys\n"
            f"marks, names = pathlib.Path({str(folder)!r}), pathlib.Path({str(self.names)!r})\n"
            "folder, arm, seed = sys.argv[2:]\n"
            "cell = f'{arm}-seed{seed}'\n"
            "with names.open('a') as file:\n    file.write(cell + '\\n')\n"
            "attempt = names.read_text().split().count(cell)\n" + code + "\n"
            f"rows = [row | dict(arm=arm, seed=seed) for row in {rows!r}]\n"
            f"place = pathlib.Path(folder, {study.digest!r}, cell + '.json')\n"
            "place.write_text(json.dumps(rows))\n"
        )
        monkeypatch.setattr(engine, "WORKER", (sys.executable, "-S", str(script)))

    @property
    def started(self):
        return self.names.read_text().split() if self.names.exists() else []

    def forget(self):
        self.names.unlink()


def test_a_second_call_does_what_is_missing(study, place, tmp_path, monkeypatch):
    fake, said = FakeCells(monkeypatch, study, tmp_path), []
    assert run_study(study, place, LocalPool(place, 2), StopRequest(), said.append) == []
    rows = read_rows(study, place)
    assert len(rows) == 12 and sorted(fake.started) == sorted(cell.name for cell in study.cells)
    assert rows[0]["value"] == "1.5" and rows[0]["digest"] == study.digest
    assert "[6/6]" in said[-1]
    text = place.table.read_text()
    place.table.write_text(text[: text.rindex("\n", 0, -30) - 5])  # a line was cut off
    lost = missing_cells(study, place)
    assert len(lost) == 1
    fake.forget()
    run_study(study, place, LocalPool(place, 2), StopRequest(), said.append)
    assert fake.started == [lost[0].name] and missing_cells(study, place) == []
    header = place.table.read_text().splitlines()
    assert header.count(header[0]) == 1


def test_rows_of_another_declaration_do_not_count(study, place, tmp_path, monkeypatch):
    FakeCells(monkeypatch, study, tmp_path)
    run_study(study, place, LocalPool(place, 2), StopRequest(), lambda line: None)
    other = read_study(written(tmp_path, TEXT.replace("updates = 4", "updates = 5")))
    elsewhere = Place(place.folder, other.digest, place.file)
    assert other.digest != study.digest and len(missing_cells(other, elsewhere)) == 6
    assert elsewhere.run(other.cells[0]) != place.run(study.cells[0])
    assert len(read_rows(study, place)) == 12


def test_a_failed_cell_is_tried_again_then_reported_while_the_others_go_on(
    study, place, tmp_path, monkeypatch
):
    code = (
        "if cell == 'strong-seed1':\n    sys.exit('out of luck')\n"
        "if cell == 'baseline-seed0' and attempt == 1:\n    sys.exit(1)"
    )
    fake, said = FakeCells(monkeypatch, study, tmp_path, code), []
    (failed,) = run_study(study, place, LocalPool(place, 2), StopRequest(), said.append)
    assert (
        failed.startswith("strong-seed1 (exit code 1, see ")
        and fake.started.count("strong-seed1") == 2
    )
    assert place.log(study.cells[3]).read_text().count("out of luck") == 2
    assert fake.started.count("baseline-seed0") == 2
    assert [cell.name for cell in missing_cells(study, place)] == ["strong-seed1"]
    assert any("tried again" in line for line in said)


def test_an_interruption_ends_the_cells_and_keeps_the_rows(study, place, tmp_path, monkeypatch):
    code = (
        "if not cell.endswith('0'):\n"
        "    signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "    try:\n        (marks / 'begun').touch()\n        signal.pause()\n"
        "    except KeyboardInterrupt:\n        (marks / 'saved').touch()\n"
    )
    FakeCells(monkeypatch, study, tmp_path, code)
    stop = StopRequest()

    def interrupt():
        wait_until((tmp_path / "begun").exists)
        stop.number = signal.SIGTERM

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(Interrupted):
        run_study(study, place, LocalPool(place, 1), stop, lambda line: None)
    thread.join()
    assert (tmp_path / "saved").exists() and len(read_rows(study, place)) == 4


def test_a_real_study_from_the_command_line(tmp_path, capsys):
    path = written(tmp_path, TEXT.replace("seeds = [0, 1, 2]", "seeds = [0]"))
    out = tmp_path / "out"
    assert main(["study", str(path), "--out", str(out), "--plan"]) == 0
    told = capsys.readouterr().out
    assert "2 of 2 cells of 4 updates missing" in told and "no cell has been trained yet" in told
    assert main(["study", str(path), "--out", str(out), "--jobs", "2"]) == 0
    said = capsys.readouterr()
    assert (
        "void" in said.out and "[2/2]" in said.err
    )  # one seed decides nothing, not even a control
    study = read_study(path)
    rows = read_rows(study, Place(out, study.digest, path))
    assert "sdewm train --preset tiny" in rows[0]["command"]
    assert len(rows) == 4 and all(float(row["standard_error"]) > 0 for row in rows)
    assert main(["study", str(path), "--out", str(out), "--report"]) == 0
    assert capsys.readouterr().out == said.out
    assert main(["study", str(path), "--out", str(out), "--plan"]) == 0
    assert "hours of one worker, as the 2 trained cells took, and" in capsys.readouterr().out


def test_rows_are_appended_below_one_head(tmp_path):
    row = dict.fromkeys(COLUMNS, "x")
    for _ in range(2):
        append_rows(tmp_path / "rows.csv", [row])
    lines = (tmp_path / "rows.csv").read_text().splitlines()
    assert len(lines) == 3 and lines[0].startswith("study,digest,arm")


def test_intervals_of_several_confirmatory_comparisons_are_wider(tmp_path):
    second = '[[comparisons]]\nclaim = "C6"\narm = "strong"\nbaseline = "baseline"\n'
    study = read_study(written(tmp_path, TEXT + second + 'end_point = "jacobian"\n'))
    theirs, ours = [1.0, 2.0, 3.0], [0.7, 1.8, 2.6]
    values = {("baseline", "open_loop 5"): theirs, ("strong", "open_loop 5"): ours}
    found = judge(study, rows_for(study, values))[1][0].paired.difference
    assert found == compare(ours, theirs, 0.975).difference
    assert found != compare(ours, theirs, 0.95).difference


def test_an_open_loop_end_point_is_the_mean_logarithm_at_its_step(monkeypatch):
    errors = np.exp(np.arange(12.0).reshape(2, 6))  # of 2 episodes at 6 steps
    rollout = SimpleNamespace(observations=[errors, errors])
    found = SimpleNamespace(rollout=rollout, observations=errors)
    monkeypatch.setattr(end_points, "squared_error", lambda one, truth: one)
    run = SimpleNamespace(predicted=found, scale=1.0)
    measured = end_points.Measurement.open_loop(run, "4")
    assert measured.value == pytest.approx((3 + 9) / 2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_study_for_a_gpu_is_planned_without_one_and_does_not_start(tmp_path, capsys):
    path = written(tmp_path, TEXT.replace("[settings]", '[settings]\ndevice = "cuda"'))
    out = tmp_path / "out"
    assert main(["study", str(path), "--out", str(out), "--plan"]) == 0
    capsys.readouterr()
    assert main(["study", str(path), "--out", str(out)]) == 2
    assert "device='cuda'" in capsys.readouterr().err and not out.exists()


AGENTS = """
name = "agents"
env = "own:cartpole_pixels"
preset = "tiny"
env_frames = 1200
seeds = [0, 1]
end_points = ["return_area", "final_return", "final_loss"]

[settings]
obs = "proprio"
action_repeat = 10
prefill_policy_steps = 100
eval_every_env_frames = 600
eval_episodes = 1
train_ratio = 32
batch_size = 4
batch_length = 8
log_every_updates = 2
"model.units" = 16
"model.rssm.deter" = 16
"model.rssm.hidden" = 16
pictures = false

[arms.baseline]
[arms.penalty]
"jacobian.weight" = 0.01
"""


@pytest.mark.slow
def test_a_study_of_agents_measures_their_returns(tmp_path, capsys):
    path = written(tmp_path, AGENTS.replace("seeds = [0, 1]", "seeds = [0]"))
    out = tmp_path / "out"
    assert main(["study", str(path), "--out", str(out), "--jobs", "2"]) == 0
    study = read_study(path)
    rows = read_rows(study, Place(out, study.digest, path))
    assert {row["updates"] for row in rows} == {"end"} and len(rows) == 6
    run = out / study.digest / "baseline-seed0"
    lines = (run / "evaluation.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines if '"by": "train"' in line]
    assert [row["env_frames"] for row in found] == [600, 1200]
    own = {row["end_point"]: float(row["value"]) for row in rows if row["arm"] == "baseline"}
    returns = [row["mean_return"] for row in found]
    assert own["final_return"] == pytest.approx(-np.log(returns[-1]))
    assert own["return_area"] == pytest.approx(-np.log(np.mean(returns)))
    assert "1200 env_frames" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('env = "own:cartpole_pixels"\n', "", "expected either data with updates"),
        ("env_frames = 1200", "env_frames = 0", "env_frames=0"),
        ("env_frames = 1200", "env_frames = 1200\nupdates = 3", "updates: agents are measured at"),
        ('"return_area", ', '"open_loop 5", ', "end_point='open_loop 5' needs test_data"),
    ],
)
def test_a_wrong_study_of_agents_is_one_sentence(old, new, said, tmp_path, capsys):
    assert old in AGENTS
    path = written(tmp_path, AGENTS.replace(old, new))
    assert main(["study", str(path), "--plan"]) == 2
    assert said in capsys.readouterr().err


def test_world_models_have_no_returns_and_old_digests_stay(tmp_path):
    with pytest.raises(ValueError, match="world models have no returns; give env"):
        read_study(written(tmp_path, TEXT.replace('"jacobian"]', '"jacobian", "return_area"]')))
    declared = asdict(read_study(written(tmp_path)))
    assert (
        "env_frames" in declared
        and read_study(written(tmp_path)).digest
        == (
            hashlib.sha256(
                json.dumps(
                    {k: v for k, v in declared.items() if k not in ("env", "env_frames")},
                    sort_keys=True,
                    ensure_ascii=False,
                ).encode()
            ).hexdigest()[:12]
        )
    )


def row_of(study, arm="strong", value="1.5", end_point="jacobian"):
    known = {"digest": study.digest, "arm": arm, "seed": "0", "updates": "4", "value": value}
    return dict.fromkeys(COLUMNS, "x") | known | {"end_point": end_point}


@pytest.mark.parametrize("damage", ["1.5,nan", "1.5,abc", "\ufffd\x00", "strong,0,x"], ids=repr)
def test_a_damaged_line_costs_its_cell_alone_and_is_told(study, place, damage, capsys):
    rows = [row_of(study, end_point=name) for name in study.end_points]
    append_rows(place.table, [*rows, row_of(study, arm="baseline"), row_of(study)])
    lines = place.table.read_text().splitlines()
    old, _, new = damage.partition(",")
    lines[3] = lines[3].replace(old, new) if old in lines[3] else damage
    place.table.write_bytes(("\n".join(lines) + "\n").encode())
    found = read_rows(study, place)
    assert {row["arm"] for row in found} == {"strong"} and len(found) == 2
    assert f"{place.table}: line 4 is damaged and left out" in capsys.readouterr().err
    assert study.cells[0] in missing_cells(study, place)
    assert study.cells[1] not in missing_cells(study, place)


@pytest.mark.parametrize("content", [b"garbage\nmore\n", b"\xbf\xff\n", b"study,digest,arm\n"])
def test_what_is_no_table_of_a_study_is_named(study, place, content, tmp_path, capsys):
    place.table.parent.mkdir(parents=True)
    place.table.write_bytes(content)
    words = ["study", str(tmp_path / "study.toml"), "--out", str(place.folder)]
    for more in (["--report"], ["--plan"], []):
        assert main([*words, *more]) == 2
        assert "does not begin with the columns of a study" in capsys.readouterr().err
    assert place.table.read_bytes() == content


def test_a_value_that_is_not_finite_is_no_row(study, place, monkeypatch):
    found = [Estimate(1.0, 0.1), Estimate(float("nan"), 0.1)]
    monkeypatch.setattr(study_cell, "measure", lambda *given: found)
    with pytest.raises(ValueError, match="baseline-seed0: jacobian is nan"):
        study_cell.measured(study, study.cells[0], place.run(study.cells[0]))
