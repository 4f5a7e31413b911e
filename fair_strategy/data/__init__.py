"""What lies on disk: cohorts (participants.tsv), BIDS folders, volumes, synthetic cohorts.

Imports nothing from the layers above, and neither torch nor MONAI.
"""
