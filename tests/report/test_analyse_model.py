"""`sdewm.analyse`: the analyses of a model that is not ours, on episodes in memory."""

import math
import re

import pytest
import torch
from PIL import Image

import sdewm
from sdewm.base.records import ROOT, read_table
from sdewm.report import analyses
from sdewm.report.analyses import ANALYSES
from sdewm.report.trained_run import load_trained_run

MODELS = ROOT / "paper_checks" / "small_models"
TINY = {
    "error": {"steps": 4, "draws": 2},
    "expansion": {"start": 1, "horizon": 2, "copies": 1, "paths": 2},
    "stability": {"start": 1, "steps": 4, "discard": 1, "exponents": 1},
}


@pytest.fixture(autouse=True)
def no_drawing(monkeypatch):
    def save(drawing, out, stem):
        Image.new("RGB", (2, 2)).save(out / f"{stem}.png")
        return []

    monkeypatch.setattr(analyses, "save_figure", save)


def episodes(count=3, rows=8, size=2):
    draw = torch.Generator().manual_seed(0)
    seen = torch.randn(count, rows, size, generator=draw)
    actions = torch.rand(count, rows, 1, generator=draw)
    actions[:, 0] = 0
    return sdewm.Episodes(seen, actions, seen[..., 0])


def model(rate=0.5, weight=0.2, **parts):
    """A linear model of two components, whose encoder sees half of the observation."""
    inputs = torch.full((1, 2), weight).double().requires_grad_()  # as trained weights do
    rates = torch.full((1, 2), rate).double().requires_grad_()
    return sdewm.StepModel(
        lambda x, a, v: rates * x + a @ inputs + 0.1 * v,
        state_size=2,
        noise_size=2,
        encoder=lambda x, o: (0.5 * x + 0.5 * o, torch.full_like(x, 0.1)),
        **parts,
    )


def run(capsys, tmp_path, given, only, rows=None, **options):
    settings = {"settings": TINY} | options
    paths = sdewm.analyse(given, rows or episodes(), out=tmp_path, only=only, **settings)
    return paths, capsys.readouterr().out


def test_episodes_that_are_too_short_are_refused_with_what_to_change(tmp_path, capsys):
    with pytest.raises(
        ValueError, match=r"stability \(.*steps=90.*typed: --stability\.\*\), or leave it out"
    ):
        run(capsys, tmp_path, model(), ["stability"], settings={"stability": {"steps": 90}})
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_refused_before_the_first_analysis(tmp_path, capsys):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        run(capsys, tmp_path / "file", model(), ["stability"])
    assert "[1/1]" not in capsys.readouterr().err


def test_results_without_their_part_are_left_out_with_the_reason(tmp_path, capsys):
    paths, out = run(capsys, tmp_path, model(decoder=lambda x: x), ["expansion", "stability"])
    page = paths[-1].read_text("utf-8")
    for result in ("reward error", "value", "policy in the loop"):
        assert f"Left out: {result}, because StepModel has no" in out
        assert f"Left out: {result}, because StepModel has no" in page
    rows, facts = read_table(tmp_path / "data" / f"{ANALYSES['expansion'].stem}.csv")
    assert {row["panel"] for row in rows} == {"reconstruction loss"}
    assert facts["model"] == "StepModel" and len(facts["weights"]) == len(facts["outputs"]) == 16
    # Without noise in the step the exponent of 0.5 x is ln ½, whatever the actions.
    rows, _ = read_table(tmp_path / "data" / f"{ANALYSES['stability'].stem}.csv")
    (last,) = [row for row in rows if row["series"] == "exponent 1" and row["policy_steps"] == 3]
    assert last["value"] == pytest.approx(math.log(0.5))


def test_an_analysis_all_of_whose_results_need_a_part_is_left_out(tmp_path, capsys):
    paths, out = run(capsys, tmp_path, model(), ["expansion"])
    assert "expansion (left out)" in out and "no decoder: pass decoder=" in out
    assert [path.name for path in paths] == ["report.html"]
    assert "no decoder: pass decoder=" in paths[0].read_text("utf-8")


def test_parts_of_the_model_are_used(tmp_path, capsys):
    whole = model(
        decoder=lambda x: x,
        reward=lambda x: x[:, 0],
        critic=lambda x: x.square().sum(1),
        policy=lambda x: x[:, :1],
    )
    _, out = run(capsys, tmp_path, whole, ["expansion", "stability"])
    assert "Left out" not in out
    rows, _ = read_table(tmp_path / "data" / f"{ANALYSES['expansion'].stem}.csv")
    assert {row["panel"] for row in rows} == {"reconstruction loss", "reward error", "value"}


def test_a_table_is_reused_for_the_same_model_and_episodes_only(tmp_path, capsys):
    def state(given, rows=None, **options):
        out = run(capsys, tmp_path, given, ["stability"], rows, **options)[1]
        return "measured" if "stability (measured" in out else "cached"

    assert [state(model()), state(model())] == ["measured", "cached"]
    for changed in (model(rate=0.6), model(weight=0.3), model(decoder=lambda x: x)):
        assert [state(changed), state(changed)] == ["measured", "cached"]
        assert state(model()) == "measured"
    assert state(model(), episodes(count=4)) == "measured"
    assert state(model(), episodes(count=4), seed=1) == "measured"


def test_the_page_shows_all_that_is_finished_for_this_model_and_call(tmp_path, capsys):
    def shown(given, only, settings=TINY, **options):
        run(capsys, tmp_path, given, only, settings=settings, **options)
        page = (tmp_path / "report.html").read_text("utf-8")
        there = [name for name in ANALYSES if f'<figure id="{ANALYSES[name].stem}"' in page]
        return there, re.findall(r"Not shown: (\w+)\.csv [^(]*\(([^)]*)\)", page)

    both = ["error", "stability"]
    assert shown(model(), ["stability", "error"]) == (both, [])
    assert shown(model(), ["error"]) == (both, [])
    stale = ANALYSES["stability"].stem
    there, ((name, facts),) = shown(model(rate=0.6), ["error"])
    assert there == ["error"] and name == stale and facts == "weights, outputs"
    there, ((name, facts),) = shown(model(), ["error"], rows=episodes(count=4))
    assert there == ["error"] and name == stale and facts == "outputs, data_rows, data_digest"
    other = TINY | {"stability": TINY["stability"] | {"steps": 5}}
    there, ((name, facts),) = shown(model(), ["error"], settings=other)
    assert there == ["error"] and name == stale and facts == "steps"
    assert shown(model(), ["error"]) == (both, [])


def test_a_whole_number_may_be_given_as_a_float(tmp_path, capsys):
    _, first = run(capsys, tmp_path, model(), ["error"])
    floats = {"error": {"steps": 4.0, "draws": 2.0}}
    _, again = run(capsys, tmp_path, model(), ["error"], settings=floats)
    assert "error (measured" in first and "error (cached" in again


def test_a_run_and_its_world_model_have_the_same_numbers(tmp_path, capsys):
    trained = load_trained_run(MODELS / "weight0-seed0", MODELS / "episodes")
    small = {"stability": {"episodes": 2, "start": 2, "steps": 2, "discard": 1, "every": 2}}
    only, data = ["stability"], MODELS / "episodes"
    run(capsys, tmp_path, trained.agent.world_model, only, str(data), settings=small)
    found, facts = read_table(tmp_path / "data" / f"{ANALYSES['stability'].stem}.csv")
    settings = ANALYSES["stability"].settings(**small["stability"])
    expected = ANALYSES["stability"].rows(trained.subject, settings, 0)
    of_model = [row for row in expected if not row["series"].startswith("simulator")]
    assert len(of_model) < len(expected)  # whose simulator is not known here
    numbers = [[row["value"] for row in rows] for rows in (found, of_model)]
    assert numbers[0] == numbers[1]
    assert facts["data_digest"] == trained.source.facts()["data_digest"]
    assert trained.subject.missing("critic") == "the run trained only its world model"


WRONG = {
    "model": ((3, episodes()), {}, "world_model=int: expected a sdewm WorldModel"),
    "episodes": ((model(), 3), {}, "episodes=int: expected a sdewm.Episodes"),
    "shape": ((model(), episodes(size=3)), {}, "encoder"),
    "no dataset": ((model(), "nowhere"), {}, "nowhere holds no dataset"),
    "few": (
        (model(), episodes()),
        {"only": ["open_loop"], "settings": {"open_loop": {"context": 2, "horizon": 2}}},
        "3 episodes of at least 4 rows: expected at least 16 episodes. Give at least 16 episodes,",
    ),
    "short": ((model(), episodes()), {"only": ["error"]}, "error (episodes=None, steps=100"),
    "name": ((model(), episodes()), {"only": ["eror"]}, "did you mean 'error'"),
    "text": ((model(), episodes()), {"only": "error"}, "such as ['error']"),
    "analysis": ((model(), episodes()), {"settings": {"errors": {}}}, "did you mean 'error'"),
    "setting": (
        (model(), episodes()),
        {"settings": {"error": {"step": 2}}},
        "did you mean 'steps'",
    ),
    "settings": (
        (model(), episodes()),
        {"settings": {"error": 6}},
        "settings['error']=6: expected values by name",
    ),
    "seed": ((model(), episodes()), {"seed": -1}, "seed=-1"),
    "odd paths": (
        (model(critic=lambda x: x[:, 0]), episodes()),
        {
            "only": ["divergence"],
            "settings": {"divergence": TINY["expansion"] | {"paths": 3, "slow_bounds": False}},
        },
        "copies=1, paths=3: expected an even product",
    ),
    "odd paths of losses": (
        (model(critic=lambda x: x[:, 0]), episodes()),
        {"only": ["expansion"], "settings": {"expansion": TINY["expansion"] | {"paths": 3}}},
        "copies=1, paths=3: expected an even product",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_mistakes_are_refused_before_any_work(case, tmp_path):
    given, options, text = WRONG[case]
    with pytest.raises(ValueError) as refused:
        sdewm.analyse(*given, out=tmp_path / "out", **options)
    assert text in str(refused.value) and not (tmp_path / "out").exists()
