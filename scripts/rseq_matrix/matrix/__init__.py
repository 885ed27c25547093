"""The matrix: its cells, the run of their processes, what was recorded, the judgement, and the document of a run."""
