"""Perturbations from the words of a command line or a study, such as noise:0.1,0.2."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from sdewm.base.checks import check_choice
from sdewm.perturbations.adversarial import NAMES as ATTACKS
from sdewm.perturbations.adversarial import AdversarialPerturbation
from sdewm.perturbations.dynamics import NAMES as PHYSICS
from sdewm.perturbations.dynamics import SCHEDULES, DynamicsPerturbation
from sdewm.perturbations.latent import DRAWS, LatentPerturbation
from sdewm.perturbations.observation import (
    HELD,
    HOLDABLE,
    KINDS,
    ObservationPerturbation,
    kind_of,
)

Perturbation = (
    ObservationPerturbation | DynamicsPerturbation | LatentPerturbation | AdversarialPerturbation
)


def _observation(name: str) -> Callable[[float], Perturbation]:
    plain = name.removesuffix(HELD)
    return lambda strength: ObservationPerturbation(plain, strength, plain != name)


def _dynamics(name: str) -> Callable[[float], Perturbation]:
    kind, _, schedule = name.partition("-")
    return lambda strength: DynamicsPerturbation(kind, strength, schedule or "constant")


def _makers() -> Mapping[str, Callable[[float], Perturbation]]:
    changing = [f"{name}-{s}" for name in PHYSICS if name != "delay" for s in SCHEDULES[1:]]
    makers = {name: _observation(name) for name in (*KINDS, *(n + HELD for n in HOLDABLE))}
    makers |= {name: _dynamics(name) for name in (*PHYSICS, *changing)}
    makers |= {name: lambda s, n=name: LatentPerturbation(n, s) for name in DRAWS}
    return makers | {name: lambda s, n=name: AdversarialPerturbation(n, s) for name in ATTACKS}


MAKERS = _makers()
# The paper's robustness tables, as far as they are known: variances of the noise from .05 to .55 of
# pixels in [0, 1], redrawn at every step and clipped; black corners; noise on a share of the
# pixels; errors of the latent with and without drift; another gravity. Vectors take all but the
# rotations.
PAPER = (
    "noise:" + ",".join(f"{math.sqrt(v):.4g}" for v in (0.05, 0.15, 0.25, 0.35, 0.45, 0.55)),
    "rotation:20,30",
    "mask-noise:0.25,0.5,0.75",
    "latent-noise:0.1,0.3,1",
    "latent-drift:0.1,0.3,1",
    "gravity:-0.5,0.5",
)


def parse_perturbations(word: str) -> list[Perturbation]:
    """Perturbations from a text: a name and its strengths.

    Raises:
        ValueError: no strength, an unknown name, or a strength out of range.

    >>> [one.label for one in parse_perturbations("noise-held:0.1,0.2")]
    ['noise-held:0.1', 'noise-held:0.2']
    >>> [one.label for one in parse_perturbations("gravity-drift:0.5")]
    ['gravity-drift:0.5']
    """
    name, _, strengths = word.partition(":")
    if not strengths:
        raise ValueError(f"perturbation={word!r}: expected NAME:STRENGTH,STRENGTH,…")
    make, found = MAKERS[check_choice("perturbation", name, MAKERS)], []
    for text in strengths.split(","):
        try:
            strength = float(text)
        except ValueError as problem:
            raise ValueError(
                f"perturbation={word!r}: {text!r} is no number; expected NAME:STRENGTH,STRENGTH,…"
            ) from problem
        found.append(make(strength))
    return found


def observation_perturbation(word: str) -> ObservationPerturbation:
    """The only perturbation of a text, which has to be one of recorded observations.

    Raises:
        ValueError: several strengths, or a perturbation of something else.
    """
    found = parse_perturbations(word)
    if len(found) != 1 or not isinstance(found[0], ObservationPerturbation):
        raise ValueError(
            f"perturbation={word!r}: expected one strength of one of {', '.join(KINDS)}."
        )
    return found[0]


def check_fits(one: Perturbation, *, env: str, obs: str, own_policy: bool = True) -> None:
    """Refuse a perturbation that cannot be applied, before anything is run.

    Args:
        one: the perturbation.
        env: name of the environment.
        obs: its observations, as in `sdewm.data.envs.make_env`.
        own_policy: whether the agent acts on its own latents, and not as the actor of a filter.

    Raises:
        ValueError: observations that it does not fit, an environment whose physics is not known, an
            error of latents or an attack under another's policy, or an attack on images that is
            smaller than one level of 8 bits.
    """
    observations = kind_of(obs, obs == "pixels")
    if isinstance(one, ObservationPerturbation):
        one.check_fits(observations)
    elif isinstance(one, DynamicsPerturbation):
        if not env.startswith("dmc:"):
            raise ValueError(
                f"perturbation={one.label!r} is for dmc: environments, whose physics is known, not "
                f"for env={env!r}."
            )
    elif not own_policy:
        raise ValueError(
            f"perturbation={one.label!r} needs the run's own policy; leave out --policy."
        )
    elif isinstance(one, AdversarialPerturbation):
        one.check_fits(observations)


def perturbations_of(
    words: tuple[str, ...], fits: Callable[[Perturbation], None]
) -> tuple[list[Perturbation], list[Perturbation]]:
    """All perturbations of a command line; "paper" stands for those of the paper that fit.

    Args:
        words: as for `parse_perturbations`, or "paper".
        fits: raises a ValueError for what does not fit, such as `check_fits`.

    Returns:
        The perturbations, and those of "paper" that are left out because they do not fit.

    Raises:
        ValueError: as `parse_perturbations`, or one that is named does not fit or is named twice,
            or none is left.

    >>> found, left_out = perturbations_of(
    ...     ("paper",), lambda one: check_fits(one, env="gym:CartPole-v1", obs="proprio"))
    >>> [one.label for one in left_out]
    ['rotation:20', 'rotation:30', 'gravity:-0.5', 'gravity:0.5']
    """
    found: list[Perturbation] = []
    left_out: list[Perturbation] = []
    for word in words:
        parts = PAPER if word == "paper" else (word,)
        for one in (one for part in parts for one in parse_perturbations(part)):
            try:
                fits(one)
            except ValueError:
                if word != "paper":
                    raise
                left_out.append(one)
                continue
            # Rows and curves know it by its label, which has six digits of the strength.
            if any(one.label == other.label for other in found):
                raise ValueError(f"perturb names {one.label} twice.")
            found.append(one)
    if not found:
        raise ValueError(f"perturb={' '.join(words)}: none fits this environment.")
    return found, left_out
