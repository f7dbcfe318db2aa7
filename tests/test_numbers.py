"""No option, parameter or setting takes a number that is not finite."""

import argparse
import math

import click
import pytest
from pydantic import TypeAdapter, ValidationError

from app.schemas import InferRequest
from app.settings import Settings
from benchmarks.reporting import make_parser, positive_number
from koner.cli.arguments import FiniteRange
from koner.cli.main import main
from koner.params import Params
from koner.pretraining.params import PretrainParams

NOT_FINITE = [math.nan, math.inf, -math.inf]
FIELDS = [
    pytest.param(field, id=f"{model.__name__}.{name}")
    for model in (Params, PretrainParams, Settings, InferRequest)
    for name, field in model.model_fields.items()
    if float in {field.annotation, *getattr(field.annotation, "__args__", ())}
]


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("number", NOT_FINITE)
def test_a_field_is_a_finite_number(field, number):
    type_ = TypeAdapter(field.rebuild_annotation())
    for value in (number, str(number)):
        with pytest.raises(ValidationError):
            type_.validate_python(value)


@pytest.mark.parametrize("number", NOT_FINITE)
def test_an_option_is_a_finite_number(number):
    options = [option for command in main.commands.values() for option in command.params]
    floats = [option.type for option in options if isinstance(option.type, click.types.FloatParamType)]
    assert floats
    for type_ in floats:
        assert isinstance(type_, FiniteRange)
        with pytest.raises(click.BadParameter):
            type_.convert(str(number), None, None)


@pytest.mark.parametrize("text", ["nan", "inf", "0", "-1", "x"])
def test_an_option_of_a_benchmark_is_a_positive_number(text, capsys):
    parser = make_parser(None)
    parser.add_argument("--seconds", type=positive_number)
    with pytest.raises(SystemExit):
        parser.parse_args(["--seconds", text])
    assert "invalid positive_number value" in capsys.readouterr().err
    assert parser.parse_args(["--seconds", "0.5"]) == argparse.Namespace(seconds=0.5)
