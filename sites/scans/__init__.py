"""Reading the files of hospitals."""
