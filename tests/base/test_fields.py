"""Configurations are checked against the types of their fields."""

import json
import sys
from dataclasses import asdict, dataclass, field
from typing import Annotated, Literal

import pytest
from annotated_types import Gt, Lt

from sdewm.base.fields import (
    LATER,
    Arguments,
    NonNegativeInt,
    PositiveInt,
    check_fields,
    later_defaults,
    read_fields,
)
from tests.child_process import run


@dataclass(frozen=True)
class Part:
    size: PositiveInt = 3
    layers: NonNegativeInt | None = None
    share: Annotated[float, Gt(0), Lt(1)] = 0.5
    kind: Literal["one", "two"] = "one"
    on: bool = True


@dataclass(frozen=True)
class Whole:
    part: Part = field(default_factory=Part)
    name: str = "x"


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"size": 0}, "a.part.size=0: expected a whole number of at least 1."),
        ({"size": "3"}, "a.part.size='3': expected a whole number of at least 1."),
        ({"layers": -1}, "a.part.layers=-1: expected a whole number of at least 0, or None."),
        ({"share": 1}, "a.part.share=1: expected a finite number above 0 and below 1."),
        ({"share": 1e400}, "a.part.share=inf: expected a finite number above 0 and below 1."),
        ({"kind": "on"}, "a.part.kind='on' is not allowed; did you mean 'one'? Allowed: 'one', "),
        ({"kind": {"one"}}, "a.part.kind={'one'}: expected one of 'one', 'two'."),
        ({"on": None}, "a.part.on=None: expected True or False."),
    ],
)
def test_a_wrong_value_is_refused_by_its_full_name(wrong, sentence):
    with pytest.raises(ValueError) as refused:
        check_fields(Whole(Part(**wrong)), "a")
    assert str(refused.value).startswith(sentence)


def test_what_is_allowed_is_read_back_as_it_was():
    for part in (Part(), Part(size=10**20, layers=0, share=0.1, kind="two", on=False)):
        whole = Whole(part, name="é")
        check_fields(whole)
        assert read_fields(Whole, json.dumps(asdict(whole))) == whole


@pytest.mark.parametrize(
    ("plain", "sentence"),
    [
        ("{", "the configuration is not JSON: "),
        ("[]", "the configuration=[]: expected the fields of Whole."),
        ('{"part": 3, "name": "x"}', "part=3: expected the fields of Part."),
        ('{"part": {"size": 1}, "name": "x"}', "part.layers is missing"),
        ('{"name": "x"}', "part.size is missing"),
        ('{"nam": 3}', "field='nam' is not allowed; did you mean 'name'? Allowed: 'part', 'name'."),
        ('{"name": 3, "part": {"sise": 0}}', "field of part='sise' is not allowed; did you mean '"),
    ],
)
def test_text_that_is_no_configuration_is_refused(plain, sentence):
    with pytest.raises(ValueError) as refused:
        read_fields(Whole, plain)
    assert str(refused.value).startswith(sentence)


def test_dataclasses_with_checked_fields_are_imported_without_pydantic():
    code = "import sys, sdewm.train.presets; print('pydantic' in sys.modules)"
    found = run(sys.executable, "-c", code)
    assert found.returncode == 0, found.stderr
    assert found.stdout == "False\n"


@dataclass(frozen=True)
class Grown:
    """`Whole` in a later version, with a new field here and one in a new part."""

    part: Part = field(default_factory=Part)
    name: str = "x"
    limit: PositiveInt | None = field(default=None, metadata=LATER)
    arguments: Arguments = field(default_factory=dict, metadata=LATER)


def test_a_later_field_has_its_default_where_a_file_lacks_it_and_no_other_has():
    old = json.dumps(asdict(Whole(name="y")))
    assert read_fields(Grown, old) == Grown(name="y")
    assert later_defaults(Grown) == {"limit": None, "arguments": {}}
    assert later_defaults(Grown)["arguments"] is not later_defaults(Grown)["arguments"]
    with pytest.raises(ValueError, match="name is missing: expected every field"):
        read_fields(Grown, json.dumps({"part": asdict(Part()), "limit": 3}))
    with pytest.raises(ValueError, match="limit=0: expected a whole number of at least 1, or None"):
        read_fields(Grown, json.dumps({**json.loads(old), "limit": 0}))


def test_arguments_of_others_are_plain_values_or_lists_of_them():
    given = {"a": 1, "b": 0.5, "c": "8x8", "d": True, "e": None, "f": [1, 2.5]}
    grown = Grown(arguments=given)
    check_fields(grown)
    assert read_fields(Grown, json.dumps(asdict(grown))).arguments == given
    for wrong in ({"b": 1}, [[1]], float("inf")):
        with pytest.raises(
            ValueError, match=r"^a\.arguments\.x=.*: expected numbers, texts, truth"
        ):
            check_fields(Grown(arguments={"ok": 1, "x": wrong}), "a")
