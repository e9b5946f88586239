"""A tree of thoughts as a figure or as lines of text: what was kept, pruned, dead and solved.

In the figure by marker as well as by colour.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from ..expect import expect
from ..thinking.tree import Node, Tree
from .figures import BLACK, BLUE, GREEN, ORANGE, VERMILION, Picture, new_figure

# What a node is -> (marker, colour, filled). The arms of a cross stand out behind those that are dead.
LOOKS = {
    "solved": ("*", GREEN, True),
    "kept": ("o", BLUE, True),
    "pruned": ("s", ORANGE, False),
}
CROSS = ("x", VERMILION)
ROW, LETTER, GAP = 0.21, 0.083, 0.6  # inches: between two leaves; a letter of 10 points; beside a label


def kind_of(node: Node) -> str:
    """"solved", "kept" or "pruned"."""
    return "solved" if node.done else "kept" if node.kept else "pruned"


def places(tree: Tree) -> list[tuple[int, float]]:
    """(depth, row) of each node: leaves on rows of their own, in order, and each parent amid its children."""
    row: dict[int, float] = {}
    free = 0

    def place(number: int) -> None:
        nonlocal free
        children = tree.children(number)
        for child in children:
            place(child)
        if children:
            row[number] = (row[children[0]] + row[children[-1]]) / 2
        else:
            row[number], free = free, free + 1

    place(0)
    return [(node.depth, row[i]) for i, node in enumerate(tree.nodes)]


def draw(tree: Tree, dead: Callable[[Hashable], bool] | None = None,
         label: Callable[[Node], str] = lambda node: node.text, most: int = 120) -> Picture:
    """The tree from left to right: a node says its step, its value, and in brackets when it was visited.

    dead(state): whether no solution can come of a state, where that is known; such nodes are crossed out.
    label(node): what stands beside it, its step if not given; a short one keeps the figure narrow.
    ValueError for more than `most` nodes: nobody could read them.
    """
    nodes = tree.nodes
    expect(len(nodes) <= most, "tree", f"of {len(nodes)} nodes", f"draw at most {most}: search with less")
    labels = [_said(node, label) for node in nodes]
    edges = [0.0]                                           # where each level stands, in inches
    for depth in range(1 + max(node.depth for node in nodes)):
        longest = max(len(text) for node, text in zip(nodes, labels) if node.depth == depth)
        edges.append(edges[-1] + LETTER * longest + GAP)
    at = [(edges[depth], row) for depth, row in places(tree)]
    rows = 1 + max(row for _, row in at)
    figure, axes = new_figure(max(4.5, edges[-1] + 0.3), max(2.2, ROW * rows + 0.9))
    for node, (x, y) in zip(nodes, at):
        if node.parent is not None:
            px, py = at[node.parent]
            behind = px + LETTER * len(labels[node.parent]) + 0.2
            axes.plot([behind, x], [py, y], color=BLACK if node.kept else "#999999", zorder=1,
                      linewidth=1.3 if node.kept else 0.7, linestyle="-" if node.kept else ":")
    crossed = [dead is not None and bool(dead(node.state)) for node in nodes]
    for kind, (marker, colour, filled) in LOOKS.items():
        some = [place for node, place in zip(nodes, at) if kind_of(node) == kind]
        axes.scatter([x for x, _ in some], [y for _, y in some], s=150 if marker == "*" else 42,
                     marker=marker, edgecolors=colour, facecolors=colour if filled else "white", zorder=2,
                     label=f"{kind}: {len(some)}")
    if dead is not None:
        some = [place for cross, place in zip(crossed, at) if cross]
        axes.scatter([x for x, _ in some], [y for _, y in some], s=130, marker=CROSS[0], color=CROSS[1],
                     linewidths=1.6, zorder=1.5, label=f"dead: {len(some)}")
    for node, text, (x, y) in zip(nodes, labels, at):
        axes.annotate(text, (x, y), (9, 0), textcoords="offset points", va="center", fontsize=10,
                      color=BLACK if node.kept else "#555555", zorder=4,
                      bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5})
    axes.set(xlim=(-0.15, edges[-1]), ylim=(rows - 0.4, -0.6), xlabel="steps taken")
    axes.set_xticks(edges[:-1], range(len(edges) - 1))
    axes.set_yticks([])
    axes.grid(False)
    axes.spines["left"].set_visible(False)
    figure.legend(loc="outside upper left", ncols=4)
    return Picture(figure, alt(tree, sum(crossed) if dead is not None else None), _caption(tree))


def addresses(tree: Tree) -> list[str]:
    """Each node's place in words: "start", and "1.2" for the second child of the start's first child."""
    names = ["start"] + [""] * (len(tree.nodes) - 1)
    for number, name in enumerate(names):                   # parents come before their children
        for k, child in enumerate(tree.children(number), 1):
            names[child] = f"{name}.{k}" if number else str(k)
    return names


def outline(tree: Tree, dead: Callable[[Hashable], bool] | None = None,
            label: Callable[[Node], str] = lambda node: node.text, most: int | None = None,
            here: int | None = None) -> str:
    """The tree as indented lines, each with its address: a node says its step, what it is worth, its kind.

    dead, label: as in `draw`; here: the node that is marked as the reader's. Of more than `most` nodes the
    way to the solution is shown first, then what was kept, then the others; a last line counts the rest.
    """
    way, number = {0}, tree.best()
    while number:
        way.add(number)
        number = tree.nodes[number].parent
    by_rank = sorted(range(len(tree.nodes)), key=lambda i: (i not in way, not tree.nodes[i].kept))
    shown, names, lines = {*by_rank[:most]}, addresses(tree), []    # with a node, its parent is shown

    def write(number: int) -> None:
        node = tree.nodes[number]
        times = f" ×{node.count}" if node.count > 1 else ""
        value = "" if node.value is None else f", {node.value:.2f}"
        kind = f", {kind_of(node)}" if node.value is not None or node.done else ""
        cross = ", dead" if dead is not None and dead(node.state) else ""
        place = " ← you are here" if number == here else ""
        lines.append(f"{'    ' * node.depth}{names[number]} {label(node)}".rstrip()
                     + f"{times}{value}{kind}{cross}{place}")
        for child in tree.children(number):
            if child in shown:
                write(child)

    write(0)
    rest = [i for i in range(len(tree.nodes)) if i not in shown]
    if rest:
        kept = sum(tree.nodes[i].kept for i in rest)
        lines.append(f"and {_nodes(len(rest))} more, {kept} of them kept")
    return "\n".join(lines)


def alt(tree: Tree, dead: int | None = None) -> str:
    """The tree in words: its levels, and the way to its solution."""
    levels = []
    for depth in range(1, 1 + max(node.depth for node in tree.nodes)):
        level = [node for node in tree.nodes if node.depth == depth]
        kept = sum(node.kept for node in level)
        levels.append(f"level {depth} has {_nodes(len(level))}, {kept} of them kept")
    best = tree.best()
    end = "No solution was found." if best is None else (
        f"The solution: {', then '.join(tree.path(best)) or 'the root itself'}.")
    lost = "" if dead is None else f" {_nodes(dead)} of all can lead to no solution."
    return f"A tree of {_nodes(len(tree.nodes))}: {'; '.join(levels) or 'the root alone'}.{lost} {end}"


def _caption(tree: Tree) -> str:
    tokens = f", {tree.tokens:,} tokens" if tree.tokens else ""
    stopped = " The budget was spent before the search was over." if tree.stopped else ""
    made = f"{_nodes(len(tree.nodes))}, {tree.proposals:,} proposals{tokens}"
    return f"{made}. A number in brackets says when a node was visited.{stopped}"


def _said(node: Node, label: Callable[[Node], str]) -> str:
    """What stands beside a node, in full."""
    value = "" if node.value is None else f"  {node.value:.2f}"
    times = f" ×{node.count}" if node.count > 1 else ""
    visit = "" if node.visit is None else f" ({node.visit})"
    return f"{label(node)}{times}{value}{visit}"


def _nodes(count: int) -> str:
    return "1 node" if count == 1 else f"{count:,} nodes"
