"""The paper's tables and its Fig. 3, federated, pooled or local, with one command.

OUT/data/seed-1/sites/SITE            phantoms of a seed, or OUT/data/scans/sites/SITE for scans; made once
OUT/cells/CELL/cell.json              one method, trained once and tested on every patient; what is there stays
OUT/cells/CELL/model.safetensors      its model
OUT/table1.md, .csv, .tex             what the cells say, beside the paper's numbers
OUT/report.html, manifest.json

A cell that another process is at is left to it: the same command may be started several times over one OUT.
"""
