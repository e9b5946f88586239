"""Figures, pages and widgets: what is looked at. Notebooks and the journey import it, the package never."""
