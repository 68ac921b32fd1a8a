"""The browser viewer: neuroglancer on stores that a small local server hands out.

In: a tomogram, label maps, score maps and tables of particles. Out: a page on 127.0.0.1 that reads what is on screen
and no more, and a handle to close it.
"""
