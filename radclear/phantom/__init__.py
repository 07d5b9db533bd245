"""Synthetic torso CT with lesions of known site, lung disease and stage, written as DICOM or NIfTI."""

from radclear.phantom.cohort import write_cohort
from radclear.phantom.crowded import draw_crowded_patient, draw_twins
from radclear.phantom.dicom import write_dicom
from radclear.phantom.disease import Patient, draw_patient
from radclear.phantom.labels import DISEASE_CLASSES, LESION_KINDS, LOCATION_CLASSES, STAGE_CLASSES
from radclear.phantom.nifti import write_nifti
from radclear.phantom.torso import Box, Phantom, make_phantom

__all__ = [
    "DISEASE_CLASSES",
    "LESION_KINDS",
    "LOCATION_CLASSES",
    "STAGE_CLASSES",
    "Box",
    "Patient",
    "Phantom",
    "draw_crowded_patient",
    "draw_patient",
    "draw_twins",
    "make_phantom",
    "write_cohort",
    "write_dicom",
    "write_nifti",
]
