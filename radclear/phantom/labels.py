"""The class names of the three tasks and the names that boxes carry. Imports nothing."""

from __future__ import annotations

#: Tumor lesion location, multi-label: the coarse lesion types 1 to 8 of DeepLesion.
LOCATION_CLASSES = ("bone", "abdomen", "mediastinum", "liver", "lung", "kidney", "soft_tissue", "pelvis")

#: Lung disease, multi-label; "none" is all zero.
DISEASE_CLASSES = ("nodule", "consolidation", "ground_glass", "emphysema", "effusion")

#: Patient stage, one of; patients without a tumor have none.
STAGE_CLASSES = ("I", "II", "III", "IV")

#: ``kind`` of a tumor lesion. A box whose kind is one of DISEASE_CLASSES marks a sign of lung disease.
LESION_KINDS = ("primary", "satellite", "node", "metastasis")

#: A focal lung lesion up to this diameter is a nodule, above it a mass (Fleischner Society glossary, 2008).
NODULE_MAX_MM = 30.0
