"""The class's tools around the marks: collecting, grading in a pool, pages, gradebooks. No mark is made here."""
