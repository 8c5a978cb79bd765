"""Which perturbations fit which environments and observations, and what "paper" stands for."""

from functools import partial

import pytest

from sdewm.perturbations.parsing import PAPER, check_fits, parse_perturbations, perturbations_of

ALL = [one.label for word in PAPER for one in parse_perturbations(word)]


def left_out(env="dmc:walker_walk", obs="proprio", own_policy=True):
    """Labels of what "paper" leaves out; it and what remains are all of the paper."""
    found, without = perturbations_of(
        ("paper",), partial(check_fits, env=env, obs=obs, own_policy=own_policy)
    )
    labels = [one.label for one in without]
    assert [label for label in ALL if label not in labels] == [one.label for one in found]
    return labels


def test_paper_leaves_out_what_does_not_fit_and_nothing_else():
    turned, gravity = ["rotation:20", "rotation:30"], ["gravity:-0.5", "gravity:0.5"]
    latents = [label for label in ALL if label.startswith("latent")]
    seen = [label for label in ALL if label not in (*latents, *gravity)]
    assert left_out(obs="pixels") == []
    assert left_out() == turned
    assert left_out("gym:CartPole-v1") == [*turned, *gravity]
    assert left_out("own:cartpole_pixels", "pixels") == gravity
    assert left_out("own:cartpole_pixels", "pixels", own_policy=False) == [*latents, *gravity]
    assert left_out(obs="both") == seen
    with pytest.raises(ValueError, match="perturb=paper: none fits this environment"):
        left_out("gym:X", "both", own_policy=False)


@pytest.mark.parametrize("word", ["gravity:-0.5", "rotation:20"])
def test_what_is_named_has_to_fit_also_beside_paper(word):
    with pytest.raises(ValueError, match="perturbation="):
        perturbations_of(("paper", word), partial(check_fits, env="gym:CartPole-v1", obs="proprio"))
    with pytest.raises(ValueError, match="twice"):  # where it fits, the paper has it already
        perturbations_of(("paper", word), partial(check_fits, env="dmc:walker_walk", obs="pixels"))
