"""Configurations are checked against the types of their fields."""

import json
import sys
from dataclasses import asdict, dataclass, field
from typing import Annotated, Literal

import pytest
from annotated_types import Gt, Lt

from sdewm.base.fields import NonNegativeInt, PositiveInt, check_fields, read_fields
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
