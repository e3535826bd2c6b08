"""Receiving DICOM from a PACS or a scanner."""
