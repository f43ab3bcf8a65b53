"""From the raw rows of the runs to tables, figures and claims; nothing here imports torch."""
