"""What a campaign is to do: its file, its tomograms, and what they would take.

In: a TOML file. Out: settings of every step, a list of tomograms with their names, and a table of sizes and times.
"""
