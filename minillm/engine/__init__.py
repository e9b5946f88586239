"""The machine: what makes the lines fast, safe or wide. Each file stands behind one seam of the core, and has
a plain twin."""
