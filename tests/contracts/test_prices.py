"""Contract: whatever an op declares as element-wise work has a price on every profile."""

from __future__ import annotations

from dataclasses import MISSING, fields
from itertools import product

import pytest

from bitfront.evaluators.cost.prices import WORK_FUNCTIONS, work_band
from bitfront.evaluators.hardware.profile import load_profile, profile_names
from bitfront.spaces import InvalidValue
from bitfront.spaces.graph import Domain, TensorType
from bitfront.spaces.ops import ops
from bitfront.spaces.quantizers import IDENTITY, SIGN, MagnitudeSign

FLOAT = TensorType(shape=(4, 8, 8))
BIPOLAR = TensorType(shape=(4, 8, 8), domain=Domain.BIPOLAR, stored_bits=1)
INPUTS = [
    (),
    *[(x,) * n for x in (FLOAT, BIPOLAR) for n in (1, 2, 3)],
    (TensorType(shape=(64,)),),
    (TensorType(shape=(2, 8, 8), domain=Domain.BIPOLAR, slices=2, stored_bits=1),),
    (FLOAT, TensorType(shape=(4, 1, 1))),
]
SAMPLES = {
    "int": (1, 2, 4),
    "float": (0.5,),
    "bool": (False,),
    "tuple": ((4, 8, 8),),
    "Quantizer": (SIGN, IDENTITY),
    "Scaled": (MagnitudeSign(),),
}


def applications(op):
    """Facts of some instances of an op, on inputs that suit them."""
    required = [f for f in fields(op) if f.default is MISSING and f.init]
    choices = [SAMPLES[str(f.type).partition("[")[0]] for f in required]
    for values in product(*choices):
        named = dict(zip((f.name for f in required), values, strict=True))
        for inputs in INPUTS:
            try:
                yield op(**named).infer(*inputs)
            except (InvalidValue, ValueError, IndexError, TypeError, ZeroDivisionError):
                # the sample does not suit this op; that one does is asserted
                continue


@pytest.mark.parametrize("kind", sorted(ops))
def test_the_work_of_every_op_has_a_price(kind):
    found = list(applications(ops[kind]))
    assert found, f"no sample suits {kind}: add one to SAMPLES or INPUTS"
    functions = {work.function for facts in found for work in facts.work}
    assert functions <= WORK_FUNCTIONS
    for name in profile_names():
        for function in functions:
            assert work_band(load_profile(name), function, 32).high > 0


def test_work_without_a_price_is_refused():
    with pytest.raises(InvalidValue, match="'cube_root'"):
        work_band(load_profile("boolnet65"), "cube_root", 32)
