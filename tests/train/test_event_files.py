"""What TensorBoard itself reads of a run: its name, configuration and table of hyper-parameters."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from tensorboard import context
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

from sdewm.train.config import Config
from sdewm.train.event_files import EventFiles, event_folder
from sdewm.train.run_directory import flat_config

SETTINGS = {"env": "dmc:walker_walk", "jacobian.weight": 0.01, "seed": 3, "workers": True}
SETTINGS |= {"none": None}


def written(run, returns=(1.0, 5.0, 4.0), first=0, settings=SETTINGS):
    step = first + 1 if first else 0
    events = EventFiles(run, settings, result="evaluation/mean_return", step=step)
    for step, value in enumerate(returns, start=first + 1):
        events.add_scalars({"evaluation/mean_return": value, "loss/total": -value}, step)
    events.close()


def read(folder):
    found = EventMultiplexer()
    found.AddRunsFromDirectory(str(folder))
    found.Reload()
    return found


def table(folder):
    """TensorBoard's table of runs: hyper-parameters, value of the result and status by name."""
    provider = MultiplexerDataProvider(read(folder), str(folder))
    handler = list_session_groups.Handler(
        context.RequestContext(),
        backend_context.Context(SimpleNamespace(data_provider=provider)),
        "experiment",
        api_pb2.ListSessionGroupsRequest(
            start_index=0, slice_size=10, allowed_statuses=list(api_pb2.Status.values())
        ),
    )
    found = {}
    for group in handler.run().session_groups:
        (session,) = group.sessions
        values = {
            name: getattr(value, value.WhichOneof("kind")) for name, value in group.hparams.items()
        }
        found[session.name] = values, [one.value for one in session.metric_values], session.status
    return found


def test_the_table_of_runs_shows_settings_beside_the_last_return(tmp_path):
    written(tmp_path / "first")
    written(tmp_path / "second", returns=(7.0,), settings=SETTINGS | {"seed": 4})
    found = table(tmp_path)
    assert [*found] == ["first/tensorboard/first", "second/tensorboard/second"]
    settings, result, status = found["first/tensorboard/first"]
    expected = SETTINGS | {"none": "none", "seed": 3.0}
    assert settings == expected and result == [4.0]
    assert status == api_pb2.Status.Value("STATUS_SUCCESS")
    assert found["second/tensorboard/second"][1] == [7.0]


def test_the_configuration_is_text_that_can_be_read_again(tmp_path):
    settings = flat_config(Config())
    written(tmp_path / "walker", settings=settings)
    events = read(tmp_path / "walker" / "tensorboard")
    assert [*events.Runs()] == ["walker"]
    (text,) = events.Tensors("walker", "config/text_summary")
    (said,) = text.tensor_proto.string_val
    assert all(line.startswith(b"    ") for line in said.splitlines())  # shown as it stands
    assert json.loads(said) == json.loads(json.dumps(settings))


def test_a_resumed_run_goes_on_in_its_folder(tmp_path):
    run = tmp_path / "walker"
    written(run)
    moved = run.rename(tmp_path / "renamed")
    written(moved, returns=(9.0,), first=2)
    assert event_folder(moved) == moved / "tensorboard" / "walker"
    scalars = EventAccumulator(str(event_folder(moved))).Reload().Scalars("evaluation/mean_return")
    assert [(one.step, one.value) for one in scalars] == [(1, 1.0), (2, 5.0), (3, 9.0)]
    assert table(tmp_path)["renamed/tensorboard/walker"][1] == [9.0]


def test_pictures_are_kept_and_a_run_without_settings_has_no_text(tmp_path):
    events = EventFiles(tmp_path, {}, result="loss/total", step=0)
    events.add_picture("strip", np.full((4, 6, 3), 7, np.uint8), 2)
    events.close()
    found = read(tmp_path / "tensorboard")
    (picture,) = found.Tensors(tmp_path.name, "strip")
    assert picture.step == 2 and picture.tensor_proto.string_val[0] == b"6"
    with pytest.raises(KeyError):
        found.Tensors(tmp_path.name, "config/text_summary")
