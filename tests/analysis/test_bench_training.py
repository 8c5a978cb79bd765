"""The speed of training: rows are listed, measured, and see what they are meant to see."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from sdewm.scripts import benchmark
from sdewm.train.optimiser import Optimiser
from sdewm.train.presets import preset
from sdewm.train.sources import check_environment
from tests.child_process import ROOT, run

CPU = torch.device("cpu")


def load(name):
    specification = importlib.util.spec_from_file_location(name, ROOT / "analysis" / f"{name}.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # its dataclasses look themselves up
    specification.loader.exec_module(module)
    return module


training, environments = load("bench_training"), load("bench_environments")


def lines(script, *words):
    result = run(sys.executable, ROOT / "analysis" / f"{script}.py", *words)
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def short(monkeypatch):
    """A small agent, few rounds; nothing is compiled, but asked for in `short`."""
    asked = []
    monkeypatch.setattr(torch, "compile", lambda function, **how: asked.append(how) or function)
    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "1")
    small = preset("tiny", batch_size=2, batch_length=4)
    case = replace(training.CASES["tiny"], config=small)
    monkeypatch.setitem(training.CASES, "tiny", case)
    monkeypatch.setitem(training.UPDATES, "cpu", 1)
    monkeypatch.setitem(training.MATMUL, "cpu", 128)
    monkeypatch.setattr(training, "CHAIN", 10)
    for script in (training, environments):
        monkeypatch.setattr(script, "ROUNDS", 3)
    return asked


class Clock:
    """In the place of the module `time`: it goes on only where a test lets it."""

    def __init__(self):
        self.passed = 0.0

    def perf_counter(self):
        return self.passed

    def before(self, seconds, call=lambda *arguments, **named: None):
        """The call, after so many seconds."""

        def run(*arguments, **named):
            self.passed += seconds
            return call(*arguments, **named)

        return run


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(benchmark, "time", made)
    return made


def test_rows_are_those_of_the_device():
    cpu = [row["name"] for row in lines("bench_training", "--list")]
    assert {"update_tiny", "update_tiny_compiled", "penalty_tiny"} < set(cpu)
    assert {"update_tiny_part/backward", "share_of_flops_tiny"} < set(cpu)
    cuda = [row["name"] for row in lines("bench_training", "--list", "--device", "cuda")]
    assert {"update_dreamerv3_12m_pixels", "penalty_dreamerv3_12m_pixels"} < set(cuda)
    assert not set(cpu) & set(cuda)
    assert len(cpu) == len(set(cpu))


def test_the_case_is_the_preset_at_the_size_of_its_task():
    case = training.CASES["tiny"]
    assert (case.config.batch_size, case.config.batch_length) == (16, 32)
    observation, action = check_environment(replace(case.config, env="dmc:cartpole_swingup"))
    assert (observation.shape, action.shape) == (case.observation, (case.actions,))
    case = training.CASES["dreamerv3_12m_pixels"]
    assert (case.config.batch_size, case.config.batch_length) == (16, 64)
    assert case.config.precision == "bfloat16"


def test_a_row_of_a_script_is_measured():
    (row,) = lines("bench_environments", "replay_sample/tiny_proprio")
    assert row["name"] == "replay_sample/tiny_proprio"
    assert 0 < row["low"] <= row["ratio"] <= row["high"]
    assert row["unit"] == "us" and row["baseline"] == "copy of 0.0159 MB"


def test_the_aim_holds_for_two_threads_only(short, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    (row,) = training.whole("tiny", CPU)
    assert row["aim"] == "" and row["unit"] == "updates/s"
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    (row,) = training.whole("tiny", CPU)
    assert row["aim"] == ">= 15"


def test_the_value_is_the_number_of_updates_in_a_second(short, monkeypatch, clock):
    monkeypatch.setattr(training.Updates, "once", clock.before(0.05))
    monkeypatch.setitem(training.UPDATES, "cpu", 2)
    (row,) = training.whole("tiny", CPU)
    assert row["value"] == pytest.approx(20)


def test_the_penalty_is_on_in_one_agent_only(short, monkeypatch):
    made = []

    class Noted(training.Updates):
        def __init__(self, *arguments, **changes):
            super().__init__(*arguments, **changes)
            made.append(self.agent.jacobian.on)

    monkeypatch.setattr(training, "Updates", Noted)
    whole, quarter = training.penalty("tiny", CPU)
    assert made == [False, True] * 2
    assert (whole["aim"], quarter["aim"]) == ("<= 1.2", "<= 1.08")
    assert all(row["low"] <= row["ratio"] <= row["high"] for row in (whole, quarter))


def test_the_parts_are_told_apart_and_make_up_the_update(short, monkeypatch, clock):
    costs = {
        "world_model_forward": (0.5, training.Agent, "model_losses"),
        "behaviour_forward": (1.0, training.Agent, "behaviour_losses"),
        "backward": (2.0, torch.Tensor, "backward"),
        "optimiser": (4.0, Optimiser, "step"),
    }
    for seconds, owner, name in costs.values():
        monkeypatch.setattr(owner, name, clock.before(seconds, getattr(owner, name)))
    rows = {row["name"].split("/")[1]: row for row in training.parts("tiny", CPU)}
    assert list(rows) == [*training.ANALYSES]
    for part, (seconds, _, _) in costs.items():
        assert rows[part]["value"] == pytest.approx(1000 * seconds)
        assert rows[part]["ratio"] == pytest.approx(seconds / 7.5)


def test_operations_are_counted_and_shares_follow_from_them(short, monkeypatch):
    def flops(**changes):
        config = preset("tiny", batch_size=2, batch_length=4, **changes)
        case = replace(training.CASES["tiny"], config=config)
        monkeypatch.setitem(training.CASES, "tiny", case)
        rows = {row["name"]: row for row in training.shares("tiny", CPU)}
        assert list(rows) == ["share_of_flops_tiny", "share_of_latency_tiny"]
        assert all(0 < row["low"] <= row["ratio"] <= row["high"] for row in rows.values())
        assert rows["share_of_latency_tiny"]["baseline"].startswith("324 operations of")
        return float(rows["share_of_flops_tiny"]["baseline"].split()[0])

    tiny = preset("tiny").behaviour
    assert flops() < flops(behaviour=replace(tiny, imagination_stride=1))


def test_one_of_two_agents_is_compiled(short, monkeypatch, capsys):
    made = []

    class Noted(training.Updates):
        def __init__(self, *arguments, **changes):
            before = len(short)
            super().__init__(*arguments, **changes)
            made.append(len(short) > before)

    monkeypatch.setattr(training, "Updates", Noted)
    (row,) = training.compiled("tiny", CPU)
    assert made == [False, True]
    assert row["ratio"] > 0 and row["baseline"] == "not compiled"
    assert capsys.readouterr().err.count("compiling the update") == 1


def test_versions_are_timed_in_turns(short, monkeypatch):
    """The baseline takes twice as long here; the first rounds do not count."""
    asked = []

    class Slower(training.Served):
        def __init__(self, tree, how):
            self.tree, self.how = tree, how
            assert (tree / "sdewm" / "train" / "agent.py").exists()
            asked.append((tree == ROOT, how))

        def seconds(self, kind):
            asked.append(kind)
            return 0.02 if self.how == "compiled" else 0.04

        def close(self):
            pass

    monkeypatch.setattr(training, "Served", Slower)
    try:
        whole, model = training.since("tiny", CPU)
    except subprocess.CalledProcessError:
        pytest.skip("the history of the repository is not here")
    assert asked[:2] == [(False, "plain"), (True, "compiled")]
    assert asked[2:] == ["whole"] * 2 * (3 + training.WARM_UP) + ["model"] * 2 * (
        3 + training.WARM_UP
    )
    assert (whole["ratio"], whole["aim"], model["aim"]) == (0.5, "<= 0.5", "<= 0.45")
    assert whole["value"] == pytest.approx(20) and whole["unit"] == "ms"


def test_updates_are_served_by_a_process_of_their_own():
    one = training.Served(ROOT, "plain")
    try:
        assert one.startup > 0 and one.seconds("model") > 0
    finally:
        one.close()


def test_simulator_steps_are_counted_with_the_repeat(short, monkeypatch, clock):
    monkeypatch.setitem(
        environments.ENVIRONMENTS, "own_pixels", ("own:cartpole_pixels", "pixels", 10)
    )
    step = clock.before(0.01, environments.Collector.step)
    monkeypatch.setattr(environments.Collector, "step", step)
    (row,) = environments.speed("own_pixels", CPU)
    assert row["value"] == pytest.approx(200)  # a policy step of 10 ms is two simulator steps


def test_without_opengl_the_row_of_drawing_is_left_out_with_the_reason(monkeypatch, capsys):
    def none(required):
        raise RuntimeError("needs OpenGL")

    monkeypatch.setattr(environments, "choose_opengl", none)
    assert ("render_fast_vs_full",) not in environments.jobs("cpu")
    assert "render_fast_vs_full is left out: needs OpenGL" in capsys.readouterr().err
    monkeypatch.setattr(environments, "choose_opengl", lambda required: "egl")
    assert ("render_fast_vs_full",) in environments.jobs("cpu")
