"""Declared studies: which cells they have, and what is refused before anything starts."""

import hashlib
import json
from dataclasses import asdict

import pytest
import torch

from sdewm.cli import main
from sdewm.study.declaration import with_settings
from sdewm.study.study_file import read_study
from sdewm.train.presets import preset
from tests.study.declared import AGENTS, EPISODES, TEXT, written

CONTROL = '[[controls]]\narm = "strong"\nbaseline = "baseline"\nend_point = "jacobian"'


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
        ('"jacobian"]', '"jacobian", "gradient_tail"]', "more than the 200 updates of the warm-up"),
        ("[arms.baseline]", "[arms.baseline", "cannot be read"),
        ("pictures = false", "seed = 7", "setting 'seed': it follows from the rest of the"),
        ("pictures = false", "updates = 9", "setting 'updates': it follows from"),
        ("batch_size = 2", "keep-every-updates = 3", "setting 'keep-every-updates': it follows"),
        ('name = "smoke"', 'name = "../smoke"', "name='../smoke': expected letters"),
        ("[arms.strong]", '[arms."../strong"]', "name='../strong': expected letters"),
        ('baseline = "baseline"', 'baseline = "strong"', "expected another arm than its baseline"),
        ('"open_loop 5", "jacobian"', '"jacobian", "jacobian"', "expected different ones"),
        ('claim = "C5"', 'claim = "C5"\nminus_arm = "stong"', "did you mean 'strong'?"),
        ('claim = "C5"', 'claim = "C5"\nminus_arm = "strong"', "minus_baseline=''"),
        (
            'claim = "C5"',
            'claim = "C5"\nminus_arm = "strong"\nminus_baseline = "strong"',
            "expected another arm than minus_baseline",
        ),
        (
            'claim = "C5"',
            'claim = "C5"\nminus_arm = "strong"\nminus_baseline = "baseline"',
            "would be subtracted from itself",
        ),
        ('end_point = "jacobian"', "end_point = []", "controls: end_point=[]; expected at least"),
        ('end_point = "jacobian"', 'end_point = ["jacobian", "jacobian"]', "declared twice"),
        (
            'end_point = "jacobian"',
            f'end_point = "jacobian"\nexpected = "worse"\n{CONTROL}',
            "control, strong, baseline, jacobian: declared twice",
        ),
        ('end_point = "open_loop 5"', 'end_point = "jacobian"', "smaller is not better"),
        ('claim = "C5"', 'claim = "C5"\nnot_worse = "jacobian"', "not_worse='jacobian'"),
        ("[arms.baseline]", "[arms.baseline]\n[arms.same]", "the configuration of 'baseline'"),
        (
            "[arms.baseline]",
            '[arms.baseline]\n[arms.same]\n"jacobian.weight" = 0.0',
            "arm='same' has the configuration of 'baseline'",
        ),
        ("[arms.baseline]", "[arms]\nbaseline = 3", "arms.baseline=3: expected a table"),
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


def test_settings_reach_nested_fields_and_are_checked():
    assert with_settings(preset("tiny"), {"model.rssm.deter": 32}).model.rssm.deter == 32
    with pytest.raises(ValueError, match="model.units=-1"):
        with_settings(preset("tiny"), {"model.units": -1})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_study_for_a_gpu_is_planned_without_one_and_does_not_start(tmp_path, capsys):
    path = written(tmp_path, TEXT.replace("[settings]", '[settings]\ndevice = "cuda"'))
    out = tmp_path / "out"
    assert main(["study", str(path), "--out", str(out), "--plan"]) == 0
    capsys.readouterr()
    assert main(["study", str(path), "--out", str(out)]) == 2
    assert "device='cuda'" in capsys.readouterr().err and not out.exists()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (f'test_data = "{EPISODES}"', 'test_data = "nowhere"', "there is no such directory"),
        ('"jacobian"]', '"jacobian", "area rotation"]', "is for images, not for vectors"),
    ],
)
def test_a_plan_says_why_the_study_would_not_start_here(old, new, said, tmp_path, capsys):
    for text, found in ((TEXT.replace(old, new), True), (TEXT, False)):
        assert main(["study", str(written(tmp_path, text)), "--plan"]) == 0
        told = capsys.readouterr().out
        assert ("it would not start here: " in told and said in told) == found


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('env = "own:cartpole_pixels"\n', "", "expected either data with updates"),
        ("env_frames = 1200", "env_frames = 0", "env_frames=0"),
        ("env_frames = 1200", "env_frames = 1200\nupdates = 3", "updates: agents are measured at"),
        ('"return_area", ', '"open_loop 5", ', "end_point='open_loop 5' needs test_data"),
        (
            '"jacobian.weight" = 0.01',
            '"comparator.average_decay" = 0.999',
            "arm='penalty': comparator.average_decay=0.999 in a study of agents; expected 0",
        ),
    ],
)
def test_a_wrong_study_of_agents_is_one_sentence(old, new, said, tmp_path, capsys):
    assert old in AGENTS
    path = written(tmp_path, AGENTS.replace(old, new))
    assert main(["study", str(path), "--plan"]) == 2
    assert said in capsys.readouterr().err


def test_a_running_mean_of_weights_is_an_arm_of_world_models_alone(tmp_path):
    mean = '"comparator.average_decay" = 0.999'
    models = read_study(written(tmp_path, TEXT.replace('"jacobian.weight" = 1.0', mean)))
    assert models.config(models.cells[1]).comparator.average_decay == 0.999
    off = AGENTS.replace('"jacobian.weight" = 0.01', mean.replace("0.999", "0.0") + "\nenvs = 2")
    assert read_study(written(tmp_path, off)).env


def test_world_models_have_no_returns_and_old_digests_stay(tmp_path):
    with pytest.raises(ValueError, match="world models have no returns; give env"):
        read_study(written(tmp_path, TEXT.replace('"jacobian"]', '"jacobian", "return_area"]')))
    study = read_study(written(tmp_path))
    declared = asdict(study)
    for new in ("env", "env_frames"):
        declared.pop(new)
    for new in ("minus_arm", "minus_baseline"):
        assert [one.pop(new) for one in declared["comparisons"]] == [""]
    text = json.dumps(declared, sort_keys=True, ensure_ascii=False)
    assert study.digest == hashlib.sha256(text.encode()).hexdigest()[:12]
    more = 'claim = "C5"\nminus_arm = "baseline"\nminus_baseline = "strong"'
    other = read_study(written(tmp_path, TEXT.replace('claim = "C5"', more)))
    assert other.digest != study.digest
