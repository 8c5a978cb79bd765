"""The paper's coupled world model as one Itô system, assembled from its networks (S6–S8, S21)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch

from sdewm.base.checks import check_choice, check_count, check_finite_number, check_output

Network = Callable[..., torch.Tensor]
Coefficient = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

# Name of each block's network in error messages.
LABELS = dict(z="encoder", h="sequence", z_tilde="predictor", s_tilde="decoder", s="task_state")


@dataclass(frozen=True)
class ClosedLoopTaskState:
    """Task state that depends on the action (S7): ds = drift(s, a) dt + diffusion(s, a) dB_env.

    Attributes:
        size: size of s.
        drift: b(s, a) -> (B, size).
        diffusion: b_bar(s, a) -> (B, size, m), (B, size) for one driver per component, or None.
    """

    size: int
    drift: Network
    diffusion: Network | None = None


@dataclass(frozen=True)
class _Block:
    """Networks of one block of the state and the names of their arguments, in order."""

    drift: Network
    diffusion: Network | None
    arguments: tuple[str, ...]
    relaxation_time: float | None = None


class LatentWorldModel:
    r"""Encoder z, sequence model h, predictor z_tilde and decoder s_tilde as one Itô system.

    dz = q_enc(h, s) dt + qbar_enc(h, s) dB_enc,    dh = f(h, z, a) dt + fbar(h, z, a) dB_seq,
    dz_tilde = p(h) dt + pbar(h) dB_pred,           a = pi(h, z),
    ds_tilde = q_dec(h, z_tilde) dt + qbar_dec(h, z_tilde) dB_dec.

    The task state s is absent, exogenous (a function of time: logged observations, teacher
    forcing) or closed-loop; in the last case it is the last block of the state (S7). With a
    relaxation time tau the drift of z is (q_enc - z) / tau and that of z_tilde (p - z_tilde) / tau.
    This residual form contains the RSSM step at step size tau (S21). Diffusions are not rescaled:
    to reproduce the RSSM's noise at that step, divide its standard deviation by sqrt(tau).

    Block structure (S6): no network depends on s_tilde. Of the other blocks only h and s depend on
    z (s through the policy). The encoder's diffusion does not depend on z, so an error diffusion on
    the z rows has no first-order Itô correction.

    Noise type "general": f is (B, D), g is (B, D, M). Each block with a diffusion has separate
    drivers, in the order of the blocks. Without any diffusion g is zero with M = 1.

    Args:
        z_size, h_size, z_tilde_size, s_tilde_size: sizes of the blocks.
        encoder: q_enc(h, s) -> (B, z_size); without a task state s is (B, 0).
        sequence: f(h, z, a) -> (B, h_size); without a policy a is (B, 0).
        predictor: p(h) -> (B, z_tilde_size).
        decoder: q_dec(h, z_tilde) -> (B, s_tilde_size).
        policy: pi(h, z) -> (B, A), or None.
        encoder_diffusion, sequence_diffusion, predictor_diffusion, decoder_diffusion: functions of
            the same arguments -> (B, size, m), or (B, size) for one driver per component, or None.
        task_state: None, a function of the 0-d time returning (S,) or (B, S), or a
            ``ClosedLoopTaskState``.
        encoder_relaxation_time, predictor_relaxation_time: tau of the residual form of z and of
            z_tilde; None for the drift as given.
        probe: state (B, D) on which every network is evaluated once, in the networks' dtype and on
            their device; default: zeros (2, D) in float64.

    Attributes:
        state_size: D.
        blocks: block name -> its slice of the state.
        drivers: block name -> its slice of the drivers, empty without a diffusion.
        drift_structure: booleans (blocks, blocks) in the order of ``blocks``: whether the drift of
            block i may depend on block j. If False, the Jacobian block is zero.
        diffusion_structure: booleans (blocks, blocks): whether the diffusion of block i may depend
            on block j.

    Raises:
        ValueError: a size or relaxation time is not positive, or a network returns a wrong shape,
            dtype or device.

    >>> model = LatentWorldModel(
    ...     z_size=1, h_size=2, z_tilde_size=1, s_tilde_size=1, encoder_relaxation_time=0.5,
    ...     encoder=lambda h, s: h[:, :1], sequence=lambda h, z, a: torch.tanh(h + z),
    ...     predictor=lambda h: h[:, 1:], decoder=lambda h, z_tilde: z_tilde,
    ...     encoder_diffusion=lambda h, s: torch.cos(h[:, :1]),
    ... )
    >>> model.blocks["h"], model.state_size, model.drivers["z"]
    (slice(1, 3, None), 5, slice(0, 1, None))
    >>> model.drift_structure[1].tolist()  # h reads z and h
    [True, True, False, False]
    """

    noise_type = "general"
    sde_type = "ito"

    def __init__(
        self,
        *,
        z_size: int,
        h_size: int,
        z_tilde_size: int,
        s_tilde_size: int,
        encoder: Network,
        sequence: Network,
        predictor: Network,
        decoder: Network,
        policy: Network | None = None,
        encoder_diffusion: Network | None = None,
        sequence_diffusion: Network | None = None,
        predictor_diffusion: Network | None = None,
        decoder_diffusion: Network | None = None,
        task_state: Callable[[torch.Tensor], torch.Tensor] | ClosedLoopTaskState | None = None,
        encoder_relaxation_time: float | None = None,
        predictor_relaxation_time: float | None = None,
        probe: torch.Tensor | None = None,
    ) -> None:
        """Store the networks and evaluate each once."""
        tau = _relaxation("encoder_relaxation_time", encoder_relaxation_time)
        tau_tilde = _relaxation("predictor_relaxation_time", predictor_relaxation_time)
        self._policy, self._exogenous = policy, None
        given = {"z": z_size, "h": h_size, "z_tilde": z_tilde_size, "s_tilde": s_tilde_size}
        sizes = {name: check_count(f"{name}_size", size) for name, size in given.items()}
        self._parts = {
            "z": _Block(encoder, encoder_diffusion, ("h", "s"), tau),
            "h": _Block(sequence, sequence_diffusion, ("h", "z", "a")),
            "z_tilde": _Block(predictor, predictor_diffusion, ("h",), tau_tilde),
            "s_tilde": _Block(decoder, decoder_diffusion, ("h", "z_tilde")),
        }
        if isinstance(task_state, ClosedLoopTaskState):
            sizes["s"] = check_count("task_state.size", task_state.size)
            self._parts["s"] = _Block(task_state.drift, task_state.diffusion, ("s", "a"))
        elif task_state is not None:
            self._exogenous = _function("task_state", task_state)
        self.blocks, self.state_size = _slices(sizes), sum(sizes.values())
        self._sizes = sizes
        if probe is None:
            probe = torch.zeros(2, self.state_size, dtype=torch.float64)
        self._probe = check_output("probe", probe, (len(probe), self.state_size), like=probe)
        drivers = self._checked_drivers()
        self.drivers, self._driver_count = _slices(drivers), max(1, sum(drivers.values()))
        self.drift_structure = self._structure(diffusion=False)
        self.diffusion_structure = self._structure(diffusion=True)

    def f(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Drift (B, D)."""
        inputs = self._inputs(t, y)
        return torch.cat([self._drift(name, inputs) for name in self.blocks], dim=1)

    def g(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Diffusion (B, D, M)."""
        inputs = self._inputs(t, y)
        rows = [self._on_drivers(name, self._diffusion(name, inputs)) for name in self.blocks]
        return torch.cat(rows, dim=1)

    def latent_error_drift(self, sigma: Network) -> Coefficient:
        """Error drift on the z rows only: sigma(h, s) -> (B, z_size) becomes (t, y) -> (B, D).

        Raises:
            ValueError: sigma returns a wrong shape, dtype or device.
        """
        size = self._sizes["z"]

        def error_drift(t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            inputs = self._inputs(t, y)
            value = sigma(inputs["h"], inputs["s"])
            check_output("sigma(h, s)", value, (len(y), size), like=y)
            return torch.cat([value, torch.zeros_like(y[:, size:])], dim=1)

        error_drift(self._probe.new_zeros(()), self._probe)
        return error_drift

    def latent_error_diffusion(self, sigma_bar: Network, driver: str = "same") -> Coefficient:
        """Error diffusion on the z rows only, for a perturbation with the same ``driver``.

        Args:
            sigma_bar: sigma_bar(h, s) -> (B, z_size, m), or (B, z_size) for one driver each.
            driver: "same": on the encoder's m drivers; "independent": on m independent drivers.

        Returns:
            The function (t, y) -> (B, D, M) for "same", (B, D, m) for "independent".

        Raises:
            ValueError: the driver is unknown, or "same" without encoder noise, or sigma_bar returns
                a wrong shape, dtype or device.
        """
        check_choice("driver", driver, ("same", "independent"))
        size, own = self._sizes["z"], self.drivers["z"].stop
        if driver == "same" and own == 0:
            raise ValueError(
                "driver='same' needs encoder noise, but encoder_diffusion is None; "
                "pass driver='independent'."
            )

        def error_diffusion(t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            inputs = self._inputs(t, y)
            value = _matrix("sigma_bar(h, s)", sigma_bar(inputs["h"], inputs["s"]), size, y)
            if driver == "same":
                check_output("sigma_bar(h, s)", value, (len(y), size, own), like=y)
                value = self._on_drivers("z", value)
            rest = value.new_zeros(len(y), self.state_size - size, value.shape[2])
            return torch.cat([value, rest], dim=1)

        error_diffusion(self._probe.new_zeros(()), self._probe)
        return error_diffusion

    def _inputs(self, t: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
        """The blocks by name, the task state s and the action a."""
        inputs = {name: y[:, part] for name, part in self.blocks.items()}
        if self._exogenous is not None:
            inputs["s"] = _task_state_rows(self._exogenous(t), y)
        inputs.setdefault("s", y[:, :0])
        inputs["a"] = y[:, :0] if self._policy is None else self._policy(inputs["h"], inputs["z"])
        return inputs

    def _drift(self, name: str, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        part = self._parts[name]
        value = part.drift(*(inputs[key] for key in part.arguments))
        tau = part.relaxation_time
        return value if tau is None else (value - inputs[name]) / tau

    def _diffusion(self, name: str, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Diffusion of one block on its own drivers (B, size, m)."""
        part, like = self._parts[name], inputs["z"]
        if part.diffusion is None:
            return like.new_zeros(len(like), self._sizes[name], 0)
        value = part.diffusion(*(inputs[key] for key in part.arguments))
        return _matrix(f"{LABELS[name]}_diffusion", value, self._sizes[name], like)

    def _on_drivers(self, name: str, value: torch.Tensor) -> torch.Tensor:
        """A block's diffusion among all drivers (B, size, M)."""
        drivers = self.drivers[name]
        before = value.new_zeros(*value.shape[:2], drivers.start)
        after = value.new_zeros(*value.shape[:2], self._driver_count - drivers.stop)
        return torch.cat([before, value, after], dim=2)

    def _structure(self, diffusion: bool) -> torch.Tensor:
        table = []
        for name, part in self._parts.items():
            read = set(part.arguments)
            if "a" in read and self._policy is not None:
                read |= {"h", "z"}
            if part.relaxation_time is not None and not diffusion:
                read.add(name)
            absent = diffusion and part.diffusion is None
            table.append([other in read and not absent for other in self.blocks])
        return torch.tensor(table)

    def _checked_drivers(self) -> dict[str, int]:
        """Try every network on the probe; number of drivers per block."""
        y = self._probe
        inputs = self._inputs(y.new_zeros(()), y)
        width = (0, *getattr(inputs["a"], "shape", ()))[-1]
        check_output("policy", inputs["a"], (len(y), width), like=y)
        for name, part in self._parts.items():
            value = _function(LABELS[name], part.drift)(*(inputs[key] for key in part.arguments))
            check_output(LABELS[name], value, (len(y), self._sizes[name]), like=y)
        return {name: self._diffusion(name, inputs).shape[2] for name in self.blocks}


def _relaxation(name: str, value: float | None) -> float | None:
    if value is not None and check_finite_number(name, value) <= 0:
        raise ValueError(f"{name}={value!r}: expected a positive number or None.")
    return value


def _function(name: str, value: Network) -> Network:
    if not callable(value):
        raise ValueError(f"{name}={value!r}: expected a function.")
    return value


def _slices(sizes: dict[str, int]) -> dict[str, slice]:
    ends = itertools.accumulate(sizes.values())
    return {name: slice(end - sizes[name], end) for name, end in zip(sizes, ends, strict=True)}


def _matrix(name: str, value: torch.Tensor, size: int, like: torch.Tensor) -> torch.Tensor:
    """A diffusion (B, size, m) as given, (B, size) as diagonal (B, size, size)."""
    if isinstance(value, torch.Tensor) and value.dim() == 3:
        return check_output(name, value, (len(like), size, value.shape[2]), like=like)
    return torch.diag_embed(check_output(name, value, (len(like), size), like=like))


def _task_state_rows(value: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The exogenous task state for every path (B, S), in the dtype and on the device of y."""
    shape = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
    if not isinstance(value, torch.Tensor) or shape[:-1] not in ((), (len(y),)) or not shape:
        raise ValueError(f"task_state(t) returned {shape}; expected (S,) or ({len(y)}, S).")
    return value.to(dtype=y.dtype, device=y.device).expand(len(y), -1)
