"""Reading DICOM: from the objects of a scanner to volumes, by what their headers say."""
