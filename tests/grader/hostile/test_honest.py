"""An honest class: right, partly right, wrong in known ways, and noisy. Its marks are known exactly."""

from __future__ import annotations

import pytest

from classroom import EXERCISES, FUNCTIONS, HONEST, ISOLATION, SEED, cells, marked, needs_isolation, running
from grader.outside.mark import finish, mark, seed_of
from grader.outside.submission import Submission

pytestmark = needs_isolation
STUB = 'raise NotImplementedError("your turn")'
ALL_RIGHT = dict.fromkeys(EXERCISES, 1.0)

TILT = "import torch\ndef best_policy(reference, R, beta):\n    {}"
DPO = "import torch\ndef dpo_coefficient(logprobs, response_mask, reference, beta):\n    {}"
IPO = "import torch\ndef ipo_coefficient(logprobs, reference, beta):\n    {}"
POINT = "import torch\ndef reference_point(ratio):\n    {}"

LOOPS = '''
def dpo_coefficient(logprobs, response_mask, reference, beta):
    B = len(logprobs) // 2
    F = torch.zeros(2 * B)
    for b in range(B):
        h = 0.0
        for row, sign in ((b, 1), (b + B, -1)):
            for t in range(logprobs.shape[1]):
                if response_mask[row, t]:
                    h += sign * float(logprobs[row, t])
            h -= sign * float(reference[row])
        F[b] = float(beta) / (1 + float(torch.tensor(float(beta) * h).double().exp()))
        F[b + B] = -F[b]
    return F
'''

NOISY = '''
import warnings, sys, logging
warnings.warn("this is deprecated"); logging.error("look out")
print("hello " * 1000); print("oh no", file=sys.stderr)
def best_policy(reference, R, beta):
    warnings.warn("again"); print("called with", R.shape)
    return (reference.log() + R / beta).softmax(-1)
'''

FINDS_SOME = '''
def is_right(coefficient):
    table, other = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(3))
    batch = batch_pairs([([2, 1], [1, 2, 0]), ([3], [2, 3, 0]), ([2, 1], [3, 1, 0]), ([3], [1, 1, 0])])
    def logp(model):
        logits = model[batch.tokens].log_softmax(-1)[:, :-1].gather(-1, batch.tokens[:, 1:, None])[..., 0]
        return logits.where(batch.response_mask[:, 1:], torch.zeros(())).sum(1)
    chosen, rejected = (logp(table) - logp(other)).chunk(2)
    push = torch.sigmoid(rejected - chosen)
    got = coefficient(lambda t: table[t], lambda t: other[t], batch.tokens, batch.response_mask, 1.0)
    return torch.allclose(got, torch.cat([push, -push]), atol=1e-4)
'''

# who -> (cells, the marks that differ from all right, the reasons that are wanted)
CLASS = {
    "ada, all right": ({}, {}, {}),
    "ben, nothing written": ({name: f"def {FUNCTIONS[name]}(*given):\n    {STUB}" for name in EXERCISES},
                             dict.fromkeys(EXERCISES, 0.0), dict.fromkeys(EXERCISES, "stub")),
    "cai, an empty cell": ({"tilt": "# exercise: tilt\n"}, {"tilt": 0.0}, {"tilt": "not defined"}),
    "dee, loops in Python": ({"dpo-coefficient": LOOPS}, {}, {}),
    "eva, noisy": ({"tilt": NOISY}, {}, {}),
    "fay, magics": ({"tilt": "%matplotlib inline\n%time\n" + HONEST["tilt"],
                     "ipo-coefficient": "%%time\n" + HONEST["ipo-coefficient"]}, {}, {}),
    "gil, float64": ({"tilt": TILT.format("return (reference.double().log() + R.double() / beta)"
                                          ".softmax(-1)")}, {}, {}),
    "hal, numpy": ({"reference-point": "import numpy as np\ndef reference_point(ratio):\n"
                    "    r = ratio.numpy(); n = len(r)\n"
                    "    z = float(np.mean([r[i, (i + 1) % n] for i in range(n)]))\n"
                    "    return torch.tensor(max(0.0, z))"},
                   {}, {}),
    "ida, a wrong sign": ({"ipo-coefficient": IPO.format(
        "c, r = (logprobs - reference).chunk(2); p = 2 * (1 / (2 * beta) - (c - r)); "
        "return torch.cat([-p, p])")},
        {"ipo-coefficient": 0.0}, {"ipo-coefficient": "sign turned"}),
    "jan, overflows": ({"tilt": TILT.format("p = reference * (R / beta).exp(); "
                                            "return p / p.sum(-1, keepdim=True)")},
                       {"tilt": 4 / 7}, {"tilt": "not finite"}),
    "kim, forgets the floor": ({"reference-point": POINT.format(
        "return ratio.roll(-1, 1).diagonal().mean()")}, {"reference-point": 0.75}, {}),
    "lee, in place": ({"ipo-coefficient": IPO.format(
        "logprobs -= reference; c, r = logprobs.chunk(2); p = 2 * (1 / (2 * beta) - (c - r)); "
        "return torch.cat([p, -p])")}, {"ipo-coefficient": 0.0}, {"ipo-coefficient": "input changed"}),
    "mia, a typing error": ({"tilt": "def best_policy(reference, R, beta:\n    return 1"},
                            {"tilt": 0.0}, {"tilt": "not defined"}),
    "ned, a wrong shape": ({"dpo-coefficient": DPO.format("return torch.zeros(())")},
                           {"dpo-coefficient": 0.0}, {"dpo-coefficient": "shape"}),
    "oda, prints for None": ({"tilt": TILT.format("print((reference.log() + R / beta).softmax(-1))")},
                             {"tilt": 0.0}, {"tilt": "None"}),
    "pip, a test that finds some": ({"find-the-wrong-push": FINDS_SOME},
                                    {"find-the-wrong-push": 10 / 14}, {}),
    "quy, a test that says True": ({"find-the-wrong-push": "def is_right(coefficient): return True"},
                                   {"find-the-wrong-push": 0.0},
                                   {"find-the-wrong-push": "it lets everything through"}),
    "ray, a helper of another cell": ({
        "tilt": "def tilted(q, R, beta): return (q.log() + R / beta).softmax(-1)\n"
                "def best_policy(reference, R, beta): return tilted(reference, R, beta)",
        "ipo-coefficient": "def both(p): return torch.cat([p, -p])\n" + IPO.format(
            "c, r = (logprobs - reference).chunk(2); return both(2 * (1 / (2 * beta) - (c - r)))"),
        "dpo-coefficient": "def both(p): return torch.cat([p, -p])\n" + HONEST["dpo-coefficient"],
        "reference-point": "def best(r): return tilted(torch.ones(1, 1), r, 1)\n" + HONEST["reference-point"]
                           + "    best(ratio[:1, :1])\n"}, {}, {}),
    "sam, the package's own": ({"dpo-coefficient": "from minillm.methods import dpo\n" + DPO.format(
        "c, r = (logprobs.where(response_mask, 0.0).sum(1) - reference).chunk(2); "
        "p = dpo.F(c - r, beta); return torch.cat([p, -p])")}, {}, {}),
    "tom, a cell that fails at its end": ({"tilt": HONEST["tilt"] + "\n1 / 0\n"}, {}, {}),
}


def of(who):
    """The marks of one of the class."""
    changed, _, _ = CLASS[who]
    return marked(HONEST | changed, who)


@pytest.fixture(scope="module", autouse=True)
def tidy():
    yield
    finish()
    assert running() == []


def test_there_are_twenty():
    assert len(CLASS) == 20


@pytest.mark.parametrize("who", CLASS)
def test_a_mark_is_the_known_one(who):
    _, differ, reasons = CLASS[who]
    found = of(who)
    points = {name: round(m.points, 3) for name, m in found.items()}
    assert points == {name: round(p, 3) for name, p in (ALL_RIGHT | differ).items()}, found
    assert {name: found[name].reason for name in reasons} == reasons
    assert all(m.reason == "right" for m in found.values() if m.points == 1)
    flagged = [name for name, m in found.items() if m.flags]
    assert flagged == (["dpo-coefficient"] if who.startswith("sam") else []), found


def test_a_mark_is_the_same_again_and_with_other_company():
    """A seed gives the same mark; what others hand in changes nothing of it."""
    who = "jan, overflows"
    alone = of(who)
    assert of("ben, nothing written") and of(who) == alone
    some = mark(Submission("x", HONEST | CLASS[who][0]), 13, seed_of(SEED, who), ISOLATION,
                only=["tilt", "reference-point"])
    assert {m.exercise: m for m in some} == {name: alone[name] for name in ("tilt", "reference-point")}


def test_a_missing_cell_is_not_there():
    found = marked({name: source for name, source in cells().items() if name != "tilt"})
    assert found["tilt"].reason == "not there" and sum(m.points for m in found.values()) == 4


def test_a_seed_is_the_same_everywhere_and_each_has_its_own():
    assert seed_of(1, "ada") == 1789227054983352528
    assert len({seed_of(m, who) for m in range(10) for who in CLASS}) == 200
    assert all(0 <= seed_of(m, "\ud800") < 2 ** 63 for m in range(10))
