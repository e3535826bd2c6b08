"""The definition of the paper's SMS cohort (Siemens 3T, T1 guides T2): see site.yaml."""
