import copy
import json
import math
import pickle
from dataclasses import FrozenInstanceError, dataclass
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitfront.spaces import InfeasibleArchitecture, InvalidValue, Recipe
from bitfront.spaces.value import Value, canonical, decode, digest_of, encode


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Point(Value):
    kind: ClassVar[str] = "point"
    x: int
    y: float = 0.0

    def check(self) -> None:
        if self.x < 0:
            raise InfeasibleArchitecture(f"x must be at least 0, but is {self.x}.")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shape(Value):
    points: tuple[Point, ...]
    size: tuple[int, float] = (1, 2.0)
    centre: Point | None = None
    name: str = "shape"
    closed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OtherPoint(Value):
    x: int
    y: float = 0.0


finite = st.floats(allow_nan=False, allow_infinity=False)
points = st.builds(Point, x=st.integers(0, 10**9), y=finite)
shapes = st.builds(
    Shape,
    points=st.lists(points, max_size=4).map(tuple),
    size=st.tuples(st.integers(), finite),
    centre=st.none() | points,
    name=st.text(max_size=5),
    closed=st.booleans(),
)


@given(shapes)
def test_round_trip_through_json_text(shape):
    text = canonical(encode(shape))
    again = decode(Shape, json.loads(text), "shape")
    assert again == shape
    assert hash(again) == hash(shape)
    assert canonical(encode(again)) == text


@given(shapes, shapes)
def test_equal_values_have_one_text_and_others_have_not(a, b):
    assert (a == b) == (canonical(encode(a)) == canonical(encode(b)))


@given(shapes)
def test_copies_and_pickles_are_equal(shape):
    assert copy.deepcopy(shape) == shape
    assert pickle.loads(pickle.dumps(shape)) == shape


@pytest.mark.parametrize(("given_", "kept"), [(1, 1.0), (-0.0, 0.0), (2.5, 2.5)])
def test_a_float_has_one_form(given_, kept):
    y = Point(x=1, y=given_).y
    assert type(y) is float
    assert repr(y) == repr(kept)


def test_an_integer_and_its_float_give_one_digest():
    assert Recipe(learning_rate=1).digest == Recipe(learning_rate=1.0).digest


def test_values_of_other_types_are_not_equal():
    assert Point(x=1) != OtherPoint(x=1)
    assert Point(x=1) != (1, 0.0)


def test_a_value_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        Point(x=1).x = 2


def test_canonical_text_is_sorted_and_dense():
    assert canonical(encode(Point(x=1, y=0.1))) == '{"kind":"point","x":1,"y":0.1}'
    assert digest_of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_refused(number):
    with pytest.raises(InvalidValue):
        encode(Point(x=1, y=number))
    with pytest.raises(InvalidValue):
        decode(Point, {"x": 1, "y": number}, "p")


def test_what_has_no_json_form_is_refused():
    with pytest.raises(InvalidValue, match="object has no JSON form"):
        encode(object())


WRONG: list[tuple[Any, str]] = [
    ([], "s must be an object, but is []"),
    ({}, "s lacks the field 'points'"),
    ({"points": [], "colour": 1}, "s has no field 'colour'; its fields are centre, closed, name"),
    ({"points": {}}, "s.points must be a list, but is {}"),
    ({"points": [1]}, r"s.points[0] must be an object, but is 1"),
    ({"points": [{"x": 1.5}]}, "s.points[0].x must be a whole number, but is 1.5"),
    ({"points": [{"x": True}]}, "s.points[0].x must be a whole number, but is true"),
    ({"points": [{"x": 1, "y": "1"}]}, 's.points[0].y must be a number, but is "1"'),
    ({"points": [{"x": 1, "y": True}]}, "s.points[0].y must be a number, but is true"),
    ({"points": [{"x": 1, "y": 10**400}]}, "s.points[0].y must be finite, but is 1000"),
    ({"points": [], "size": [1]}, "s.size must hold 2 values, but holds 1"),
    ({"points": [], "name": None}, "s.name must be a text, but is null"),
    ({"points": [], "closed": 1}, "s.closed must be true or false, but is 1"),
]


@pytest.mark.parametrize(("data", "text"), WRONG, ids=[text for _, text in WRONG])
def test_errors_name_the_place_and_the_value(data, text):
    with pytest.raises(InvalidValue) as caught:
        decode(Shape, data, "s")
    assert text in str(caught.value)


def test_a_broken_rule_keeps_its_error_type():
    with pytest.raises(InfeasibleArchitecture, match=r"s\.centre: x must be at least 0"):
        decode(Shape, {"points": [], "centre": {"x": -1}}, "s")


def test_long_values_are_shortened_in_errors():
    with pytest.raises(InvalidValue) as caught:
        decode(Shape, "x" * 10_000, "s")
    assert len(str(caught.value)) < 120
