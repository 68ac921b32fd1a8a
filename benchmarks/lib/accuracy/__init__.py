"""The paper's experiments on simulated tomograms: sizes, networks, plots."""
