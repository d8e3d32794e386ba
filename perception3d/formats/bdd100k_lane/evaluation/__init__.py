"""Scores of lane markings, BDD100K's table and the pixels of the SAD paper: of files and in the test loop."""
