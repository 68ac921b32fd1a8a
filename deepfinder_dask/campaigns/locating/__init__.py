"""Finding the particles of one tomogram: the verb ``locate``, and its steps, which campaigns take too.

In: a tomogram file and weights. Out: a folder with the converted tomogram, its segmentation, the particles, exports and
pictures.
"""
