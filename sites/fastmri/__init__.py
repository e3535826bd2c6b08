"""The definition of fastMRI knees (PD guides FS-PD): see site.yaml."""
