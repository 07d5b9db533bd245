"""Bundles: find, load, run, train, evaluate and pack them; predictions for one study or a folder of them."""

from radclear.bundle.annotated_training import (
    annotated_slices,
    annotation_record,
    auxiliary_record,
    training_loss,
    training_network,
)
from radclear.bundle.answering import StudyAnswers
from radclear.bundle.average_weights import AverageWeights
from radclear.bundle.best_weights import BestWeights, StopEarly
from radclear.bundle.command_options import check_options
from radclear.bundle.crossval import CrossValidation, run_crossval
from radclear.bundle.crossval_settings import CrossvalError, TrainingChoices
from radclear.bundle.dataset import ReadStudyd, StudyDataset, collate_study
from radclear.bundle.deletion_run import run_deletion
from radclear.bundle.deployment import store_ensemble
from radclear.bundle.embedding_run import EmbeddingRun
from radclear.bundle.evaluation import EvaluationWriter
from radclear.bundle.expressions import UnsafeExpressionError, check_config
from radclear.bundle.head_weights import backbone_entry
from radclear.bundle.inference import (
    EmbeddingInferer,
    EmbeddingWriter,
    Probabilitiesd,
    ResultWriter,
    StudyEvaluator,
    prepare_study,
)
from radclear.bundle.loaded import BackboneBundle, Head
from radclear.bundle.loading import load_backbone_bundle, load_head, load_heads
from radclear.bundle.location import BundleError, bundle_root, embedding_dim, find_backbone, read_metadata
from radclear.bundle.network import HeadNetwork
from radclear.bundle.network_check import check_network
from radclear.bundle.pack import pack_bundle
from radclear.bundle.predict import StudyPrediction, predict_study
from radclear.bundle.predict_many import predict_folder
from radclear.bundle.run_record import StudyRun
from radclear.bundle.run_report import RunReport, StudyRecord
from radclear.bundle.runs import (
    best_device,
    check_bundle,
    check_studies,
    check_usage,
    end,
    open_embedding_run,
    open_run,
    pins_memory,
)
from radclear.bundle.seeding import seed_weights
from radclear.bundle.starting_point import start_from, started_from
from radclear.bundle.training import store_backbone, store_trained
from radclear.bundle.training_inputs import check_training, expected_embeddings
from radclear.bundle.weights import WeightsError, read_weights, store_weights, verify_weights

__all__ = [
    "AverageWeights",
    "BackboneBundle",
    "BestWeights",
    "BundleError",
    "CrossValidation",
    "CrossvalError",
    "EmbeddingInferer",
    "EmbeddingRun",
    "EmbeddingWriter",
    "EvaluationWriter",
    "Head",
    "HeadNetwork",
    "Probabilitiesd",
    "ReadStudyd",
    "ResultWriter",
    "RunReport",
    "StopEarly",
    "StudyAnswers",
    "StudyDataset",
    "StudyEvaluator",
    "StudyPrediction",
    "StudyRecord",
    "StudyRun",
    "TrainingChoices",
    "UnsafeExpressionError",
    "WeightsError",
    "annotated_slices",
    "annotation_record",
    "auxiliary_record",
    "backbone_entry",
    "best_device",
    "bundle_root",
    "check_bundle",
    "check_config",
    "check_network",
    "check_options",
    "check_studies",
    "check_training",
    "check_usage",
    "collate_study",
    "embedding_dim",
    "end",
    "expected_embeddings",
    "find_backbone",
    "load_backbone_bundle",
    "load_head",
    "load_heads",
    "open_embedding_run",
    "open_run",
    "pack_bundle",
    "pins_memory",
    "predict_folder",
    "predict_study",
    "prepare_study",
    "read_metadata",
    "read_weights",
    "run_crossval",
    "run_deletion",
    "seed_weights",
    "start_from",
    "started_from",
    "store_backbone",
    "store_ensemble",
    "store_trained",
    "store_weights",
    "training_loss",
    "training_network",
    "verify_weights",
]
