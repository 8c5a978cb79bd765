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
from sdewm.perturbations.observation import HELD, HOLDABLE, KINDS, ObservationPerturbation

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


def perturbations_of(words: tuple[str, ...], observations: str) -> list[Perturbation]:
    """All perturbations of a command line; "paper" stands for those of the paper that fit.

    Args:
        words: as for `parse_perturbations`, or "paper".
        observations: "vectors" or "images".

    Raises:
        ValueError: as `parse_perturbations`, or one that does not apply to such observations or is
            named twice.
    """
    found: list[Perturbation] = []
    for word in words:
        if word == "paper":
            preset = [one for each in PAPER for one in parse_perturbations(each)]
            found += [one for one in preset if one.name != "rotation" or observations == "images"]
        else:
            found += parse_perturbations(word)
    for n, one in enumerate(found):
        if one in found[:n]:
            raise ValueError(f"perturb names {one.label} twice.")
        if isinstance(one, ObservationPerturbation):
            one.check_fits(observations)
    return found
