"""The widget of chapter 16: a tree of the game of 24 that is opened by hand, and the model's beside it.

`Search` is what it does and says, without a browser; `SearchWidget` wires it to buttons. Both trees are a
`thinking.tree.Tree` of the states (prompt, scratchpad), counted by one rule: a node is opened when somebody
goes on from it, or when it is the solution; a step is tried when it is in the tree.
"""

from __future__ import annotations

from html import escape

import ipywidgets as widgets
import torch

from ..expect import expect, expect_whole
from ..thinking.tree import Child, Node, Thought, Tree, breadth_first, judge, proposer
from ..worlds import countdown
from ..worlds.countdown import Checked, Puzzle
from .trees import addresses, outline

LINES = 30      # of the model's tree are shown
BLOCKS = ("now", "your tree", "the model, from here", "the model's tree, with its p(yes)")


class Search:
    """The reader's tree `hand`, where the reader is `here` (a node's number), and the model's tree `found`.

    The model draws n steps of at most `room` tokens at each node, from the same seed at each call, and keeps
    `beam` nodes a level. It judges by its answer to "4 6 6: 24?": p(yes), of yes and no alone. What it writes
    and is no legal step costs its tokens and makes no node.
    ValueError for a puzzle without a solution, one that is solved before the first step, and a tokenizer
    without the marks.
    """

    def __init__(self, model, tokenizer, puzzle: Puzzle, *, n: int = 8, beam: int = 5, room: int = 30,
                 seed: int = 0):
        expect(isinstance(puzzle, Puzzle), "puzzle", repr(puzzle), "give a countdown.Puzzle")
        expect(countdown.alive(puzzle), "puzzle", repr(puzzle.prompt), "give one that has a solution")
        expect(not puzzle.solved_by(puzzle.numbers), "puzzle", repr(puzzle.prompt),
               "give a target that is not among the numbers")
        expect_whole(1, beam=beam)
        tokenizer.prompt(puzzle.prompt)                     # a ValueError if it has no marks
        self.puzzle, self.n, self.beam, self.seed = puzzle, n, beam, seed
        self.generator = torch.Generator(model.embed.weight.device)
        self.write = proposer(model, tokenizer, n=n, room=room, stop=countdown.STOP,
                              generator=self.generator)
        self.value = judge(model, tokenizer, lambda state: f"{self.left(state)}: {puzzle.target}?",
                           {"yes": 1.0, "no": 0.0})
        self.hand = Tree([Node((puzzle.prompt, ""), "", None, 0, None, kept=True)])
        self.here = 0
        self.found: Tree | None = None

    def read(self, state: Thought) -> Checked:
        """What a scratchpad holds: its steps, the numbers left, what is wrong."""
        return countdown.check(self.puzzle, state[1])

    def left(self, state: Thought) -> str:
        """The numbers left: "4 6 6"."""
        return " ".join(map(str, self.read(state).left))

    def dead(self, state: Thought) -> bool:
        """Whether the numbers left can no longer make the target. Exact."""
        return not countdown.alive(self.puzzle, self.read(state).left)

    # by hand

    @property
    def state(self) -> Thought:
        """Where the reader is."""
        return self.hand.nodes[self.here].state

    def options(self) -> list[str]:
        """Every legal step from here, with what it leaves: "8-2=6 [4 6 6]". None from a solution."""
        left = self.read(self.state).left
        steps = [] if self.puzzle.solved_by(left) else countdown.steps(left, self.puzzle.whole)
        return [countdown.step_text(step, countdown.after(left, step)) for step in steps]

    def take(self, text: str) -> None:
        """Take one of the options. Where it was taken before, go to its old node: nothing new is counted."""
        expect(text in self.options(), "text", repr(text), "give one of options()")
        nodes = self.hand.nodes
        old = [i for i in self.hand.children(self.here) if nodes[i].text == text]
        if not old:
            state = (self.puzzle.prompt, f"{self.state[1]} {text}".strip())
            nodes.append(Node(state, text, self.here, nodes[self.here].depth + 1, None, kept=True,
                              done=self.read(state).solved))
            self.hand.visits = len({node.parent for node in nodes[1:]}) + sum(node.done for node in nodes)
        self.here = old[0] if old else len(nodes) - 1

    def back(self, number: int) -> None:
        """Go to any node of the reader's tree; 0 is the start."""
        expect_whole(0, len(self.hand.nodes), number=number)
        self.here = number

    # the model

    def why_not(self, child: Child) -> str:
        """Why what the model wrote is no legal step; "" if it is one."""
        return "it does not end as a step does" if child.state is None else self.read(child.state).why

    def proposals(self) -> list[tuple[Child, float | None]]:
        """What the model would do from here, with p(yes) for what is left, None where that is no step."""
        self.generator.manual_seed(self.seed)
        children = self.write([self.state])[0]
        judged = iter(self.value([child.state for child in children if not self.why_not(child)]))
        return [(child, None if self.why_not(child) else next(judged).value) for child in children]

    def search(self) -> None:
        """Breadth first from the puzzle's numbers, into `found`."""
        self.generator.manual_seed(self.seed)

        def propose(states: list[Thought]) -> list[list[Child]]:
            return [[child._replace(state=None) if self.why_not(child) else child for child in children]
                    for children in self.write(states)]

        self.found = breadth_first([(self.puzzle.prompt, "")], propose, self.value,
                                   lambda state: self.read(state).solved,
                                   beam=self.beam, depth=len(self.puzzle.numbers) - 1)[0]

    # in words

    def now(self) -> str:
        """The numbers left, and whether they are a solution or an end."""
        said = f"{self.puzzle.prompt}. Left: {self.left(self.state)}."
        if self.read(self.state).solved:
            return f"{said} Solved: {self.solution(self.state)}."
        return said if self.options() else f"{said} That is not {self.puzzle.target}: go back."

    def solution(self, state: Thought) -> str:
        """The expression of a solved state: "(8-2)*4 = 24"."""
        target = self.puzzle.target
        return f"{countdown.expression(self.read(state).taken, target)} = {target}"

    def proposals_text(self, proposals: list[tuple[Child, float | None]], dead: bool = False) -> str:
        """Proposals as lines. dead: say which can lead to no solution."""
        lines = [f"Left: {self.left(self.state)}. In {self.n} draws it goes on with:"]
        for child, yes in proposals:
            said = f"no step: {self.why_not(child)}" if yes is None else f"yes {yes:.2f}"
            lost = ", dead" if dead and yes is not None and self.dead(child.state) else ""
            lines.append(f"{child.count} × {child.text or '…'}, {said}{lost}")
        return "\n".join(lines)

    def counts(self) -> str:
        """The reader's counts, and the model's below them once it has searched."""
        def opened(tree: Tree) -> str:
            return f"{_some(tree.visits, 'node')} opened, {_some(len(tree.nodes) - 1, 'step')} tried"

        said = f"You: {'no solution yet' if self.hand.best() is None else 'solved'}, {opened(self.hand)}."
        if self.found is None:
            return said
        tree, best = self.found, self.found.best()
        answer = "no solution" if best is None else self.solution(tree.nodes[best].state)
        wrong = tree.proposals - sum(node.count for node in tree.nodes[1:])
        return (f"{said}\nThe model: {answer}, {opened(tree)}, {_some(wrong, 'draw')} that gave no step, "
                f"{_some(tree.tokens, 'token')} written.")


def _some(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


class SearchWidget(widgets.VBox):
    """Open a puzzle's tree by hand; ask what the model would do at a node; let it search. All of it is text.

    model, tokenizer: any whose tokenizer has the marks; puzzle: a countdown.Puzzle; how: n, beam, room, seed
    of `Search`. What is dead is shown on a button, until the next one is pressed: guess first.
    """

    def __init__(self, model, tokenizer, puzzle: Puzzle, **how):
        self.game = Search(model, tokenizer, puzzle, **how)
        wide = {"layout": widgets.Layout(width="26em"), "style": {"description_width": "6em"}}
        self.step = widgets.Dropdown(description="next step", **wide)
        self.node = widgets.Dropdown(description="back to", **wide)
        self.dead = widgets.ToggleButton(description="show what is dead")
        self.dead.observe(lambda _: self.draw(), "value")
        self.take = self._button("take it", lambda: self.game.take(self.step.value))
        self.back = self._button("go back", lambda: self.game.back(self.node.value))
        self.ask = self._button("what would the model do here?", self._ask)
        self.search = self._button("let the model search", self.game.search)
        self.blocks = {name: widgets.HTML() for name in BLOCKS}
        self.proposed, self.problem = [], ""
        now, *others = self.blocks.values()
        super().__init__([now, widgets.HBox([self.step, self.take]), widgets.HBox([self.node, self.back]),
                          widgets.HBox([self.ask, self.dead, self.search]), *others])
        self.draw()

    def _button(self, text: str, act) -> widgets.Button:
        button = widgets.Button(description=text, layout=widgets.Layout(width="auto"))
        button.on_click(lambda _: self._press(act))
        return button

    def _press(self, act) -> None:
        """What every button does. A notebook hides a button's error, so it is shown with the numbers left."""
        self.proposed, self.problem = [], ""
        try:
            act()
        except ValueError as error:
            self.problem = f"\nThat did not work: {error}"
        self.dead.value = False
        self.draw()

    def _ask(self) -> None:
        self.proposed = self.game.proposals()

    def parts(self) -> dict[str, str]:
        """What is shown now, by the names of the blocks; "" for what has not been asked for."""
        game, dead = self.game, self.game.dead if self.dead.value else None
        start = f"[{game.left(game.hand.nodes[0].state)}]"
        trees = [tree and outline(tree, dead, lambda node: node.text or start, most, here)
                 for tree, most, here in ((game.hand, None, game.here), (game.found, LINES, None))]
        asked = self.proposed and game.proposals_text(self.proposed, self.dead.value)
        said = (trees[0], asked or "", trees[1] or "")
        lost = sum(part.count(", dead") for part in said)
        truth = f"\nMarked as dead below: {lost}." if self.dead.value else ""
        return dict(zip(BLOCKS, (f"{game.now()}{self.problem}\n{game.counts()}{truth}", *said)))

    def text(self) -> str:
        """All that is shown."""
        return "\n\n".join(f"{name}:\n{part}" for name, part in self.parts().items() if part)

    def draw(self) -> None:
        """Show the state again, and what can be chosen from here."""
        game, nodes = self.game, self.game.hand.nodes
        earlier = [(f"{address} {node.text}".strip(), i) for i, (address, node)
                   in enumerate(zip(addresses(game.hand), nodes)) if i != game.here]
        self.step.options, self.node.options = game.options(), earlier
        self.step.index = 0 if self.step.options else None  # of itself it would stay None once it was
        self.node.value = nodes[game.here].parent if game.here else earlier[0][1] if earlier else None
        self.take.disabled, self.back.disabled = not self.step.options, not self.node.options
        for name, part in self.parts().items():
            role = 'role="status"' if name == "now" else f'role="group" aria-label="{escape(name)}"'
            head = f"<b>{escape(name)}</b>\n" if name != "now" and part else ""
            self.blocks[name].value = (f'<div {role} style="white-space: pre-wrap; line-height: 1.4">'
                                       f"{head}{escape(part)}</div>")

    def __repr__(self) -> str:
        return "Widget (run the cell to use it).\n" + self.text()
