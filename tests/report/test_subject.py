"""What an analysis is given: episodes whose observations can be perturbed, or not."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from sdewm.data.dataset import write_dataset
from sdewm.perturbations.observation import ObservationPerturbation
from sdewm.report.analyses import ANALYSES, _notes
from sdewm.report.subject import DatasetEpisodes, PlannedEpisodes, Subject
from sdewm.study.end_points import check_on_episodes

ROWS = 200
NOISE, BRIGHTNESS = (
    ObservationPerturbation("noise", 0.1),
    ObservationPerturbation("brightness", 0.1),
)


@pytest.fixture
def recorded(tmp_path):
    """A function of obs: a dataset whose observations are said to be that."""

    def write(obs):
        images = obs == "pixels"
        shape, dtype = ((2, 2, 3), torch.uint8) if images else ((3,), torch.float32)
        first, last = torch.arange(ROWS) == 0, torch.arange(ROWS) == ROWS - 1
        episode = {
            "observation": torch.zeros((ROWS, *shape), dtype=dtype),
            "previous_action": torch.zeros(ROWS, 1),
            "reward": torch.zeros(ROWS),
            "is_first": first,
            "is_last": last,
            "is_terminal": last,
        }
        facts = {"env": "gym:X", "obs": obs, "action_repeat": 1, "policy": "random", "seed": 0}
        write_dataset(tmp_path / obs, [episode] * 16, {**facts, "command": "", "commit": ""})
        return tmp_path / obs

    return write


def subject_of(directory):
    return Subject("", "", cast(Any, None), DatasetEpisodes(directory), {})


@pytest.mark.parametrize("name", ["error", "expansion", "divergence", "open_loop"])
def test_analyses_that_perturb_observations_refuse_image_and_vector_in_one(recorded, name):
    analysis = ANALYSES[name]
    analysis.check(subject_of(recorded("proprio")), analysis.settings(), 0)
    both = subject_of(recorded("both"))
    if name == "open_loop":  # which perturbs nothing
        analysis.check(both, analysis.settings(), 0)
        return
    with pytest.raises(ValueError, match=r"not for both at once \(obs='both'\)"):
        analysis.check(both, analysis.settings(), 0)


def test_a_perturbation_has_to_fit_the_observations_of_the_episodes(recorded):
    for obs, fits, does_not in (("pixels", BRIGHTNESS, "shift"), ("proprio", NOISE, "brightness")):
        subject = subject_of(recorded(obs))
        episodes = subject.episodes(10, None, 0)
        assert subject.perturbable(episodes, fits) is episodes
        with pytest.raises(ValueError, match=f"perturbation='{does_not}' is for"):
            subject.perturbable(episodes, ObservationPerturbation(does_not, 0.1))


def test_what_does_not_fit_is_refused_before_episodes_are_recorded():
    check, settings = ANALYSES["expansion"].check, ANALYSES["expansion"].settings
    for obs, fits, does_not in (
        ("pixels", "brightness", "shift"),
        ("proprio", "shift", "brightness"),
        ("both", None, "noise"),
    ):
        planned = Subject("", "", cast(Any, None), PlannedEpisodes(4, obs), {})
        if fits is not None:
            check(planned, settings(perturbation=fits), 0)
        with pytest.raises(ValueError, match=f"perturbation='{does_not}' is for"):
            check(planned, settings(perturbation=does_not), 0)


def test_end_points_that_perturb_observations_refuse_them_too(recorded):
    both, vectors = recorded("both"), recorded("proprio")
    for name in ("decoded noise:0.1", "area mask"):
        check_on_episodes([name], vectors)
        with pytest.raises(ValueError, match=f"end_point='{name}': .*not for both at once"):
            check_on_episodes([name], both)
    check_on_episodes(["latent_error drift:0.3 5", "open_loop 5"], both)


def unequal(directory, lengths):
    """A dataset of episodes of these lengths, whose observations are 1000 · number + row."""

    def episode(number, rows):
        times = torch.arange(rows)
        return {
            "observation": 1000.0 * number + times[:, None].float(),
            "previous_action": torch.zeros(rows, 1),
            "reward": torch.zeros(rows),
            "is_first": times == 0,
            "is_last": times == rows - 1,
            "is_terminal": times == rows - 1,
        }

    facts = {"env": "gym:X", "obs": "proprio", "action_repeat": 1, "policy": "random", "seed": 0}
    facts |= {"command": "", "commit": ""}
    write_dataset(directory, [episode(*one) for one in enumerate(lengths)], facts)
    return DatasetEpisodes(directory)


def test_reference_episodes_are_as_long_as_those_that_are_scored(tmp_path):
    """Short ones are left out: one of them would cut all others to first steps."""
    source = unequal(tmp_path / "data", [40, 1, 12, 40, 40, 20, 40])
    found = source.whole(4, 16, 0).observations[..., 0]
    numbers, rows = found // 1000, found % 1000
    assert found.shape == (4, 20) and numbers[:, 0].tolist() == [0, 3, 4, 5]
    assert (rows.diff(dim=1) == 1).all() and (rows[:3, 0] > 0).any() and rows[3, 0] == 0
    assert source.whole(3, 16).observations.shape == (3, 40, 1)
    with pytest.raises(ValueError, match="has 4 episodes of at least 40 rows; expected 5"):
        source.whole(5, 40)


@pytest.mark.parametrize("name", ANALYSES)
def test_it_is_said_how_many_episodes_are_too_short_for_an_analysis(name, tmp_path):
    """Where episodes end for good, the numbers are of those that survived."""
    settings = ANALYSES[name].settings()
    rows = settings.window
    subject = subject_of(unequal(tmp_path / "data", [rows] * 16 + [rows - 1] * 3).directory)
    subject = replace(subject, model=cast(Any, SimpleNamespace(state_size=8)))
    assert ANALYSES[name].check(subject, settings, 0).rewards.shape[1] == rows
    said = f"3 of 19 episodes have fewer than {rows} rows and are left out"
    assert said in " ".join(_notes(subject, replace(ANALYSES[name], needs={}), settings))
    equal = subject_of(unequal(tmp_path / "equal", [rows] * 2).directory)
    assert _notes(equal, replace(ANALYSES[name], needs={}), settings) == []
