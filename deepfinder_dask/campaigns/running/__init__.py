"""Doing a campaign: states on disk, stages, and the threads that drive tomograms through them.

In: tomograms, stages and an executor. Out: a folder for each tomogram with its state and results.
"""
