"""The study inside MONAI Label: this package only translates between the two."""
