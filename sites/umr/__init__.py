"""The definition of the paper's uMR cohort (United Imaging 3T, T1 guides T2): see site.yaml."""
