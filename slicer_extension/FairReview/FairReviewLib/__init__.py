"""All of FairReview that needs no Qt: the server's routes, the scene, and what stands in the panel.

Runs in the Python of desktop Slicer 5.6 and later (3.9): the standard library, `slicer` and `vtk`.
"""
