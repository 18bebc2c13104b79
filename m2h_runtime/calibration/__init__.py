"""Camera models, calibration files, rectification, and how images lie on each other."""
