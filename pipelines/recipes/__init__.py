"""The DAGs, one file each. A recipe reads like the graph it is."""
