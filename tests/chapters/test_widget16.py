"""Chapter 16's widget: the reader's tree, the model's beside it, their counts, and the words for both.

No browser: `Search` is what the widget does and says, and its buttons are pressed from here.
"""

from __future__ import annotations

from functools import cache

import pytest
import torch

from conftest import liven
from minillm.show import search as shown
from minillm.show.search import Search, SearchWidget
from minillm.show.trees import addresses, outline
from minillm.thinking.tree import Child, Node, Tree
from minillm.tokenizer import Tokenizer
from minillm.transformer import Config, Transformer
from minillm.worlds import countdown
from minillm.worlds.countdown import Puzzle

PUZZLE = Puzzle((4, 6, 8, 2))       # after 6-2 it can be solved, after 8-2 no more
TO_24 = ["6-2=4 [4 4 8]", "4*4=16 [8 16]", "16+8=24 [24]"]


@cache
def writer(context=128):
    """(model, tokenizer): weights at random, a token a letter."""
    shape = {"d_model": 16, "n_layers": 1, "n_heads": 2, "n_kv_heads": 1, "d_ff": 24, "context": context}
    model = liven(Transformer(Config(vocab_size=265, **shape), 0), 3)
    return model, Tokenizer.train("no merges", 265)


@pytest.fixture
def game():
    return Search(*writer(), PUZZLE)


def writes(monkeypatch, steps):
    """Let the model propose what steps(left) lists as (text, count); each costs ten tokens. None: no step."""
    def proposer(model, tokenizer, *, n, **_):
        def propose(states):
            made = []
            for x, z in states:
                left = countdown.check(countdown.read_prompt(x), z).left
                made.append([Child(text and (x, f"{z} {text}".strip()), text or "", count, 10 * count)
                             for text, count in steps(left)])
            return made
        return propose

    monkeypatch.setattr(shown, "proposer", proposer)


def every(left):
    """All legal steps, once each."""
    return [(countdown.step_text(s, countdown.after(left, s)), 1) for s in countdown.steps(left)]


# by hand


def test_a_tree_opened_by_hand(game):
    """Two steps that lead nowhere, back to the start, then the way to 24.

    Opened are the start, 8-2, 6-2, 4*4 and the solution; 6+6 was only looked at.
    """
    game.take("8-2=6 [4 6 6]")
    game.take("6+6=12 [4 12]")
    assert game.now() == "4 6 8 2: 24. Left: 4 12."
    game.back(0)
    for text in TO_24:
        game.take(text)
    assert game.now() == "4 6 8 2: 24. Left: 24. Solved: (6-2)*4+8 = 24." and game.options() == []
    assert game.counts() == "You: solved, 5 nodes opened, 5 steps tried."
    assert outline(game.hand, game.dead, here=game.here).split("\n") == [
        "start",
        "    1 8-2=6 [4 6 6], dead",
        "        1.1 6+6=12 [4 12], dead",
        "    2 6-2=4 [4 4 8]",
        "        2.1 4*4=16 [8 16]",
        "            2.1.1 16+8=24 [24], solved ← you are here"]


def test_what_is_opened_and_what_is_tried(game):
    """Going on from a node opens it; a look at one does not, nor does the same step again."""
    counts = []
    for text in ("8-2=6 [4 6 6]", "6-2=4 [4 4 8]", "8-2=6 [4 6 6]"):
        game.back(0)
        game.take(text)
        counts.append((game.hand.visits, len(game.hand.nodes) - 1, game.here))
    assert counts == [(1, 1, 1), (1, 2, 2), (1, 2, 1)]
    game.take("6*4=24 [6 24]")
    assert game.counts() == "You: no solution yet, 2 nodes opened, 3 steps tried."


def test_an_end_that_is_none(game):
    for text in ("8+6=14 [2 4 14]", "14+4=18 [2 18]", "18+2=20 [20]"):
        assert text in game.options()
        game.take(text)
    assert game.now().endswith("Left: 20. That is not 24: go back.") and game.options() == []


def test_the_options_are_all_legal_steps(game):
    """Six pairs of different numbers, five signs each; fractions stay exact."""
    assert len(game.options()) == len(set(game.options())) == 30
    fractions = Search(*writer(), Puzzle((3, 3, 8, 8)))
    for text in ("8/3=8/3 [8/3 3 8]", "3-(8/3)=1/3 [1/3 8]", "8/(1/3)=24 [24]"):
        fractions.take(text)
    assert fractions.now().endswith("Solved: 8/(3-8/3) = 24.")


def test_in_countdown_numbers_may_stay_unused():
    game = Search(*writer(), Puzzle((4, 6, 5), 24, "countdown"))
    assert not [text for text in game.options() if "=2/3" in text]
    game.take("6*4=24 [5 24]")
    assert game.now().endswith("Solved: 6*4 = 24.") and game.options() == []


@pytest.mark.parametrize("puzzle, message", [
    (Puzzle((1, 1, 1, 1)), r"puzzle is '1 1 1 1: 24': give one that has a solution"),
    (Puzzle((24, 5), 24, "countdown"), "puzzle is '24 5: 24': give a target that is not among the numbers"),
    ("4 6 8 2: 24", "puzzle is '4 6 8 2: 24': give a countdown.Puzzle")])
def test_a_puzzle_that_cannot_be_shown(puzzle, message):
    with pytest.raises(ValueError, match=message):
        SearchWidget(*writer(), puzzle)


def test_other_bad_input(game):
    for act, message in ((lambda: game.take("8-2=7 [4 6 7]"), r"text is '8-2=7 .*: give one of options"),
                         (lambda: game.back(1), "number is 1: give a whole number from 0 to 0"),
                         (lambda: Search(*writer(), PUZZLE, n=0), "n is 0"),
                         (lambda: Search(*writer(), PUZZLE, beam=0), "beam is 0"),
                         (lambda: Search(*writer(), PUZZLE, room=0), "room is 0")):
        with pytest.raises(ValueError, match=message):
            act()
    bare = Tokenizer.train("no merges", 265)
    bare.user = None
    with pytest.raises(ValueError, match="tokenizer is without the marks"):
        Search(writer()[0], bare, PUZZLE)


# the model


def yes(question):
    """p(yes) of yes and no, each with its end, a letter at a time from the model's own logits."""
    model, tokenizer = writer()
    scores = []
    for answer in ("yes", "no"):
        ids = tokenizer.prompt(question)
        score = 0.0
        for token in tokenizer.response(answer):
            with torch.no_grad():
                score += float(model(torch.tensor([ids]))[0, -1].double().log_softmax(-1)[token])
            ids = [*ids, token]
        scores.append(score)
    return float(torch.tensor(scores, dtype=torch.float64).softmax(0)[0])


def test_what_the_model_would_do(monkeypatch):
    """Its steps with counts and with p(yes) of its own logits; what is dead only where that is asked for."""
    steps = [("8-2=6 [4 6 6]", 4), (None, 2), ("6-2=4 [4 4 8]", 1), ("8-2=5 [4 5 6]", 1)]
    writes(monkeypatch, lambda left: steps)
    game = Search(*writer(), PUZZLE)
    p = [yes("4 6 6: 24?"), yes("4 4 8: 24?")]
    made = game.proposals()
    assert [value for _, value in made][1::2] == [None, None]
    assert [value for _, value in made][::2] == pytest.approx(p, abs=1e-5)
    lines = ["Left: 2 4 6 8. In 8 draws it goes on with:",
             f"4 × 8-2=6 [4 6 6], yes {p[0]:.2f}",
             "2 × …, no step: it does not end as a step does",
             f"1 × 6-2=4 [4 4 8], yes {p[1]:.2f}",
             "1 × 8-2=5 [4 5 6], no step: 8-2 is 6, not 5"]
    assert game.proposals_text(made).split("\n") == lines
    lines[1] += ", dead"
    assert game.proposals_text(made, dead=True).split("\n") == lines


def test_it_goes_on_from_where_the_reader_is(game, monkeypatch):
    """The scratchpad holds the reader's steps, and the same node gives the same draws."""
    game.take("8-2=6 [4 6 6]")
    asked = []
    monkeypatch.setattr(game, "write", lambda states, write=game.write: asked.append(states) or write(states))
    assert game.proposals() == game.proposals()
    assert asked == [[("4 6 8 2: 24", "8-2=6 [4 6 6]")]] * 2


def test_a_model_that_cannot_play(game):
    """Random weights write no step: nothing is found, and every token is counted."""
    assert game.proposals() and all(value is None for _, value in game.proposals())
    game.search()
    assert game.counts().split("\n")[1] == (
        f"The model: no solution, 1 node opened, 0 steps tried, 8 draws that gave no step, "
        f"{game.found.tokens} tokens written.")
    assert 8 <= game.found.tokens <= 8 * 30
    assert outline(game.found) == "start"


def test_the_models_search(monkeypatch):
    """It lists every step and keeps all, to the last level: what it says is counted over the tree."""
    puzzle = Puzzle((4, 1, 8))
    writes(monkeypatch, lambda left: [*every(left), (None, 3)])
    game = Search(*writer(), puzzle, beam=10_000)
    game.search()
    tree = game.found
    solved = [node for node in tree.nodes if node.done]
    inner = [node for node in tree.nodes if node.depth < 2]
    assert len(inner) == 1 + 15 and {node.depth for node in solved} == {2}
    said = game.counts().split("\n")[1]
    written = 10 * (len(tree.nodes) - 1 + 3 * len(inner))
    assert tree.tokens > written                            # what it wrote to judge comes on top
    best = tree.nodes[tree.best()].state
    expression = countdown.expression(countdown.check(puzzle, best[1]).taken, 24)
    assert countdown.makes_target(puzzle, expression)
    assert said == (f"The model: {expression} = 24, {len(inner) + len(solved):,} nodes opened, "
                    f"{len(tree.nodes) - 1:,} steps tried, {3 * len(inner):,} draws that gave no step, "
                    f"{tree.tokens:,} tokens written.")


def test_a_beam_that_gives_up_the_solution(monkeypatch):
    """The judge prefers a dead step, and one node is kept: no solution, and the truth can be seen."""
    first = [("8-2=6 [4 6 6]", 1), ("6-2=4 [4 4 8]", 1)]
    writes(monkeypatch, lambda left: first if len(left) == 4 else every(left))
    game = Search(*writer(), PUZZLE, beam=1)
    monkeypatch.setattr(game, "value", lambda states: [float("8-2" in z) for _, z in states])
    game.search()
    assert "The model: no solution, 3 nodes opened" in game.counts()
    lines = outline(game.found, game.dead).split("\n")
    assert lines[1] == "    1 8-2=6 [4 6 6], 1.00, kept, dead"
    assert lines[-1] == "    2 6-2=4 [4 4 8], 0.00, pruned"


# a tree in words


def made(*parents, kept=(), done=()):
    """A tree whose node i, from 1, hangs under parents[i − 1]."""
    nodes = [Node("", "", None, 0, None, kept=True)]
    for i, parent in enumerate(parents, 1):
        nodes.append(Node("", f"step {i}", parent, nodes[parent].depth + 1, i / 10, count=i, kept=i in kept,
                          done=i in done))
    return Tree(nodes)


def test_addresses():
    assert addresses(made(0, 0, 2, 1, 2, 5)) == ["start", "1", "2", "2.1", "1.1", "2.2", "2.2.1"]


def test_a_long_tree_is_cut_and_keeps_the_way_to_the_solution():
    tree = made(0, 0, 0, 3, 3, 1, kept={1, 3, 5}, done={5})
    assert outline(tree, most=3).split("\n") == [
        "start", "    3 step 3 ×3, 0.30, kept", "        3.2 step 5 ×5, 0.50, solved",
        "and 4 nodes more, 1 of them kept"]
    assert outline(tree, most=4).split("\n")[1] == "    1 step 1, 0.10, kept"
    assert outline(tree, most=7) == outline(tree) and len(outline(tree).split("\n")) == 7


# the widget


def test_its_buttons(monkeypatch):
    """A step, what the model would do, what is dead until the next button, back, the model's search."""
    writes(monkeypatch, every)
    widget = SearchWidget(*writer(), PUZZLE)
    assert widget.back.disabled and "Left: 2 4 6 8." in widget.blocks["now"].value
    assert widget.step.value == widget.game.options()[0]    # something is chosen before anybody chooses
    widget.step.value = "8-2=6 [4 6 6]"
    widget.take.click()
    assert "Left: 4 6 6." in widget.blocks["now"].value and not widget.back.disabled
    assert "8-2=6 [4 6 6] ← you are here" in widget.blocks["your tree"].value
    widget.ask.click()
    assert "1 × 6*4=24 [6 24], yes " in widget.blocks["the model, from here"].value
    assert "dead" not in widget.text()
    widget.dead.value = True
    assert widget.text().count(", dead") == 1 + len(every((4, 6, 6)))   # the reader's node, and its children
    assert f"Marked as dead below: {1 + len(every((4, 6, 6)))}." in widget.blocks["now"].value
    assert widget.node.label == "start" and widget.node.value == 0
    widget.back.click()
    assert not widget.dead.value and "dead" not in widget.text() and "Left: 2 4 6 8." in widget.text()
    assert "the model, from here" not in widget.text()      # it was about another node
    widget.search.click()
    tree = widget.blocks[shown.BLOCKS[-1]].value
    assert tree.count("\n") <= 1 + shown.LINES and " more, " in tree
    assert "The model: " in widget.blocks["now"].value and "The model: " in repr(widget)


def test_back_to_any_node():
    widget = SearchWidget(*writer(), PUZZLE)
    for text in TO_24:
        widget.step.value = text
        widget.take.click()
    assert widget.take.disabled and "Solved: (6-2)*4+8 = 24." in widget.text()
    assert [label for label, _ in widget.node.options] == [
        "start", "1 6-2=4 [4 4 8]", "1.1 4*4=16 [8 16]"] and widget.node.value == 2
    widget.node.value = 1
    widget.back.click()
    assert "Left: 4 4 8." in widget.text() and not widget.take.disabled
    assert widget.step.value == widget.game.options()[0]    # also after an end, where there was nothing
    widget.node.value = 0
    widget.back.click()
    widget.take.click()
    assert len(widget.game.hand.nodes) == 5 and "did not work" not in widget.text()


def test_what_the_reader_sees_can_be_heard():
    """The line of the state is announced when it changes; each tree has its name."""
    widget = SearchWidget(*writer(), PUZZLE)
    assert widget.blocks["now"].value.startswith('<div role="status"')
    assert 'role="group" aria-label="your tree"' in widget.blocks["your tree"].value


def test_an_error_of_the_model_is_shown():
    """A context without room for a step: the button says so, and the next one clears it."""
    widget = SearchWidget(*writer(context=32), PUZZLE)
    for button in (widget.ask, widget.search):
        button.click()
        assert "That did not work: max_new_tokens is 30" in widget.text()
    widget.step.value = "8-2=6 [4 6 6]"
    widget.take.click()
    assert "did not work" not in widget.text() and "Left: 4 6 6." in widget.text()
