"""The federation file and how a settings file is read."""
