"""Watching a run: its curves, scores and example patches, in its folder and in a notebook.

In: the log of a run, and the patches it is judged by. Out: ``curves.png``, ``curves.html``, ``patches.png``, what
TensorBoard reads, and a view that follows a run of this process or of another one.
"""
