"""Capture Go on 3 × 3 points: whoever takes a stone first wins. The referee and every value are exact.

No stone ever leaves the board before the end, so a game has at most nine moves, and all can be listed.
There is no ko, no passing and no territory. A board is nine letters, row by row: "." for an empty point,
"x" and "o" for stones; x begins. It is the game with which Go is taught: the same liberties, the same ban
on suicide, and an end at the first capture.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from ..expect import expect

SIZE = 3
POINTS = range(SIZE * SIZE)
NAMES = [f"{'abc'[i % SIZE]}{i // SIZE + 1}" for i in POINTS]  # "a1" is the first point of the first row
NEXT_TO = [[j for j in POINTS if abs(i // SIZE - j // SIZE) + abs(i % SIZE - j % SIZE) == 1] for i in POINTS]
START = "." * len(POINTS)
# Where each point of the board comes from when it is turned by a quarter, and when it is mirrored.
TURNED = [SIZE * (i % SIZE) + SIZE - 1 - i // SIZE for i in POINTS]
MIRRORED = [SIZE * (i // SIZE) + SIZE - 1 - i % SIZE for i in POINTS]


def to_move(board: str) -> str:
    """Who moves: x on a board with as many x as o."""
    _expect_board(board)
    return "x" if board.count("x") == board.count("o") else "o"


def liberties(board: str, point: int) -> tuple[set[int], set[int]]:
    """(stones, empty points): the stones joined to that at `point`, and the empty points next to them."""
    _expect_board(board)
    expect(point in POINTS and board[point] != ".", "point", point, "give a point with a stone on it")
    stones, free, ahead = set(), set(), [point]
    while ahead:
        here = ahead.pop()
        if here not in stones:
            stones.add(here)
            free |= {j for j in NEXT_TO[here] if board[j] == "."}
            ahead += [j for j in NEXT_TO[here] if board[j] == board[point]]
    return stones, free


def play(board: str, point: int) -> tuple[str, int]:
    """(the board with the new stone, how many enemy stones it takes). ValueError if taken, or suicide.

    The taken stones stay on the board that comes back: the game is over, and they show why.
    """
    expect(point in POINTS and board[point] == ".", "point", point, "give an empty point, 0 to 8")
    me, after = to_move(board), board[:point] + to_move(board) + board[point + 1:]
    groups = [liberties(after, j) for j in NEXT_TO[point] if after[j] not in (me, ".")]
    taken = set().union(*(stones for stones, free in groups if not free))
    alive = bool(taken) or bool(liberties(after, point)[1])
    expect(alive, "point", point, "it leaves its own stones no empty point: that is suicide")
    return after, len(taken)


@cache
def legal(board: str) -> tuple[int, ...]:
    """The points that may be played."""
    points = []
    for point in POINTS:
        if board[point] == ".":
            try:
                play(board, point)
            except ValueError:
                continue
            points.append(point)
    return tuple(points)


def referee(moves: Sequence[int]) -> str:
    """Who has won a game, "x" or "o"; "" while it goes on. Who takes a stone wins; who cannot move loses.

    ValueError for a move against the rules, and for one after the end.
    """
    board, winner = START, ""
    for move in moves:
        expect(not winner, "moves", f"going on after {winner} has won", "leave out what comes behind the end")
        me = to_move(board)
        board, taken = play(board, move)
        winner = me if taken or not legal(board) else ""
    return winner


@cache
def value(board: str) -> int:
    """1 if the side to move can win against every defence, else −1: there is no draw."""
    return max((move_value(board, point) for point in legal(board)), default=-1)


def move_value(board: str, point: int) -> int:
    """1 for a move that wins against every defence, −1 for one that lets the other side win."""
    after, taken = play(board, point)
    return 1 if taken else -value(after)


@cache
def right_moves(board: str) -> tuple[int, ...]:
    """The moves that win. () where the position is lost."""
    return tuple(point for point in legal(board) if move_value(board, point) == 1)


@cache
def positions() -> tuple[str, ...]:
    """Every board that some game reaches, and from which it goes on, the empty one first."""
    boards, ahead = {START: None}, [START]
    while ahead:
        board = ahead.pop()
        for after, taken in (play(board, point) for point in legal(board)):
            if not taken and legal(after) and after not in boards:
                boards[after] = None
                ahead.append(after)
    return tuple(sorted(boards, key=lambda b: (9 - b.count("."), b)))


def look_alikes(board: str) -> tuple[str, ...]:
    """The board turned and mirrored, eight times, sorted: the first stands for all.

    All are on the same side of a split.
    """
    _expect_board(board)
    boards = []
    for _ in range(4):
        board = "".join(board[i] for i in TURNED)
        boards += [board, "".join(board[i] for i in MIRRORED)]
    return tuple(sorted(boards))


def show(board: str) -> str:
    """The board in three lines, for people."""
    _expect_board(board)
    return "\n".join(" ".join(board[i:i + SIZE]) for i in range(0, len(board), SIZE))


def _expect_board(board: str) -> None:
    ok = isinstance(board, str) and len(board) == len(POINTS) and not set(board) - set(".xo")
    expect(ok, "board", repr(board), f"give {len(POINTS)} letters of '.', 'x' and 'o'")
    ahead = board.count("x") - board.count("o")
    expect(ahead in (0, 1), "board", repr(board), "x begins, so there is as many x as o, or one more")
