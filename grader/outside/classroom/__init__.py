"""The class's tools around the marks: collecting, a pool, pages, gradebooks. No mark is made here."""
