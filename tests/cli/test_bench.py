"""``bitfront bench``: wrong use is one sentence, and a missing device is no traceback."""

from __future__ import annotations

import pytest
import torch


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("--device", "tpu"), "device must be one of cpu, cuda, but is 'tpu'"),
        (("--device", "cuda", "--threads", "2"), "are for the CPU"),
        (("--tune", "a.json"), "--tune is for --device cuda"),
        (("--device", "cuda", "--tune", "a.json", "--plot", "a.svg"), "--tune compares nothing"),
        (("--device", "cuda", "--tune", "nowhere/a.json"), "The folder of nowhere/a.json must"),
        (("--variant", "sse9"), "variant must be one of"),
        (("--to", "nowhere/a.json"), "The folder of nowhere/a.json must exist"),
    ],
)
def test_wrong_use_is_one_sentence(bitfront, arguments, match):
    ran = bitfront("bench", "kernels", *arguments)
    assert ran.status == 2
    assert match in " ".join(ran.err.split())
    assert "Traceback" not in ran.err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("option", ["--json", "--tune=tuning.json"])
def test_a_gpu_that_is_not_there(bitfront, option):
    ran = bitfront("bench", "kernels", "--device", "cuda", option)
    assert (ran.status, ran.out) == (1, "")
    assert "needs a CUDA device of capability 8.0 or higher" in " ".join(ran.err.split())
