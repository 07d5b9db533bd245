"""What the Radclear module of 3D Slicer does, apart from its widgets.

Imports the standard library, requests and what Slicer has; runs on the Python 3.9 of older Slicers.
"""
