"""The command line, tried as a new user would."""

import json
import re

import pytest

from sdewm.base.records import read_log
from sdewm.cli import main
from sdewm.commands.train import train_arguments
from sdewm.data import replay_files
from sdewm.data.dataset import read_dataset
from sdewm.train import saved_agent, trainer
from sdewm.train.presets import PRESETS
from tests.train.fake_agent import ENV, FakeAgent, UpdateClock

SHORT = (
    f"--preset tiny --env {ENV} --obs proprio --action-repeat 10 --env-frames 1500 "
    "--prefill-policy-steps 100 --train-ratio 16 --batch-size 4 --batch-length 8 "
    "--log-every-updates 10 --eval-every-env-frames 5000 --eval-episodes 1 --no-pictures"
).split()


@pytest.fixture(autouse=True)
def fake(monkeypatch):
    for module in (trainer, saved_agent):
        monkeypatch.setattr(module, "Agent", FakeAgent)
    return FakeAgent


def run(capsys, *words):
    """Exit code, stdout and stderr."""
    code = main([str(word) for word in words])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_without_arguments_it_shows_examples(capsys):
    for words in ((), ("--help",), ("-h",)):
        code, out, err = run(capsys, *words)
        assert code == 0 and err == ""
        assert "sdewm train --preset tiny" in out and "sdewm resume" in out


def test_help_lists_every_setting_of_the_preset_and_no_constraint(capsys):
    code, out, _ = run(capsys, "train", "--preset", "tiny", "--help")
    assert code == 0
    for flag in ("--run", "--env-frames", "--jacobian.weight", "--world-model-only", "--workers"):
        assert flag in out
    words = " ".join(out.replace("│", " ").split())
    assert f"Sequences per batch. (default: {PRESETS['tiny'].batch_size})" in words
    assert ", ".join(PRESETS) in words
    assert "Ge(" not in out and "Annotated" not in out


@pytest.mark.parametrize("command", ["train", "resume", "evaluate", "record", "import", "analyse"])
def test_every_option_that_the_help_shows_is_known(command, capsys):
    _, out, _ = run(capsys, command, "--help")
    options = re.findall(r"(?<=[│,]) (--[a-z.-]+)", out)
    assert options
    _, _, err = run(capsys, command, *options)
    assert "is not allowed" not in err


def test_the_last_preset_given_chooses_the_defaults(capsys):
    tiny, other = ["--preset=tiny"], ["--preset", "dreamerv2"]
    for words, name in (([*tiny, *other], "dreamerv2"), ([*other, *tiny], "tiny")):
        _, out, _ = run(capsys, "train", *words, "--help")
        said = " ".join(out.replace("│", " ").split())
        assert f"Time steps per sequence. (default: {PRESETS[name].batch_length})" in said


WRONG = {
    "no words": (["train"], "--run"),
    "command": (["trian"], "did you mean 'train'"),
    "preset": (["train", "--preset", "tyny", "--run", "{run}"], "did you mean 'tiny'"),
    "flag": (["train", "--env-frame", "10", "--run", "{run}"], "--env-frames"),
    "flag of a part": (
        ["train", "--jacobian.wieght", "1", "--run", "{run}"],
        "option of --jacobian='wieght' is not allowed; did you mean 'weight'?",
    ),
    "no run": (["train", *SHORT], "--run"),
    "no number": (["train", *SHORT, "--env-frames", "many", "--run", "{run}"], "--env-frames"),
    "range": (["train", *SHORT, "--batch-size", "0", "--run", "{run}"], "batch_size=0"),
    "range of a part": (
        ["train", *SHORT, "--model.units", "-3", "--run", "{run}"],
        "sdewm: model.units=-3: expected a whole number of at least 1.",
    ),
    "probes": (["train", *SHORT, "--jacobian.probes", "0", "--run", "{run}"], "jacobian.probes=0"),
    "no part": (
        ["evaluate", "--model.unit", "3", "{run}"],
        "--model.unit is not allowed.",
    ),
    "an old name": (
        ["train", *SHORT, "--optimiser.guard", "1", "--run", "{run}"],
        "option of --optimiser='guard' is not allowed; Allowed: 'algorithm', ",
    ),
    "choice": (["train", *SHORT, "--obs", "pixel", "--run", "{run}"], "--obs"),
    "env": (["train", *SHORT, "--env", "dmc:cartpole_swingp", "--run", "{run}"], "swingup"),
    "spaces": (
        ["train", *SHORT, "--env", "gym:Pendulum-v1", "--obs", "pixels", "--run", "{run}"],
        "obs='pixels' needs one image among its observations, and it has 0",
    ),
    "an argument": (
        ["train", *SHORT, "--env", "gym:Pendulum-v1", "--env-kwargs.gg", "1", "--run", "{run}"],
        "cannot be made with env_kwargs={'gg': 1}: TypeError",
    ),
    "an argument without a value": (
        ["train", *SHORT, "--env-kwargs.g"],
        "--env-kwargs.g: expected",
    ),
    "arguments in two ways": (
        ["train", *SHORT, "--env_kwargs", '{"g": 1}', "--env-kwargs.m=2", "--run", "{run}"],
        "--env-kwargs and --env-kwargs.m are both given",
    ),
    "arguments that are no JSON": (
        ["train", *SHORT, "--env-kwargs", "g=1", "--run", "{run}"],
        "kwargs",
    ),
    "time limit": (["train", *SHORT, "--time-limit", "0", "--run", "{run}"], "time_limit=0"),
    "data alone": (["train", *SHORT, "--data", "{run}", "--run", "{run}"], "go together"),
    "no dataset": (
        ["train", *SHORT, "--world-model-only", "--data", "{run}", "--run", "{run}"],
        "holds no dataset",
    ),
    "resume nothing": (["resume", "{run}"], "holds no run"),
    "evaluate nothing": (["evaluate", "{run}"], "holds no run"),
    "record from nothing": (["record", "{run}", "--episodes", "1"], "--from-run DIR"),
    "time limit of a run": (
        ["record", "{run}", "--episodes", "1", "--from-run", "x", "--time-limit", "9"],
        "--time-limit: episodes of x have its own; leave it out",
    ),
    "policy of none": (
        ["record", "{run}", "--episodes", "1", "--env", ENV, "--policy", "mean"],
        "--policy: random actions have no policy; leave it out",
    ),
    "no episodes": (["record", "{run}", "--episodes", "0", "--env", ENV], "episodes=0"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_refused_before_anything_is_made(name, tmp_path, capsys):
    words, said = WRONG[name]
    place = tmp_path / "run"
    code, _, err = run(capsys, *(word.replace("{run}", str(place)) for word in words))
    assert code == 2
    assert said in err, err
    assert "Traceback" not in err
    assert not place.exists()


def test_arguments_of_the_environment_are_read_as_json_or_text():
    words = "--env-kwargs.map_name 8x8 --env-kwargs.n=3 --env-kwargs.slips False".split()
    words += ["--env-kwargs.range", "[0.2, 1]", "--env_kwargs.none", "null"]
    config = train_arguments([*SHORT, *words, "--run", "x"]).config
    expected = {"map_name": "8x8", "n": 3, "slips": False, "range": [0.2, 1], "none": None}
    assert config.env_kwargs == expected
    assert train_arguments([*SHORT, "--run", "x"]).config.env_kwargs == {}


def test_train_resume_evaluate_record_and_train_on_the_recording(tmp_path, capsys):
    place = tmp_path / "run"
    words = ["train", *SHORT, "--seed", "4", "--jacobian.weight", "0.25", "--run", place]
    code, out, err = run(capsys, *words)
    assert code == 0, err
    assert "a fake agent" in out and "replay: at most" in out and "Finished" in out
    config = json.loads((place / "config.json").read_text())
    assert (config["seed"], config["jacobian"]["weight"], config["preset"]) == (4, 0.25, "tiny")

    code, _, err = run(capsys, *words)
    assert code == 2 and f"sdewm resume {place}" in err

    rows = (place / "metrics.jsonl").read_bytes()
    code, out, _ = run(capsys, "resume", place)
    assert code == 0 and "Finished" in out
    assert (place / "metrics.jsonl").read_bytes() == rows

    code, out, _ = run(capsys, "evaluate", place, "--episodes", "2")
    (trained, row), _ = read_log(place / "evaluation.jsonl")
    assert code == 0 and f"mean return {row['mean_return']:.6g} ± " in out
    assert row["returns"][0] == trained["returns"][0]  # the same seeds and weights
    assert (row["by"], row["episodes"], row["updates"]) == ("evaluate", 2, trained["updates"])

    data = tmp_path / "data"
    code, out, err = run(
        capsys, "record", data, "--env", ENV, "--action-repeat", "10", "--episodes", "2"
    )
    assert code == 0, err
    assert read_dataset(data).facts["policy"] == "random"
    words = [word for word in SHORT if word not in ("--env", ENV)]
    code, _, err = run(
        capsys, "train", *words, "--updates", "20", "--world-model-only", "--data", data,
        "--run", tmp_path / "model",
    )  # fmt: skip
    assert code == 0, err
    assert read_log(tmp_path / "model" / "metrics.jsonl")[0][-1]["updates"] == 20
    for other in (
        ("evaluate", tmp_path / "model"),
        ("record", tmp_path / "more", "--from-run", tmp_path / "model", "--episodes", "1"),
    ):
        code, _, err = run(capsys, *other)
        assert code == 2 and "it has no trained policy" in err and len(err.splitlines()) == 1
    assert not (tmp_path / "more").exists()
    for other in ("dmc:cartpole_balance", PRESETS["tiny"].env):
        for flag in (["--env", other], [f"--env={other}"]):
            code, _, err = run(capsys, "train", *SHORT, "--world-model-only", "--data", data,
                               *flag, "--run", tmp_path / "other")  # fmt: skip
            assert code == 2 and "was recorded with" in err


def test_recording_of_a_run_says_whose_policy_it_is(tmp_path, capsys):
    place, data = tmp_path / "run", tmp_path / "data"
    assert run(capsys, "train", *SHORT, "--run", place)[0] == 0
    code, _, err = run(capsys, "record", data, "--from-run", place, "--episodes", "1")
    assert code == 0, err
    dataset = read_dataset(data)
    assert dataset.facts["policy"].startswith(f"sample of {place} at ")
    assert dataset.facts["action_repeat"] == 10 and dataset.rows == 101


def test_divergence_is_a_failure_with_a_sentence(tmp_path, capsys, monkeypatch, fake):
    monkeypatch.setattr(fake, "break_at", 3)
    code, _, err = run(capsys, "train", *SHORT, "--run", tmp_path / "run")
    assert code == 1
    assert "Training diverged at update 3: loss/kl = nan. There is no checkpoint." in err


def test_damaged_checkpoint_is_named_on_resume(tmp_path, capsys, monkeypatch):
    place = tmp_path / "run"
    monkeypatch.setattr(trainer, "time", UpdateClock)
    often = ("--checkpoint-every-seconds", "10")
    assert run(capsys, "train", *SHORT, *often, "--run", place)[0] == 0
    newest = place / "checkpoints" / (place / "checkpoints" / "latest").read_text()
    (newest / "state.safetensors").write_bytes(b"")
    code, _, err = run(capsys, "resume", place)
    assert code == 0 and f"{newest} is damaged" in err and "using the previous checkpoint" in err
    for marker in (place / "checkpoints").rglob("COMPLETE"):
        marker.unlink()
    code, _, err = run(capsys, "resume", place)
    assert code == 1 and "none of its 2 checkpoints is valid" in err


def test_a_configuration_that_was_edited_is_refused_with_a_sentence(tmp_path, capsys):
    place = tmp_path / "run"
    assert run(capsys, "train", *SHORT, "--run", place)[0] == 0
    rows = (place / "metrics.jsonl").read_bytes()
    good = (place / "config.json").read_text()
    for name, value, said in (
        ("batch_size", 0, "batch_size=0"),
        ("env", "own:cartpole_pixel", "own:cartpole_pixels"),
        ("envs", 3, "undo what does not fit (envs: 1 -> 3)"),
        ("seeed", 3, "did you mean 'seed'"),
        ("train_ratio", "16", "train_ratio='16': expected a finite number above 0."),
        ("model", {"units": 64}, "model.rssm.cell is missing"),
    ):
        (place / "config.json").write_text(json.dumps({**json.loads(good), name: value}))
        code, _, err = run(capsys, "resume", place)
        assert code in (1, 2) and said in err and "Traceback" not in err, name
        assert (place / "metrics.jsonl").read_bytes() == rows
    before = json.loads(good)["eval_episodes"]
    (place / "config.json").write_text(json.dumps({**json.loads(good), "eval_episodes": 7}))
    code, _, err = run(capsys, "evaluate", place, "--episodes", "1")
    said = f"eval_episodes: {before} -> 7"
    assert code == 0 and f"changed since the checkpoint: {said}" in err
    assert read_log(place / "evaluation.jsonl")[0][-1]["changed"] == said
    (place / "config.json").write_text(good)
    assert run(capsys, "resume", place)[0] == 0
    assert run(capsys, "evaluate", place, "--episodes", "1")[0] == 0
    assert "changed" not in read_log(place / "evaluation.jsonl")[0][-1]


def test_a_finished_run_is_lengthened_and_says_so(tmp_path, capsys):
    place = tmp_path / "run"
    assert run(capsys, "train", *SHORT, "--run", place)[0] == 0
    config = (place / "config.json").read_bytes()
    for words, said in (
        (["--env-frames", "1200"], "env_frames=1200: the run has already made 1500"),
        (["--env-frames", "0"], "env_frames=0: expected a whole number"),
        (["--updates", "10"], "give its length by --env-frames"),
        (["--data", tmp_path], "not from a dataset"),
    ):
        code, _, err = run(capsys, "resume", place, *words)
        assert code == 2 and said in err and "Traceback" not in err
        assert (place / "config.json").read_bytes() == config
    code, out, err = run(capsys, "resume", place, "--env-frames", "2000")
    assert code == 0 and "2000 env_frames" in out
    assert "changed since the checkpoint: env_frames: 1500 -> 2000" in err
    assert json.loads((place / "config.json").read_text())["env_frames"] == 2000
    assert read_log(place / "resumes.jsonl")[0][-1]["changed"] == "env_frames: 1500 -> 2000"
    assert read_log(place / "evaluation.jsonl")[0][-1]["env_frames"] == 2000


def test_a_run_finds_its_moved_data_and_takes_no_other(tmp_path, capsys):
    data, moved, other, place = (tmp_path / name for name in ("data", "moved", "other", "run"))
    for folder, seed in ((data, 0), (other, 1)):
        words = ["--env", ENV, "--action-repeat", "10", "--episodes", "2", "--seed", seed]
        assert run(capsys, "record", folder, *words)[0] == 0
    words = [word for word in SHORT if word not in ("--env", ENV)]
    words += ["--updates", "20", "--world-model-only", "--data", data, "--run", place]
    assert run(capsys, "train", *words)[0] == 0
    data.rename(moved)
    code, _, err = run(capsys, "resume", place, "--updates", "30")
    assert code == 2 and f"sdewm resume {place} --data DIRECTORY" in err
    code, _, err = run(capsys, "resume", place, "--updates", "30", "--data", other)
    assert code == 2 and "holds other episodes than those" in err
    assert run(capsys, "resume", place, "--updates", "30", "--data", moved)[0] == 0
    assert read_log(place / "metrics.jsonl")[0][-1]["updates"] == 30
    assert json.loads((place / "manifest.json").read_text())["data"] == str(moved)
    facts = place / "config.json"
    facts.write_text(json.dumps({**json.loads(facts.read_text()), "env": "dmc:walker_walk"}))
    code, _, err = run(capsys, "resume", place)
    assert code == 2 and f"env='dmc:walker_walk': {moved} was recorded with '{ENV}'" in err


def test_one_rotten_byte_in_a_file_that_checkpoints_share_costs_the_replay_only(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(replay_files, "FILE_BYTES", 1 << 10)
    monkeypatch.setattr(trainer, "time", UpdateClock)
    place = tmp_path / "run"
    often = ("--checkpoint-every-seconds", "10")
    assert run(capsys, "train", *SHORT, *often, "--run", place)[0] == 0
    shared = [path for path in (place / "checkpoints").rglob("rows-*") if path.stat().st_nlink > 1]
    content = bytearray(shared[0].read_bytes())
    content[-1] ^= 1
    shared[0].write_bytes(content)
    code, _, err = run(capsys, "resume", place, "--env-frames", "2500")
    assert code == 0 and "without its replay memory, which is lost" in err
    rows = read_log(place / "metrics.jsonl")[0]
    assert rows[-1]["env_frames"] == 2500 and [row["updates"] for row in rows][:2] == [10, 20]
    assert run(capsys, "resume", place)[2].count("damaged") == 0


def test_a_tilde_is_the_home_directory(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    code, _, err = run(capsys, "train", *SHORT, "--run=~/run")
    assert code == 0 and (tmp_path / "run" / "config.json").is_file(), err
    code, _, err = run(capsys, "resume", "~no-such-user/run")
    assert code == 2 and "run='~no-such-user/run': there is no such home directory" in err


def test_an_evaluation_that_cannot_be_recorded_is_printed(tmp_path, capsys, monkeypatch):
    place = tmp_path / "run"
    assert run(capsys, "train", *SHORT, "--run", place)[0] == 0
    (place / "evaluation.jsonl").unlink()
    (place / "evaluation.jsonl").mkdir()  # not writable, for root either
    code, out, err = run(capsys, "evaluate", place, "--episodes", "1")
    assert code == 1 and "mean return" in out
    assert "evaluation.jsonl" in err and len(err.splitlines()) == 1
