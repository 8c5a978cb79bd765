"""The contract between sdewm and a world model, checked at states that recorded inputs lead to.

Every function that takes a model calls `require_model` before it starts; `sdewm.check_model` shows
everything that is found, each finding with a remedy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from sdewm.base.checks import check_output
from sdewm.base.findings import (
    Finding,
    batch_dependence,
    impurity,
    outputs_of,
    require,
    wrong_derivative,
)
from sdewm.base.kept_tensors import kept_random_stream, kept_tensors
from sdewm.base.taylor import fuse
from sdewm.data.recorded_episodes import Episodes, check_rows
from sdewm.latent_sde.inputs import (
    LatentPolicy,
    ModelInputs,
    digest_of,
    episode_inputs,
)
from sdewm.latent_sde.model_parts import REMEDIES, Part, Rows, required_part
from sdewm.latent_sde.models import (
    LatentModel,
    RecurrentModel,
    StepModel,
    as_latent_model,
)
from sdewm.latent_sde.noise_factor import FactoredModel
from sdewm.latent_sde.visited_rows import (
    FEW,
    NAN,
    called,
    embeds_of,
    first_inputs,
    is_dense,
    start_rows,
    visited_rows,
)
from sdewm.model.world_model import WorldModel
from sdewm.sde.system import probing_increments

ORDER = ("outputs", "in place", "random", "rows", "precision")
FACTORS = 4  # rows at which a factor is compared with its matrix
NOISE = "let noise enter by the argument `noise`, or by the standard deviations, only"
Function = Callable[..., Any]
_PASSED: WeakKeyDictionary[LatentModel, set[Any]] = WeakKeyDictionary()


def check_model(world_model: WorldModel | LatentModel, episodes: Episodes) -> list[Finding]:
    """Check a world model at states that it visits along recorded episodes.

    A few episodes are filtered from the initial state on. At several of their rows every function
    of the model, its decoder, heads and policy included, has to

        return tensors of the right shape, dtype and device, and finite numbers  "outputs"
        keep its arguments as they are                       "in place"
        give the same value twice                            "random"
        treat the rows of the batch apart                    "rows"
        compute in float64 throughout                        "precision"
        be linear in its noise (the step of a `StepModel`)   "noise"
        be drawn as its mean plus factor times noise, unless its surrogate is named    "noise"
        have right automatic derivatives                     "derivatives"

    The episodes, the random streams of torch and the buffers of modules stay as they are.

    Args:
        world_model: a `WorldModel` or any `LatentModel`.
        episodes: recorded episodes.

    Returns:
        The findings, the gravest first; empty if there are none.

    Raises:
        ValueError: arguments of another kind; names the argument.

    >>> from sdewm.latent_sde.models import StepModel
    >>> step = lambda x, a, v: 0.5 * (x - x.mean(0)) + 0.1 * v
    >>> model = StepModel(step, state_size=2, noise_size=2)
    >>> episodes = Episodes(torch.zeros(2, 6, 1), torch.zeros(2, 6, 1), torch.zeros(2, 6))
    >>> for finding in check_model(model, episodes):
    ...     print(finding.check, "|", finding.message)
    rows | step mixes the rows of its batch
    """
    model = as_latent_model(world_model)
    check_rows(episodes, 1)
    parts = tuple(name for name in REMEDIES if getattr(model, name, None) is not None)
    return list(_undisturbed(model, episode_inputs(episodes), True, True, parts))


def require_model(
    model: LatentModel,
    inputs: ModelInputs,
    *,
    prior: bool = False,
    derivatives: bool = False,
    parts: tuple[str, ...] = (),
) -> None:
    """Raise ValueError for the gravest finding of `check_model`; called before any work.

    Args:
        model: the model.
        inputs: arguments that have been checked.
        prior: whether steps without observations are used.
        derivatives: whether derivatives are used.
        parts: names of the parts that are used, see `LatentModel`.
    """
    # What a frozen model passed once, it passes again; a policy may have changed since.
    kept = getattr(model, "frozen", False) and inputs.policy is None
    passed = _PASSED.setdefault(model, set()) if kept else set()
    seen = inputs.observations
    first = None if seen is None or not kept else digest_of(seen[FEW])
    key = (first, prior, derivatives, parts)
    if key not in passed:
        require(_undisturbed(model, inputs, prior, derivatives, parts))
        passed.add(key)


def _undisturbed(
    model: LatentModel,
    inputs: ModelInputs,
    prior: bool,
    derivatives: bool,
    parts: tuple[str, ...],
) -> Iterator[Finding]:
    """Findings in the order of their gravity; of impure functions no more is looked at."""
    with kept_random_stream():
        with kept_tensors():
            found, rows = _impurities(model, inputs, prior, parts)
        yield from found
        if rows is None or found:
            return
        if not model.surrogate and rows.embed is not None:
            yield from _unnamed_surrogate(model, rows)
        if prior and isinstance(model, StepModel):
            yield from _nonlinear_noise(model, rows)
        own = isinstance(model, RecurrentModel | StepModel)
        if isinstance(model, FactoredModel) and not own:
            yield from _other_factor(model, rows, prior)
        if derivatives:
            yield from _wrong_derivatives(model, rows, prior)


def _impurities(
    model: LatentModel, inputs: ModelInputs, prior: bool, extra: tuple[str, ...]
) -> tuple[list[Finding], Rows | None]:
    """Findings that need no derivatives, and the rows at which they were looked for."""
    try:
        with torch.no_grad():
            inputs = first_inputs(inputs)
            embeds = embeds_of(model, inputs)
            start = start_rows(model, inputs, embeds)
            for name, part in _parts(model, start, inputs.policy, prior, extra).items():
                _check_outputs(name, part, start.state)
            rows = visited_rows(model, start, inputs, embeds)
            parts = _parts(model, rows, inputs.policy, prior, extra)
            found = [
                _never_finite(name, part)
                or impurity(name, part.function, part.arguments, NOISE)
                or batch_dependence(name, part.function, part.arguments, largest=True)
                for name, part in parts.items()
            ]
    except ValueError as problem:
        return [_outputs_finding(str(problem))], None
    kept = [finding for finding in found if finding is not None]
    return sorted(kept, key=lambda finding: ORDER.index(finding.check)), rows


def _outputs_finding(problem: str) -> Finding:
    at = min((problem.index(sign) for sign in (": ", "; ") if sign in problem), default=None)
    if at is None:
        remedy = "return tensors of float64 on the device of the arguments"
        return Finding("outputs", problem.rstrip("."), remedy)
    return Finding("outputs", problem[:at], problem[at + 2 :].rstrip("."))


def _parts(
    model: LatentModel, rows: Rows, policy: LatentPolicy | None, prior: bool, extra: tuple[str, ...]
) -> dict[str, Part]:
    """The functions of the model by the names that a user knows them by."""
    found: dict[str, Part] = {}
    if policy is not None:
        found["policy"] = Part(policy, (rows.state,), (None,))
    named = getattr(model, "checked_functions", None)
    found |= _protocol_parts(model, rows, prior) if named is None else named(rows, prior)
    return found | {name: _extra_part(model, name, rows) for name in extra if _given(name, rows)}


def _protocol_parts(model: LatentModel, rows: Rows, prior: bool) -> dict[str, Part]:
    """The functions that every model has, by their names in `LatentModel`."""
    count, size = len(rows.state), model.state_size
    state = (count, size)
    spread = (count, size, model.noise_size) if is_dense(model) else None
    moments = ((count, model.latent.stop - model.latent.start),) * 2
    now, embed = (rows.state, rows.action), rows.embed
    law_entries = partial(_law_entries, model)
    found: dict[str, Part] = {}
    if prior:
        law = partial(_without_embed, law_entries)
        found["model.law without observations"] = Part(law, now, (state, spread))
    if embed is None:
        return found
    assert rows.observation is not None
    found["model.embed"] = Part(model.embed, (rows.observation,), (None,))
    found["model.law"] = Part(law_entries, (*now, embed), (state, spread))
    found["model.sample"] = Part(model.sample, (*now, embed, rows.noise), (state, state))
    found["model.moments"] = Part(model.moments, (rows.predicted, embed), moments)
    return found


def _extra_part(model: LatentModel, name: str, rows: Rows) -> Part:
    """A decoder, head or policy, or the divergence of posterior and prior."""
    count, part = len(rows.state), required_part(model, name)
    if name == "decoder":
        assert rows.observation is not None
        return Part(part.predict, (rows.state,), (tuple(rows.observation.shape),))
    if name == "policy":
        return Part(part, (rows.state,), (tuple(rows.action.shape),))
    if name == "kl":
        assert rows.embed is not None
        return Part(part, (rows.predicted, rows.embed, rows.predicted), ((count,),))
    return Part(part, (rows.state,), ((count,),))


def _given(name: str, rows: Rows) -> bool:
    """Whether the rows have what the part is compared with."""
    return rows.embed is not None or name not in ("decoder", "kl")


def _law_entries(
    model: LatentModel, state: Tensor, action: Tensor, embed: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Mean and noise of the next state: the matrix of its factor, or its entries if it has them."""
    if not isinstance(model, FactoredModel):
        return model.law(state, action, embed)
    mean, factor = model.factored_law(state, action, embed)
    return mean, factor.entries()


def _without_embed(law: Function, state: Tensor, action: Tensor) -> Any:
    return law(state, action, None)


def _check_outputs(name: str, part: Part, like: Tensor) -> None:
    """ValueError unless the function returns as many tensors as expected, of the right shapes."""
    value = called(name, part.function, part.arguments)
    values = (value,) if len(part.shapes) == 1 else value
    if not isinstance(values, tuple | list) or len(values) != len(part.shapes):
        expected = ", ".join(str(shape) for shape in part.shapes)
        raise ValueError(
            f"{name} returned {type(value).__name__}; expected {len(part.shapes)} tensors of "
            f"shapes {expected}."
        )
    for one, shape in zip(values, part.shapes, strict=True):
        free = (len(like), *getattr(one, "shape", (0,))[1:])
        check_output(name, one, free if shape is None else shape, like=like)


def _never_finite(name: str, part: Part) -> Finding | None:
    """Whether every row of a value has nan or infinity; single rows may, as a path explodes."""
    for one in outputs_of(called(name, part.function, part.arguments)):
        if not bool(torch.isfinite(one.reshape(len(one), -1)).all(1).any()):
            return Finding("outputs", f"{name} returned nan or infinity in every row", NAN)
    return None


def _unnamed_surrogate(model: LatentModel, rows: Rows) -> Iterator[Finding]:
    """Unless sample(x, a, e, ξ) = F + G ξ: then the model is not the system that replaces it."""
    with torch.no_grad():
        mean, factor = model.law(rows.state, rows.action, rows.embed)
        drawn, _ = model.sample(rows.state, rows.action, rows.embed, rows.noise)
    fits = rows.noise.shape == (len(mean), model.noise_size)
    if fits:
        expected = mean + torch.einsum("bdm,bm->bd", factor, rows.noise)
        fits = torch.allclose(drawn, expected, rtol=1e-8, atol=1e-10, equal_nan=True)
    if not fits:
        yield Finding(
            "noise",
            "model.sample is not the mean plus the factor times the noise",
            "name the law that replaces the model's in `surrogate`",
        )


def _nonlinear_noise(model: StepModel, rows: Rows) -> Iterator[Finding]:
    """Unless step(x, a, v) is linear in v."""
    with torch.no_grad():
        mean, factor = model.law(rows.state, rows.action, None)
        moved = model.step(rows.state, rows.action, rows.noise)
    expected = mean + torch.einsum("bdm,bm->bd", factor, rows.noise)
    if not torch.allclose(moved, expected, rtol=1e-8, atol=1e-10, equal_nan=True):
        gap = float((moved - expected).abs().max())
        yield Finding(
            "noise",
            f"step is not linear in its noise (deviation {gap:.3g})",
            "write it as mean(state, action) + factor(state, action) · noise",
        )


def _other_factor(model: FactoredModel, rows: Rows, prior: bool) -> Iterator[Finding]:
    """Unless `factored_law` gives mean and matrix of `law`, and a product and sums as the matrix's.

    Looked for at a few rows, with observations if there are any and prior is not asked for.
    """
    few = slice(FACTORS)
    embed = None if prior or rows.embed is None else rows.embed[few]
    now = rows.state[few], rows.action[few], embed
    with torch.no_grad():
        mean, matrix = cast(LatentModel, model).law(*now)
        found, factor = model.factored_law(*now)
        v = probing_increments(mean, matrix.shape[2])
        pairs = {
            "mean": (found, mean),
            "matrix()": (factor.matrix(), matrix),
            "product(v)": (factor.product(v), torch.einsum("bdm,bm->bd", matrix, v)),
            "entries()": (factor.entries().square().sum(1), matrix.square().sum((1, 2))),
            "deviation()": (factor.deviation(), matrix.square().sum(2).sqrt()),
        }
    for name, (given, expected) in pairs.items():
        scale = float(expected.abs().max())
        same = given.shape == expected.shape
        if not same or not torch.allclose(given, expected, rtol=1e-8, atol=1e-10 * (1 + scale)):
            yield Finding(
                "noise",
                f"model.factored_law disagrees with model.law in its {name}",
                "return the mean and the factor of the same law",
            )
            return


def _wrong_derivatives(model: LatentModel, rows: Rows, prior: bool) -> Iterator[Finding]:
    """The first wrong derivative of the model's step, as it is differentiated."""
    cases = {} if rows.embed is None else {"with observations": rows.embed}
    for words, embed in (cases | ({"without observations": None} if prior else {})).items():

        def law(state: Tensor, embed: Tensor | None = embed) -> tuple[Tensor, ...]:
            return _law_entries(model, state, rows.action, embed)

        places = [f"the {part} of the model's step {words}" for part in ("mean", "noise factor")]
        found = wrong_derivative(places, fuse(law, (rows.state,)), (rows.state,))
        if found is not None:
            yield found
            return
