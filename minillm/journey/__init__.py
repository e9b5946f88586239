"""The main job: one small model from random weights through every stage that the package has so far."""
