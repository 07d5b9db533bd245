"""The experiments of docs/explanation/experiments.md, one command each.

- ``python -m radclear.experiments.pretrain_arms``: LeCL, its control and no training, for each backbone.
- ``python -m radclear.experiments.pretraining_table``: phantoms and real slices in one table to pre-train on.
- ``python -m radclear.experiments.pretraining_cost``: time, bytes and memory of a step, for each backbone.
- ``python -m radclear.experiments.compare_phantoms``: what their embeddings know of lesions in phantoms.
- ``python -m radclear.experiments.compare_real``: what they know of real slices, beside no-learning floors.
"""
