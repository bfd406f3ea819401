"""How good views are: metrics, protocols, reports; and what a dataset holds."""
