"""`python -m paper_checks`: rows, exit codes, typing errors, interruption and resumption."""

import json
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from paper_checks import __main__ as command
from paper_checks import ledger, run
from paper_checks.findings import Settings
from paper_checks.ledger import read_claims
from sdewm.base import records
from tests.child_process import started, wait_until

KEYS = [
    *("id", "mark", "measured", "standard_error", "predicted", "verdict"),
    *("negative_control", "seconds"),
]
FAST = ["parity", "order-even", "block-structure-first"]


def claim(name):
    return next(claim for claim in read_claims() if claim.id == name)


def call(tmp_path, *words):
    return command.main([*words, "--no-figures", "--log", str(tmp_path / "verify.jsonl")])


def test_rows_have_the_agreed_keys_and_all_is_well(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(run, "count_processes", lambda tasks, device: 1)
    path = tmp_path / "rows.json"
    assert call(tmp_path, "--only", *FAST, "--json", str(path), "--paths", "1e3") == 0
    content = json.loads(path.read_text("utf-8"))
    assert [list(row) for row in content["rows"]] == [KEYS] * 3
    assert {row["id"] for row in content["rows"]} == set(FAST)
    assert all(row["verdict"] == "holds" for row in content["rows"])
    assert all(row["negative_control"] == "red" for row in content["rows"])
    assert content["manifest"]["paths"] == 1000
    assert {"command", "commit", "seed", "torch"} <= set(content["manifest"])
    printed = capsys.readouterr()
    assert "3 claims: 3 hold, 0 fail, 0 undecided" in printed.out
    assert "[3/3]" in printed.err


def test_a_failing_claim_makes_the_exit_code_one(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(run, "count_processes", lambda tasks, device: 1)
    wrong = replace(claim("order-even"), arguments=claim("order-independent").arguments)
    wrong.arguments["expected"] = 4
    monkeypatch.setattr(command, "read_claims", lambda: [wrong])
    assert call(tmp_path, "--only", "order-even") == 1
    assert "order-even fails: order 2.997" in capsys.readouterr().out


def test_a_control_that_is_not_red_fails_the_claim(monkeypatch):
    harmless = replace(claim("parity"), negative_control="expansions:identity")
    row = run.run_claim(harmless, Settings())
    assert (row["verdict"], row["negative_control"]) == ("fails", "green")
    assert "no power" in row["reason"]


def test_a_monte_carlo_failure_is_decided_by_one_rerun(monkeypatch):
    from paper_checks.findings import compare
    from sdewm.base.stats import Estimate

    asked = []

    def check(settings, mutate):
        asked.append((settings.paths, settings.seed, mutate.__name__))
        value = 1.0 if len(asked) == 2 else 2.0
        return compare("P", Estimate(value, 0.01), 1.0)

    monkeypatch.setattr(ledger.Claim, "run", lambda self, s, m: check(s, m))
    row = run.run_claim(claim("parity"), Settings(paths=100, seed=3))
    control = claim("parity").control.__name__
    assert asked == [(100, 3, "identity"), (400, 4, "identity"), (100, 3, control)]
    assert row["verdict"] == "holds"
    assert "rerun; first run" in row["reason"]
    assert (row["first_measured"], row["first_error"], row["measured"]) == (2.0, 0.01, 1.0)


@pytest.mark.parametrize(
    ("value", "error", "runs"),
    [(1.039, 0.01, 1), (1.041, 0.01, 2), (1.0 + 9e-13, 0.0, 1), (1.039, 0.5, 2)],
    ids=["far from the limit", "near miss", "near miss without sampling", "too wide"],
)
def test_a_near_miss_of_a_sampled_claim_is_checked_again(value, error, runs, monkeypatch):
    from paper_checks.findings import compare
    from sdewm.base.stats import Estimate

    asked = []

    def check(settings, mutate):
        asked.append(mutate.__name__)
        return compare("P", Estimate(value, error), 1.0)

    monkeypatch.setattr(ledger.Claim, "run", lambda self, s, m: check(s, m))
    row = run.run_claim(claim("parity"), Settings(paths=100))
    assert asked.count("identity") == runs
    assert (row["first_measured"] is not None) == (runs == 2)


def test_an_error_in_a_check_is_a_failure_with_its_text():
    broken = replace(claim("ito-correction"), arguments={"system": "NoSuchSystem"})
    row = run.run_claim(broken, Settings())
    assert row["verdict"] == "fails"
    assert "NoSuchSystem" in row["reason"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--only", "order-evn"], "did you mean 'order-even'?"),
        (["--paths", "1"], "--paths=1"),
        (["--paths", "1e3.5"], "--paths"),
        (["--device", "gpu"], "device='gpu'"),
        (["--seed", "-1"], "--seed=-1"),
    ],
)
def test_a_typing_error_stops_before_any_work(words, text, tmp_path, capsys):
    try:
        code = call(tmp_path, *words)
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert text in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_figure_of_runs_is_redrawn_from_its_table_or_left_out(tmp_path, monkeypatch):
    for name in ("analysis/fig_bounds.py", "analysis/fig_learning_curves.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setattr(records, "ROOT", tmp_path)
    options = command._parse(["--paths", "9", "--device", "cpu"])
    drawn = {figure.id: figure.options for figure in command._figures(options)}
    assert drawn == {"fig_bounds": ("--paths", "9", "--device", "cpu")}
    table = tmp_path / "figures" / "data" / "fig_learning_curves.csv"
    table.parent.mkdir(parents=True)
    table.touch()
    drawn |= {figure.id: figure.options for figure in command._figures(options)}
    assert drawn["fig_learning_curves"] == () and len(drawn) == 2


def test_an_interrupted_run_keeps_its_rows_and_goes_on(tmp_path, monkeypatch, capsys):
    log = tmp_path / "verify.jsonl"
    short = [claim.id for claim in read_claims() if not claim.long]  # together a minute or more
    words = [sys.executable, "-m", "paper_checks", "--only", *short, "--log", log]
    with started(*words) as process:
        for line in process.stderr:  # until the first claim is finished
            if line.startswith("[1/"):
                break
        process.send_signal(signal.SIGINT)
        errors = process.communicate()[1]
    assert process.returncode == 130, errors
    sentences = [line for line in errors.splitlines() if line.startswith("Interrupted")]
    assert len(sentences) == 1, errors
    assert "--resume" in sentences[0]
    assert "Traceback" not in errors
    finished = [row["id"] for row in records.read_log(log)[0]]
    assert finished

    # The rest of the work is replaced by two claims; those finished are not run again.
    rest = [claim(name) for name in ("parity", "block-structure-first") if name not in finished]
    monkeypatch.setattr(command, "read_claims", lambda: [*map(claim, finished), *rest])
    monkeypatch.setattr(run, "count_processes", lambda tasks, device: 1)
    assert call(tmp_path, "--resume", "--only", *finished, *(c.id for c in rest)) == 0
    assert f"{len(finished)} rows kept" in capsys.readouterr().err
    rows = [row["id"] for row in records.read_log(log)[0]]
    assert sorted(rows) == sorted([*finished, *(c.id for c in rest)])


def workers_of(process):
    """Process numbers of the children, apart from multiprocessing's own."""
    text = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    found = [int(number) for number in text.split()]
    return [n for n in found if b"spawn_main" in Path(f"/proc/{n}/cmdline").read_bytes()]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux's /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_ended_leaves_no_workers_and_names_the_command(number, tmp_path):
    code = (
        "import sys; from paper_checks import __main__ as command, run\n"
        "command.count_processes = run.count_processes = lambda tasks, device: 2\n"
        "if __name__ == '__main__': sys.exit(command.main(sys.argv[1:]))"
    )
    (tmp_path / "two.py").write_text(code)
    short = [claim.id for claim in read_claims() if not claim.long]
    words = [sys.executable, tmp_path / "two.py", "--only", *short, "--log", tmp_path / "log"]
    with started(*words) as process:
        said = ""
        for line in process.stderr:
            said += line
            if line.startswith("[1/"):
                break
        workers = workers_of(process)
        process.send_signal(number)
        said += process.communicate()[1]
        assert len(workers) == 2 and "resume with: " in said and "--resume" in said
        wait_until(lambda: not any(Path(f"/proc/{n}").exists() for n in workers))
    assert process.returncode == (143 if number == signal.SIGTERM else -number), said
    assert number == signal.SIGKILL or "Interrupted: " in said


def test_rows_of_other_settings_are_not_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "count_processes", lambda tasks, device: 1)
    assert call(tmp_path, "--only", "parity") == 0
    assert call(tmp_path, "--only", "parity", "--resume", "--seed", "1") == 0
    assert "differs in seed: starting anew" in capsys.readouterr().err
    monkeypatch.setattr(run, "run_claim", lambda claim, settings: pytest.fail(claim.id))
    assert call(tmp_path, "--only", "parity", "--resume", "--seed", "1") == 0
    assert "0 claims with" in capsys.readouterr().err


def test_long_claims_start_first_and_the_rows_stay_in_the_order_of_the_ledger(
    tmp_path, capsys, monkeypatch
):
    claims = [replace(claim(name), long=name == "order-even") for name in FAST]
    figure = run.Figure(tmp_path / "fig_none.py", ())
    started = [task.id for task in run.longest_first(claims, [figure])]
    assert started == ["order-even", "fig_none", "parity", "block-structure-first"]
    monkeypatch.setattr(run, "count_processes", lambda tasks, device: 1)
    monkeypatch.setattr(command, "read_claims", lambda: claims)
    assert call(tmp_path, "--paths", "1e3", "--only", *FAST) == 0
    printed = capsys.readouterr()
    places = [printed.err.index(f"{name}: holds") for name in ("order-even", *FAST)]
    assert places[0] < min(places[1], places[3])
    places = [printed.out.index(f"\n{name} ") for name in FAST]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import sys\nprint(sys.argv[1:])", ""),
        ("raise SystemExit(0)", ""),
        ("import sys\nprint('cannot', file=sys.stderr)\nraise SystemExit(2)", "cannot"),
        ("raise ValueError('too small')", "ValueError: too small"),
    ],
)
def test_a_figure_that_cannot_be_drawn_says_why(code, said, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "ROOT", tmp_path)
    (tmp_path / "fig_none.py").write_text(code)
    before = sys.argv
    assert run.Figure(tmp_path / "fig_none.py", ("--paths", "9")).run() == said
    assert sys.argv is before and capsys.readouterr() == ("", "")


def test_several_processes_give_the_same_rows(tmp_path, monkeypatch):
    found = []
    for count in (1, 2):
        monkeypatch.setattr(run, "count_processes", lambda tasks, device, n=count: n)
        claims = [claim(name) for name in ("block-structure-first", "block-structure-second")]
        rows = [row for _, row in run.run_tasks(claims, [], Settings(paths=1000))]
        for row in rows:
            del row["seconds"]
        found.append(sorted(rows, key=lambda row: row["id"]))
    assert found[0] == found[1]
