"""A recurrent state-space model given by plain functions, as a `LatentModel`."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from sdewm.base.checks import check_count, check_output
from sdewm.latent_sde.model_parts import FunctionDecoder, Part, Rows, StateFunction, initial_row
from sdewm.latent_sde.models import RecurrentModel
from sdewm.model.latents import CategoricalLatent, GaussianLatent, Latent

Function = Callable[..., Any]


class RSSM(RecurrentModel):
    """Any recurrent state-space model, given by its functions.

    One step from the state (h, z) is

        h' = recurrent(h, z, a),    z' ~ posterior(h', encoder(o')),  or  z' ~ prior(h').

    Prior and posterior return, for `gaussian=Z`, mean and standard deviation, each (B, Z); for
    `onehot=(S, K)`, logits (B, S, K) or (B, S·K), of which a softmax over the K classes is taken.
    Logits are those of the law that is sampled: with a uniform mixture of weight u ("unimix"),
    return log((1 − u) softmax(l) + u/K). Clean paths have one-hot z; the system of such a model is
    the Gaussian surrogate of the same mean and covariance, diag π − ππᵀ for each group, and its
    label says so. With `gaussian=Z, noise_size=0`, z is deterministic, and prior and posterior
    return z alone, (B, Z).

    Functions are in float64 and treat the rows of a batch independently. A module, or a method of
    a module, is copied to float64, without gradients and in evaluation mode, in which dropout is
    off and batch normalisation takes its running averages; other functions are used as they are,
    so that modules inside them have to be in float64 and in evaluation mode
    (`module.double().eval()`). A model of modules alone is `frozen`: it encodes recorded
    observations once.

    Args:
        recurrent: (h (B, H), z (B, Z), action (B, A)) -> h' (B, H).
        prior: h (B, H) -> parameters of the law of z, see above.
        posterior: (h (B, H), embed (B, E)) -> parameters of the law of z.
        encoder: observations (B, *shape) in the environment's units, images uint8 -> embeds (B, E).
        deter: H.
        gaussian: Z, the number of components of a Gaussian z.
        onehot: (S, K), S groups of K classes; Z = S·K.
        noise_size: 0 for a deterministic z; None: as many as z has.
        initial: (h (H,), z (Z,)), the learnt state before the first row of an episode; None: zero.
        decoder: (h, z) -> predicted observations (B, *shape); images in [0, 1].
        reward: (h, z) -> mean rewards (B,).
        critic: (h, z) -> values (B,).
        policy: (h, z) -> actions (B, A), differentiable.

    Raises:
        ValueError: both or neither of `gaussian` and `onehot`, a size out of range, or an initial
            state of another shape. A function that returns something else than expected is refused
            by name when the model is used.

    Source: Hafner et al., arXiv 1811.04551 (Gaussian z) and arXiv 2010.02193 (one-hot z); S21, S27.

    >>> model = RSSM(
    ...     recurrent=lambda h, z, a: torch.tanh(h + z + a),
    ...     prior=lambda h: (0.5 * h, torch.full_like(h, 0.1)),
    ...     posterior=lambda h, e: (0.5 * h + e, torch.full_like(h, 0.1)),
    ...     encoder=lambda o: 2 * o,
    ...     deter=2,
    ...     gaussian=2,
    ... )
    >>> mean, factor = model.law(torch.zeros(1, 4).double(), torch.zeros(1, 2).double(), None)
    >>> mean, factor[0, 2:]
    (tensor([[0., 0., 0., 0.]], dtype=torch.float64), tensor([[0.1000, 0.0000],
            [0.0000, 0.1000]], dtype=torch.float64))
    """

    def __init__(
        self,
        recurrent: Function,
        prior: Function,
        posterior: Function,
        encoder: Function,
        *,
        deter: int,
        gaussian: int | None = None,
        onehot: tuple[int, int] | None = None,
        noise_size: int | None = None,
        initial: tuple[Tensor, Tensor] | None = None,
        decoder: Function | None = None,
        reward: Function | None = None,
        critic: Function | None = None,
        policy: Function | None = None,
    ) -> None:
        distribution = _distribution(gaussian, onehot, noise_size)
        sizes = (check_count("deter", deter), distribution.size)
        drivers = distribution.size if noise_size is None else 0
        super().__init__(deter, distribution, drivers, _initial(initial, *sizes))
        copies = _Copies()
        self.recurrent, self.prior = copies("recurrent", recurrent), copies("prior", prior)
        self.posterior = copies("posterior", posterior)
        self.encoder = copies("encoder", encoder)
        parts = {"decoder": decoder, "reward": reward, "critic": critic, "policy": policy}
        of_state = {n: self._of_state(copies(n, f)) for n, f in parts.items() if f is not None}
        self.decoder = FunctionDecoder(of_state["decoder"]) if "decoder" in of_state else None
        self.reward, self.critic = of_state.get("reward"), of_state.get("critic")
        self.policy = of_state.get("policy")
        self.frozen = copies.complete
        self._first = self._first.to(copies.device)

    def _of_state(self, function: _Named) -> StateFunction:
        return lambda states: function(*self.split(states))

    def checked_functions(self, rows: Rows, prior: bool) -> dict[str, Part]:
        """What `sdewm.check_model` looks at: the functions by their names."""
        h, z = self.split(rows.state)
        after, count = self.split(rows.predicted).deter, len(h)
        found = {"recurrent": Part(self._next, (h, z, rows.action), (tuple(h.shape),))}
        if prior:
            found["prior"] = Part(partial(self._sensible, "prior"), (after,), (None,))
        if rows.embed is not None:
            assert rows.observation is not None
            seen, shape = rows.observation, (count, *rows.embed.shape[1:])
            seen = seen.double() if seen.is_floating_point() else seen
            found["encoder"] = Part(self._encoded, (seen,), (shape,))
            given = (after, rows.embed)
            found["posterior"] = Part(partial(self._sensible, "posterior"), given, (None,))
        return found

    def _encoded(self, observations: Tensor) -> Tensor:
        like = torch.zeros((), dtype=torch.float64, device=observations.device)
        embeds = self.encoder(observations)
        size = getattr(embeds, "shape", (0, 0))[1:2]
        return _checked("encoder", embeds, (len(observations), *size), like=like)

    def _next(self, h: Tensor, z: Tensor, action: Tensor) -> Tensor:
        return _checked("recurrent", self.recurrent(h, z, action), h.shape, like=h)

    def _deterministic(self, state: Tensor, action: Tensor) -> Tensor:
        return self._next(*self.split(state), action)

    def _sensible(self, name: str, deter: Tensor, embed: Tensor | None = None) -> Tensor:
        """Parameters of the law of z; ValueError for what is a logarithm, or none."""
        stats = self._stats(deter, embed)
        if isinstance(self.distribution, CategoricalLatent):
            given = self.prior(deter) if embed is None else self.posterior(deter, embed)
            total = given.reshape(stats.shape).sum(-1)
            if bool((given >= 0).all()) and torch.allclose(total, torch.ones_like(total)):
                raise ValueError(
                    f"{name} returned probabilities, which sum to 1 in each group: expected "
                    "logits; return their logarithms."
                )
        elif isinstance(self.distribution, GaussianLatent) and bool((stats[..., 1, :] < 0).any()):
            raise ValueError(
                f"{name} returned a standard deviation of {float(stats[..., 1, :].min()):.3g}: "
                "expected numbers of at least 0; of a logarithm, return the exponential."
            )
        return stats

    def _stats(self, deter: Tensor, embed: Tensor | None) -> Tensor:
        if embed is None:
            return self._parameters("prior", self.prior(deter), deter)
        return self._parameters("posterior", self.posterior(deter, embed), deter)

    def _parameters(self, name: str, value: object, deter: Tensor) -> Tensor:
        """Parameters as the law of z has them, from what prior or posterior returned."""
        rows, size = len(deter), self.distribution.size
        if isinstance(self.distribution, CategoricalLatent):
            return self.distribution.stats(_logits(name, value, deter, self.distribution))
        if isinstance(self.distribution, PointLatent):
            return _checked(name, value, (rows, size), like=deter)
        if not isinstance(value, tuple | list) or len(value) != 2:
            raise ValueError(
                f"{name} returned {type(value).__name__}: expected (mean, standard deviation), "
                f"each ({rows}, {size}), as gaussian={size}; noise_size=0 is for a deterministic z."
            )
        words = (f"{name}, mean,", f"{name}, standard deviation,")
        pair = zip(words, value, strict=True)
        return torch.stack([_checked(n, v, (rows, size), like=deter) for n, v in pair], -2)


class PointLatent:
    """A law without noise: its parameters are z itself, (…, Z)."""

    def __init__(self, size: int) -> None:
        self.size = self.raw_size = size

    def stats(self, raw: Tensor) -> Tensor:
        """The parameters z (…, Z)."""
        return raw

    def draw_noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Nothing, (…, 0)."""
        return torch.zeros(*shape, 0, device=generator.device)

    def sample(self, stats: Tensor, noise: Tensor) -> Tensor:
        """The point z (…, Z)."""
        return stats

    def mean(self, stats: Tensor) -> Tensor:
        """The point z (…, Z)."""
        return stats

    def std(self, stats: Tensor) -> Tensor:
        """Zero (…, Z)."""
        return torch.zeros_like(stats)

    def kl(self, stats_p: Tensor, stats_q: Tensor) -> Tensor:
        """Zero where the points are equal, infinite elsewhere: (…)."""
        zero = stats_p.new_zeros(())
        return torch.where((stats_p == stats_q).all(-1), zero, zero + torch.inf)

    def entropy(self, stats: Tensor) -> Tensor:
        """Minus infinity: (…)."""
        return torch.full_like(stats[..., 0], -torch.inf)


def _distribution(gaussian: object, onehot: object, noise_size: object) -> Latent:
    """The law of z; ValueError unless exactly one kind is given."""
    if (gaussian is None) == (onehot is None):
        both = "neither" if gaussian is None else "both"
        raise ValueError(
            f"{both} of gaussian and onehot given: expected exactly one of them, gaussian=Z or "
            "onehot=(S, K)."
        )
    if noise_size is not None and (noise_size != 0 or gaussian is None):
        raise ValueError(
            f"noise_size={noise_size!r}: expected 0, with gaussian=Z, for a deterministic z, or "
            "None."
        )
    if gaussian is not None:
        size = check_count("gaussian", gaussian)
        return GaussianLatent(size, min_std=0.0) if noise_size is None else PointLatent(size)
    if not isinstance(onehot, tuple | list) or len(onehot) != 2:
        raise ValueError(f"onehot={onehot!r}: expected (S, K), groups and classes.")
    groups, classes = cast(tuple[object, object], tuple(onehot))
    return CategoricalLatent(
        check_count("onehot, groups,", groups), check_count("onehot, classes,", classes, 2), 0.0
    )


def _initial(given: object, deter: int, size: int) -> Tensor | None:
    if given is None:
        return None
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise ValueError(
            f"initial={type(given).__name__}: expected a pair of tensors, h ({deter},) and z "
            f"({size},)."
        )
    rows = zip(("initial, h", "initial, z"), given, (deter, size), strict=True)
    return torch.cat([initial_row(*row) for row in rows])


def _checked(name: str, value: object, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """`check_output`, with the remedy of a function in another precision."""
    dtype = getattr(value, "dtype", like.dtype)
    if dtype != like.dtype:
        raise ValueError(
            f"{name} returned {dtype}: expected {like.dtype}; pass the module itself as the "
            "function, or convert what it uses by module.double()."
        )
    return check_output(name, value, shape, like=like)


def _logits(name: str, value: object, deter: Tensor, law: CategoricalLatent) -> Tensor:
    """Logits (B, S·K) of logits (B, S, K) or (B, S·K)."""
    rows, shape = len(deter), tuple(getattr(value, "shape", ()))
    flat, apart = (rows, law.size), (rows, law.groups, law.classes)
    if not isinstance(value, Tensor) or shape not in (flat, apart):
        given = f"shape {shape}" if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(
            f"{name} returned {given}: expected logits {apart} or {flat}, as onehot="
            f"({law.groups}, {law.classes})."
        )
    return _checked(name, value, shape, like=deter).reshape(flat)


@dataclass(frozen=True)
class _Named:
    """A function with the name of the argument by which it came."""

    name: str
    given: Function

    def __call__(self, *arguments: Tensor) -> Any:
        """The function's value; an error of its precision names what to convert."""
        try:
            return self.given(*arguments)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as problem:
            narrow = [*_narrow_modules(self.given)]
            if not narrow or not any(word in str(problem).lower() for word in ("dtype", "double")):
                raise
            raise ValueError(
                f"{self.name} uses {', '.join(narrow)} in float32, and is given float64: pass the "
                "module itself as the function, or convert it by module.double()."
            ) from problem


class _Copies:
    """Functions whose modules are replaced by copies in float64, one of each, without gradients.

    Attributes:
        complete: whether every function was a module, or a method of one.
        device: of the first of their weights; None without weights.
    """

    def __init__(self) -> None:
        self.complete = True
        self.device: torch.device | None = None
        self._of: dict[int, nn.Module] = {}

    def __call__(self, name: str, function: Function) -> _Named:
        """The function under the name of its argument."""
        if not callable(function):
            raise ValueError(f"{name}={function!r}: expected a function.")
        module = _module_of(function)
        if module is None:
            self.complete = False
            return _Named(name, function)
        if id(module) not in self._of:
            wide = copy.deepcopy(module).double().requires_grad_(False).eval()
            self._of[id(module)] = wide
            self.device = self.device or next((w.device for w in wide.parameters()), None)
        wide = self._of[id(module)]
        return _Named(name, wide if module is function else getattr(wide, function.__name__))


def _module_of(function: Function) -> nn.Module | None:
    """The module that a function is, or of which it is a method."""
    if isinstance(function, nn.Module):
        return function
    owner = function.__self__ if inspect.ismethod(function) else None
    return owner if isinstance(owner, nn.Module) else None


def _narrow_modules(function: Function) -> Iterator[str]:
    """Names of modules in float32 that a plain function refers to."""
    try:
        found = inspect.getclosurevars(function)
    except TypeError:  # of a callable object nothing is known
        return
    for name, thing in [*found.nonlocals.items(), *found.globals.items()]:
        parts = [*thing.parameters()] if isinstance(thing, nn.Module) else [thing]
        if any(isinstance(part, Tensor) and part.dtype == torch.float32 for part in parts):
            yield name
