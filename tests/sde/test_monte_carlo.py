"""Streamed Monte Carlo: the same sums however it is cut, interrupted or resumed."""

import numpy as np
import pytest
import torch

from sdewm.sde.examples import TanhWorldModel
from sdewm.sde.monte_carlo import accumulate, spread_rows
from sdewm.sde.noise import GaussianNoise
from sdewm.sde.solve import solve_path

SYSTEM = TanhWorldModel(state_size=3, width=16, drivers=2, seed=1)
NOISE = GaussianNoise(drivers=2, steps=5, t1=SYSTEM.t1, seed=1)


def losses(first, last):
    start = SYSTEM.x0.expand(last - first, -1)
    return SYSTEM.loss(solve_path(SYSTEM, start, NOISE, first=first)[:, 0])[:, None]


def run(**options):
    return run_of(losses, **options)


def run_of(evaluate, **options):
    return accumulate(evaluate, 1, 12_000, label="test", tile=1000, **options)


@pytest.mark.parametrize("chunk", [1e3, 1e4, 1e5])
def test_sums_are_identical_for_every_chunk_size(chunk):
    assert np.array_equal(run(chunk=chunk).sums, run().sums)


def test_a_different_seed_gives_different_sums():
    other = GaussianNoise(drivers=2, steps=5, t1=SYSTEM.t1, seed=2)
    start = SYSTEM.x0.expand(1000, -1)
    assert not np.array_equal(
        solve_path(SYSTEM, start, other).numpy(), solve_path(SYSTEM, start, NOISE).numpy()
    )


def test_an_interrupted_run_goes_on_where_it_stopped_with_the_same_sums(tmp_path):
    calls = []

    def stops_at(first, last):
        if first >= 5000 and not calls:
            calls.append(first)
            raise KeyboardInterrupt
        return losses(first, last)

    options = {"label": "test", "tile": 1000, "checkpoint": tmp_path, "key": "a"}
    with pytest.raises(KeyboardInterrupt, match="interrupted after 5000 of 12000 paths.*to resume"):
        accumulate(stops_at, 1, 12_000, **options)
    assert len(list(tmp_path.iterdir())) == 1
    done = []

    def counted(first, last):
        done.append(first)
        return losses(first, last)

    resumed = accumulate(counted, 1, 12_000, **options)
    assert done[0] == 5000 and np.array_equal(resumed.sums, run().sums)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_another_computation_is_not_used(tmp_path):
    def stops(first, last):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        accumulate(stops, 1, 12_000, label="t", tile=1000, checkpoint=tmp_path, key="a")
    other = accumulate(losses, 1, 12_000, label="t", tile=1000, checkpoint=tmp_path, key="b")
    assert np.array_equal(other.sums, run().sums)
    assert len(list(tmp_path.iterdir())) == 1  # that of "a" is still there


@pytest.mark.parametrize("keep", [0, 100, -40])
def test_a_damaged_checkpoint_is_named_and_set_aside(keep, tmp_path, capsys):
    def stops(first, last):
        if first >= 5000:
            raise KeyboardInterrupt
        return losses(first, last)

    with pytest.raises(KeyboardInterrupt):
        run_of(stops, checkpoint=tmp_path)
    (store,) = tmp_path.iterdir()
    store.write_bytes(store.read_bytes()[:keep])
    assert np.array_equal(run(checkpoint=tmp_path).sums, run().sums)
    assert f"{store} is damaged" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [store.name + ".damaged"]


def test_without_a_checkpoint_an_interruption_passes_through():
    def stops(first, last):
        raise KeyboardInterrupt("as it was")

    with pytest.raises(KeyboardInterrupt, match="as it was"):
        accumulate(stops, 1, 10, label="t", tile=10)


def test_memory_does_not_grow_with_steps():
    """The noise holds about a megabyte ahead, not the whole path."""
    noise = GaussianNoise(drivers=2, steps=100_000, t1=1.0)
    stream = noise.stream(0, 1024)
    sizes = {next(stream).untyped_storage().nbytes() for _ in range(50)}
    assert max(sizes) <= 2 << 20
    assert torch.equal(next(noise.stream(0, 1024)), next(noise.stream(0, 1024)))


@pytest.mark.parametrize(("count", "few"), [(1, 1), (7, 7), (7, 9), (100, 8), (3000, 256)])
def test_spread_rows_leave_no_part_out_and_have_no_period(count, few):
    rows = spread_rows(count, few)
    assert rows[0] == 0 and len(rows.unique()) == len(rows) == min(count, few)
    assert (rows.diff() > 0).all() and rows[-1] < count
    share = len(rows) / count
    for part in range(2, 8):
        if len(rows) > 8 * part:
            middle = ((rows >= count // part) & (rows < 2 * (count // part))).sum() / (
                count // part
            )
            assert middle == pytest.approx(share, rel=0.15)
            assert (rows % part == 1).sum() * part / count == pytest.approx(share, rel=0.15)
