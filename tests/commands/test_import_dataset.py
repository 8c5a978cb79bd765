"""`sdewm import` as a user would try it: typos, interruptions, and the commands that follow."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from sdewm.cli import main
from sdewm.data import dataset as dataset_file
from sdewm.data.dataset import MANIFEST, read_dataset
from sdewm.data.imports import npz_folder
from sdewm.report import analyses
from sdewm.report.trained_run import load_trained_run
from sdewm.train.saved_agent import saved_agent

LENGTHS = (12, 9, 14, 12)
TRAIN = (
    "--preset tiny --world-model-only --updates 3 --log-every-updates 3 --batch-size 2 "
    "--batch-length 4 --model.units 8 --model.rssm.deter 8 --model.rssm.hidden 8"
).split()


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "train_eps"
    place.mkdir()
    for number, length in enumerate(LENGTHS):
        draw = np.random.default_rng(number)
        rows = {
            "state": draw.standard_normal((length, 3)),
            "image": draw.uniform(0, 1, (length, 16, 16, 3)),
            "action": draw.uniform(-1.5, 1.5, (length, 2)),
            "reward": draw.standard_normal(length),
        }
        np.savez(place / f"{number}.npz", **rows)
    return place


def run(capsys, *words):
    code = main([str(word) for word in words])
    said = capsys.readouterr()
    return code, said.out, said.err


def save_nothing(drawing, out, stem):
    Image.new("RGB", (2, 2)).save(out / f"{stem}.png")
    return []


def test_an_imported_dataset_trains_a_world_model_and_is_analysed(
    folder, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(analyses, "save_figure", save_nothing)
    data, model = tmp_path / "data", tmp_path / "model"
    code, out, err = run(capsys, "import", folder, data, "--keys", "state")
    assert code == 0 and "4 episodes, 47 rows; observations (3,) (proprio), actions (2,)" in out
    assert "env: unknown, action_repeat: unknown, policy: unknown" in out
    assert "actions reach 1.4" in err and "4 of 4 episodes terminated: no row" in err
    code, out, err = run(capsys, "train", *TRAIN, "--data", data, "--run", model)
    assert code == 0, err
    config = json.loads((model / "config.json").read_text("utf-8"))
    assert config["env"] == "unknown"
    analyse = "--only error --error.steps 6 --error.draws 2 --error.episodes 3".split()
    code, out, err = run(capsys, "analyse", model, *analyse)
    assert code == 0 and "error (measured" in out and "not compared" not in err, err
    said = "The model was trained on these episodes"
    assert said in out and said in (model / "analysis" / "report.html").read_text("utf-8")
    # With the dataset at another place, its spaces are still known, and it is not compared.
    shutil.move(data, tmp_path / "moved")
    loaded = load_trained_run(model, tmp_path / "moved")
    assert loaded.subject.remark == ""  # a copy is not known again
    err = capsys.readouterr().err
    assert "env is unknown" in err and "not compared" in err
    assert loaded.model.embed(loaded.episodes(6, 2, 0).observations).shape[:2] == (2, 6)
    code, _, err = run(capsys, "analyse", model, *analyse, "--data", data)
    assert code == 2 and "holds no dataset" in err


def test_images_of_any_size_train_a_world_model_once_they_are_resized(folder, tmp_path, capsys):
    words = ["--keys", "state", "image", "--pixel-max", "1"]
    code, _, err = run(capsys, "import", folder, tmp_path / "data", *words)
    assert code == 2 and "(16, 16, 3); expected (64, 64, 3), which resize makes" in err
    code, out, _ = run(capsys, "import", folder, tmp_path / "data", *words, "--resize")
    assert code == 0 and f"observations ({64 * 64 * 3 + 3},) (both)" in out
    (first, *_) = read_dataset(tmp_path / "data")
    stored = np.load(folder / "0.npz")
    assert np.allclose(first["observation"][:, -3:], stored["state"])
    pixel = first["observation"][0, :3]  # the corner, which bilinear resampling keeps
    assert np.allclose(pixel, stored["image"][0, 0, 0], atol=0.003)
    code, _, err = run(
        capsys, "train", *TRAIN, "--data", tmp_path / "data", "--run", tmp_path / "r"
    )
    assert code == 0, err
    assert saved_agent(tmp_path / "r").config.obs == "both"


def test_facts_that_the_user_knows_are_stored_and_then_compared(folder, tmp_path, capsys):
    data, words = tmp_path / "data", ("--env", "dmc:reacher_easy", "--action-repeat", "2")
    assert run(capsys, "import", folder, data, "--keys", "state", *words)[0] == 0
    assert read_dataset(data).facts["action_repeat"] == 2
    words = [*TRAIN, "--data", data, "--run", tmp_path / "run"]
    code, _, err = run(capsys, "train", *words, "--env", "dmc:cartpole_swingup")
    assert code == 2 and "was recorded with 'dmc:reacher_easy'" in err
    assert run(capsys, "train", *words)[0] == 0
    saved = saved_agent(tmp_path / "run")  # with the dataset's observations, not reacher's
    assert saved.config.env == "dmc:reacher_easy" and saved.config.action_repeat == 2


def test_an_interrupted_import_is_no_dataset_and_is_resumed(folder, tmp_path, capsys, monkeypatch):
    whole, data = tmp_path / "whole", tmp_path / "data"
    monkeypatch.setattr(dataset_file, "FILE_EPISODES", 2)
    assert run(capsys, "import", folder, whole, "--keys", "state")[0] == 0
    read, calls = npz_folder._read_file, []

    def stopping(path):
        calls.append(path)
        if len(calls) == 5:  # the first file is looked at before
            raise KeyboardInterrupt
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(npz_folder, "_read_file", stopping)
        code, _, err = run(capsys, "import", folder, data, "--keys", "state")
    assert code == 130 and "Interrupted" in err
    with pytest.raises(ValueError, match="stopped after 3 episodes; repeat its command"):
        read_dataset(data)
    code, _, err = run(capsys, "import", folder, data, "--keys", "image", "--pixel-max", 1)
    assert code == 2 and "delete it, or use another folder" in err
    assert run(capsys, "import", folder, data, "--keys", "state")[0] == 0
    for one, other in zip(read_dataset(data), read_dataset(whole), strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in one)
    (folder / "9.npz").write_bytes((folder / "0.npz").read_bytes())
    (data / MANIFEST).write_text(
        (data / MANIFEST).read_text().replace('"complete": true', '"complete": false')
    )
    code, _, err = run(capsys, "import", folder, data, "--keys", "state")
    assert code == 2 and "holds a recording with source=" in err  # of other files


WRONG = {
    "nothing": ((), "SOURCE"),
    "half": (("{folder}",), "DIRECTORY"),
    "source": (("{folder}x", "{data}"), "is not there"),
    "file": (("{folder}/note.txt", "{data}"), "expected a folder of npz files, a file .npz, .hdf5"),
    "no key": (("{folder}", "{data}"), "give keys, the names of those that the model gets"),
    "key": (("{folder}", "{data}", "--keys", "imgae"), "did you mean 'image'"),
    "range": (("{folder}", "{data}", "--keys", "image"), "give pixel_max=1 or pixel_max=255"),
    "pixel": (("{folder}", "{data}", "--keys", "image", "--pixel-max", "3"), "expected 1 or 255"),
    "option": (("{folder}", "{data}", "--key", "image"), "Did you mean --keys?"),
    "env": (("{folder}", "{data}", "--env", "dmc:reacher_esy"), "did you mean 'dmc:reacher_easy'"),
    "repeat": (("{folder}", "{data}", "--action-repeat", "0"), "--action-repeat=0"),
}


@pytest.mark.parametrize("case", WRONG)
def test_mistakes_end_in_a_sentence_and_nothing_is_made(case, folder, tmp_path, capsys):
    words, text = WRONG[case]
    (folder / "note.txt").write_text("a note")
    data = tmp_path / "data"
    words = [word.format(folder=folder, data=data) for word in words]
    code, _, err = run(capsys, "import", *words)
    assert code == 2 and text in " ".join(err.split()), err
    assert "Traceback" not in err and not data.exists()


def test_actions_that_are_stored_a_row_earlier_do_not_pass_unnoticed(folder, tmp_path, capsys):
    """Files of danijar/dreamerv3: row t holds the action taken after observation t."""
    words = ["import", folder, tmp_path / "data", "--keys", "state"]
    _, _, err = run(capsys, *words)
    assert "4 of 4 episodes hold an action in their first row" in err
    for path in folder.glob("*.npz"):
        rows = dict(np.load(path))
        actions = np.concatenate([0 * rows["action"][:1], rows["action"][:-1]])
        np.savez(path, **rows | {"action": actions})
    _, _, err = run(capsys, *words[:2], tmp_path / "moved", *words[3:])
    assert "in their first row" not in err
