"""find-the-stale: what held in a year, from dated records, right in six ways and wrong in twenty.

Each takes records (person, relation, year, value), a person, a relation and a year, and gives a value or
None.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence

from minillm.expect import expect, expect_whole

from ..planted import finds_planted

MOST = 50           # records
LAST = 9999         # year


def handed_out(inside: Callable[..., str | None]) -> Callable[..., str | None]:
    """The function as a learner's test gets it: one name, signature and set of checks for all code."""
    known: dict = {}                # what one of the wrong ones remembers from call to call

    def lookup(records: list[Sequence], person: str, relation: str, year: int) -> str | None:
        """The value that holds in a year, or None: so it claims."""
        expect(isinstance(records, list) and len(records) <= MOST, "records", records,
               f"give a list of {MOST} records at most")
        for record in records:
            four = isinstance(record, list | tuple) and len(record) == 4
            expect(four and all(isinstance(record[n], str) and record[n] for n in (0, 1, 3)), "records",
                   record, "give each as (person, relation, year, value): texts, and a whole number")
            expect_whole(1, LAST + 1, year=record[2])
        for name, text in (("person", person), ("relation", relation)):
            expect(isinstance(text, str) and text != "", name, text, "give a text")
        expect_whole(1, LAST + 1, year=year)
        return inside(records, person, relation, int(year), known)

    return lookup


# --- right ----------------------------------------------------------------------------------------


def about(records, person, relation):
    """The records of one thing, (year, value), in the order of the list."""
    return [(y, value) for p, r, y, value in records if p == person and r == relation]


def from_front_to_back(records, person, relation, year, known):
    """The newest so far is kept, and replaced by one of its own year."""
    newest, found = 0, None
    for p, r, y, value in records:
        if (p, r) == (person, relation) and newest <= y <= year:
            newest, found = y, value
    return found


def by_sorting(records, person, relation, year, known):
    """Sorted by year alone, so that those of one year keep their order; the last that is early enough."""
    early = [record for record in sorted(records, key=lambda record: record[2]) if record[2] <= year]
    return next((value for p, r, _, value in early[::-1] if p == person and r == relation), None)


def by_year_backwards(records, person, relation, year, known):
    """A table from year to value, in which a later record overwrites; then back from the year asked."""
    table = dict(about(records, person, relation))
    return next((table[y] for y in range(year, 0, -1) if y in table), None)


def by_bisection(records, person, relation, year, known):
    """The place of the year among those of the records."""
    rows = sorted(((y, n, value) for n, (y, value) in enumerate(about(records, person, relation))))
    place = bisect.bisect_right([y for y, *_ in rows], year)
    return rows[place - 1][2] if place else None


def by_the_largest(records, person, relation, year, known):
    """The largest year and, of equals, the largest place in the list."""
    rows = [(y, n) for n, (p, r, y, _) in enumerate(records) if (p, r) == (person, relation) and y <= year]
    return records[max(rows)[1]][3] if rows else None


def by_years(records, person, relation, year, known):
    """How long each record holds: until the next one of the same thing."""
    rows = about(records, person, relation)
    for n in range(len(rows) - 1, -1, -1):
        begins = rows[n][0]
        ends = min([y for y, _ in rows if y > begins], default=LAST + 1)
        if begins <= year < ends:
            return rows[n][1]
    return None


RIGHT = (from_front_to_back, by_sorting, by_year_backwards, by_bisection, by_the_largest, by_years)


# --- wrong ----------------------------------------------------------------------------------------


def chosen(rows, year, early=lambda y, year: y <= year, key=lambda n, y, value: (y, n), otherwise=None):
    """Of (year, value) the value of the one with the largest key among those early enough.

    otherwise: of rows and year, what is given where there is none.
    """
    kept = [(key(n, y, value), value) for n, (y, value) in enumerate(rows) if early(y, year)]
    if not kept:
        return otherwise(rows, year) if otherwise and rows else None
    return max(kept, key=lambda pair: pair[0])[1]


def always_the_newest(records, person, relation, year, known):
    """The newest record, whatever the year."""
    return chosen(about(records, person, relation), year, lambda y, year: True) if chosen(
        about(records, person, relation), year) is not None else None


def nearest_year(records, person, relation, year, known):
    """The record whose year is nearest; of equals the earlier."""
    rows = about(records, person, relation)
    if chosen(rows, year) is None:
        return None
    return chosen(rows, year, lambda y, year: True, lambda n, y, value: (-abs(y - year), -y, n))


def a_year_late(records, person, relation, year, known):
    """In the year of a record the old value still holds."""
    return chosen(about(records, person, relation), year, lambda y, year: y < year)


def a_year_early(records, person, relation, year, known):
    """In the year before a record the new value already holds."""
    rows = about(records, person, relation)
    return None if chosen(rows, year) is None else chosen(rows, year, lambda y, year: y <= year + 1)


def years_as_texts(records, person, relation, year, known):
    """Years are compared as texts, digit by digit."""
    return chosen(about(records, person, relation), year, lambda y, year: str(y) <= str(year),
                  lambda n, y, value: (str(y), n))


def last_in_the_list(records, person, relation, year, known):
    """The record that comes last in the list of those that are early enough."""
    return chosen(about(records, person, relation), year, key=lambda n, y, value: n)


def first_in_the_list(records, person, relation, year, known):
    """The record that comes first in the list of those that are early enough: the newest, if they are so
    sorted."""
    return chosen(about(records, person, relation), year, key=lambda n, y, value: -n)


def stops_at_a_later_one(records, person, relation, year, known):
    """The list is read until a record of a later year comes."""
    rows = about(records, person, relation)
    later = next((n for n, (y, _) in enumerate(rows) if y > year), len(rows))
    return chosen(rows[:later], year)


def first_of_a_year(records, person, relation, year, known):
    """Of two records of one year the first in the list."""
    return chosen(about(records, person, relation), year, key=lambda n, y, value: (y, -n))


def largest_of_a_year(records, person, relation, year, known):
    """Of two records of one year the one whose value comes later in the alphabet."""
    return chosen(about(records, person, relation), year, key=lambda n, y, value: (y, value))


def by_last_name(records, person, relation, year, known):
    """Last names are compared."""
    return chosen([(y, value) for p, r, y, value in records
                   if p.split()[-1:] == person.split()[-1:] and r == relation], year)


def by_part_of_a_name(records, person, relation, year, known):
    """A person is found whose name has the one asked in it."""
    return chosen([(y, value) for p, r, y, value in records if person in p and r == relation], year)


def any_relation(records, person, relation, year, known):
    """The newest record of the person, whatever it says, if there is one of the relation."""
    if chosen(about(records, person, relation), year) is None:
        return None
    return chosen([(y, value) for p, _, y, value in records if p == person], year)


def first_before_the_first(records, person, relation, year, known):
    """Before the first record, what the first record says."""
    return chosen(about(records, person, relation), year, otherwise=lambda rows, year: min(
        rows, key=lambda row: row[0])[1])


def raises_before_the_first(records, person, relation, year, known):
    """Where there is no record, max raises."""
    rows = [(y, n, value) for n, (y, value) in enumerate(about(records, person, relation)) if y <= year]
    return max(rows)[2]


def only_in_its_year(records, person, relation, year, known):
    """A record holds in its own year, and in no other."""
    return chosen(about(records, person, relation), year, lambda y, year: y == year)


def not_after_the_last(records, person, relation, year, known):
    """After the year of the newest record nothing is known."""
    rows = about(records, person, relation)
    return None if rows and year > max(rows)[0] else chosen(rows, year)


def sorts_the_list(records, person, relation, year, known):
    """The list is sorted in place."""
    records.sort(key=lambda record: record[2])
    return chosen(about(records, person, relation), year)


def value_once(records, person, relation, year, known):
    """Each value has one year, its first."""
    first = {}
    for y, value in sorted(about(records, person, relation), key=lambda row: row[0]):
        first.setdefault(value, y)
    return chosen([(y, value) for value, y in first.items()], year)


def remembered(records, person, relation, year, known):
    """What was found once for a person and a relation is given again, for any year."""
    if (person, relation) not in known:
        known[person, relation] = chosen(about(records, person, relation), year)
    return known[person, relation]


YEAR = ("the value is that of the newest record whose year is the one asked or an earlier one: a record "
        "holds from its year until the next one, and the last goes on")
ORDER = ("records come in any order, and years are compared as numbers; of two records of one year the one "
         "that comes later in the list is a correction and holds")
WHOSE = "only records of this person and this relation count, and both are compared as they are"
NONE = "where no record is early enough there is None, and nothing is raised"
LEAVES = "a call leaves the list as it was, and what it gives depends on nothing that was asked before"

# (what is wrong, on what it shows, the code, the law that sees it)
WRONG = (
    ("the newest record is taken, whatever the year", "a year between two records", always_the_newest, YEAR),
    ("the record of the nearest year is taken, be it later",
     "a year shortly before a record, and long after the one before it", nearest_year, YEAR),
    ("in the year of a record the old value still holds", "the very year of a record", a_year_late, YEAR),
    ("in the year before a record its value holds already", "the year before a record, with an older one",
     a_year_early, YEAR),
    ("a record holds in its own year alone", "a year after a record", only_in_its_year, YEAR),
    ("after the newest record nothing is known", "a year after the newest record", not_after_the_last, YEAR),
    ("a value that comes back has the year of its first time",
     "a value that was replaced and later came back", value_once, YEAR),
    ("years are compared as texts", "a year of three digits beside one of four", years_as_texts, ORDER),
    ("of the records that are early enough, the last in the list is taken",
     "a list in which an older record comes after a newer one", last_in_the_list, ORDER),
    ("of the records that are early enough, the first in the list is taken",
     "a list in which an older record comes before a newer one", first_in_the_list, ORDER),
    ("the list is read until a record comes that is too late",
     "a list in which a record that is too late comes before the right one", stops_at_a_later_one, ORDER),
    ("of two records of one year the first in the list is taken", "two records of one year",
     first_of_a_year, ORDER),
    ("of two records of one year the one is taken whose value is later in the alphabet",
     "two records of one year, in each order", largest_of_a_year, ORDER),
    ("persons are compared by their last names", "two persons with one last name", by_last_name, WHOSE),
    ("a person is found by a part of the name", "a person whose name has another one's in it",
     by_part_of_a_name, WHOSE),
    ("a record of another relation is taken", "a newer record of the same person that says something else",
     any_relation, WHOSE),
    ("before the first record there is what the first one says", "a year before the first record",
     first_before_the_first, NONE),
    ("where there is no record it raises", "a year before the first record, or an empty list",
     raises_before_the_first, NONE),
    ("the list is sorted in place", "the list after the call, where it was not sorted", sorts_the_list,
     LEAVES),
    ("what was found once is given again for another year", "two calls of the same function with two years",
     remembered, LEAVES),
)

# these are right on a list that is sorted, of one person and one thing, with a record a year at most
ON_OTHER_LISTS = (years_as_texts, last_in_the_list, stops_at_a_later_one, first_of_a_year,
                  largest_of_a_year, by_last_name, by_part_of_a_name, any_relation, sorts_the_list)

FIND_THE_STALE = finds_planted(
    name="find-the-stale", title="A test that finds the stale", minutes=30, difficulty=3,
    argument="lookup", handed_out=handed_out, right=RIGHT, wrong=WRONG,
    hides="; values that happen to be equal hide it",
    advice=("Then a value of yours is not what the records say. In the year of a record its value holds "
            "already; after the newest record its value goes on; of two records of one year the later one in "
            "the list holds. Right code raises only where records, texts or years are not as the task says."),
    learned=("You have a test of a memory with dates. Most wrong answers about facts that change were right "
             "once."),
    hints=(
        "Make a table of records, question and value, and go through it. Put the call into a try: what "
        "raises is wrong too. Give every record a value of its own, so that you see which one was taken.",
        "Begin with one person, one relation and three records that are far apart. Ask for a year before the "
        "first, the year of the second, the year before it, a year shortly before the third and one after "
        "the third. Then turn the list round, and ask the same.",
        "Then two persons with one last name, \"Ada Moss\" beside \"Ada Mosster\", another relation with a "
        "newer record, two records of one year in both orders, a value that comes back, the years 987 and "
        "2020. Last: is your list after the call what it was, and does a second call with another year give "
        "another value?"),
    half=("one sorted list",
          "Only lists are tried that are sorted by year and hold one person and one thing. Records come "
          "mixed.",
          ON_OTHER_LISTS),
    or_not=(first_before_the_first, raises_before_the_first, value_once, remembered, a_year_early,
            nearest_year))
