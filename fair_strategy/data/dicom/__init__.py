"""DICOM in and out: series to volumes, headers to subgroups, masks to segmentations and back."""
