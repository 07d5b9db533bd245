"""What the configs call around their engines: check the inputs, open the run, end the process."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import torch

from radclear.backbones import resolve_precision
from radclear.bundle.command_options import check_options
from radclear.bundle.embedding_run import EmbeddingRun
from radclear.bundle.head_weights import weights_for_backbone
from radclear.bundle.loaded import BackboneBundle, Head
from radclear.bundle.location import BundleError, find_backbone, read_metadata
from radclear.bundle.run_record import StudyRun, run_key
from radclear.bundle.run_report import RunReport
from radclear.bundle.weights import role, verify_weights
from radclear.errors import RadclearError

logger = logging.getLogger(__name__)


def best_device() -> torch.device:
    """The first GPU that torch sees, else the CPU."""
    return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


def pins_memory(device: str | torch.device) -> bool:
    """Whether a loader should put batches into pinned memory, which a GPU copies from beside its work."""
    return torch.device(device).type == "cuda"


def check_usage(
    bundle_root: str | Path,
    *,
    dataset_dir: str | Path,
    backbone_bundle: str | Path | None = None,
    device: str | torch.device = "cpu",
    precision: str = "auto",
) -> None:
    """End the process with exit code 2 and one plain sentence where the run cannot work at all.

    Looks at the input folder, the weights of the bundle and of its backbone, whether they belong together,
    the device and the precision.

    Args:
        bundle_root: the bundle that is run.
        dataset_dir: one study, or a folder of many.
        backbone_bundle: for a head: as its config names it.
        device, precision: what was asked for.
    """
    check_options()
    try:
        if not Path(dataset_dir).exists():
            raise BundleError(
                f"dataset_dir {dataset_dir} does not exist; name a study or a folder of studies with "
                "--dataset_dir"
            )
        if torch.device(device).type == "cuda" and not torch.cuda.is_available():
            raise BundleError(f"device {device} was asked for, but torch sees no GPU; use --device cpu")
        resolve_precision(precision, device)
        check_bundle(bundle_root, backbone_bundle=backbone_bundle)
    except (RadclearError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def check_studies(run: StudyRun) -> None:
    """End the process with exit code 2 and one plain sentence where the input holds no study."""
    try:
        found = len(run.sources)
    except RadclearError as error:
        print(f"error: dataset_dir {run.dataset_dir}: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    if not found:
        print(
            f"error: no study found in dataset_dir {run.dataset_dir}; "
            "expected DICOM files, or a NIfTI, NRRD or MHA file",
            file=sys.stderr,
        )
        raise SystemExit(2)


def check_bundle(bundle_root: str | Path, *, backbone_bundle: str | Path | None = None) -> None:
    """Compare the weights of a bundle, and of a head's backbone, with their metadata.

    Raises:
        BundleError: weights are missing or damaged, or the head was not trained on this backbone.
    """
    if role(read_metadata(bundle_root), bundle_root) == "backbone":
        verify_weights(bundle_root)
        return
    if backbone_bundle is None:
        raise BundleError(f"{bundle_root} is a head and needs a backbone; name it with --backbone_bundle")
    backbone = find_backbone(bundle_root, backbone_bundle)
    sha256 = verify_weights(backbone)
    file_name = weights_for_backbone(bundle_root, backbone_path=backbone, weights_sha256=sha256)
    verify_weights(bundle_root, file_name=file_name)


def open_run(
    head: Head,
    *,
    dataset_dir: str | Path,
    output_dir: str | Path,
    device: str | torch.device,
    precision: str,
    policy: str,
    series: str | None,
    resume: bool,
    identifiers: bool,
) -> StudyRun:
    """The run of one head over a folder; result files are called after the head's task."""
    used = str(resolve_precision(precision, device)).removeprefix("torch.")
    return StudyRun(
        dataset_dir,
        output_dir,
        key=run_key([vars(head.provenance(precision=used))], policy, series, used, identifiers),
        stem=head.task,
        prefix=f"{head.task}_",
        settings={"policy": policy, "precision": used},
        device=str(torch.device(device)),
        demonstration=head.demonstration,
        resume=resume,
        identifiers=identifiers,
    )


def open_embedding_run(
    backbone: BackboneBundle,
    *,
    dataset_dir: str | Path,
    output_dir: str | Path,
    device: str | torch.device,
    precision: str,
    resume: bool,
    identifiers: bool,
) -> EmbeddingRun:
    """The run of a backbone over a folder into an embedding store."""
    return EmbeddingRun(
        dataset_dir,
        output_dir,
        attributes={
            "encoder": backbone.backbone.name,
            "weight_sha256": backbone.weights_sha256,
            "precision": str(resolve_precision(precision, device)).removeprefix("torch."),
            "windows": backbone.windows,
            "image_size": backbone.image_size,
        },
        prefix="embedding_",
        demonstration=backbone.demonstration,
        resume=resume,
        identifiers=identifiers,
    )


def end(report: RunReport) -> None:
    """Tell how the run went, and end the process with exit code 1 where a study failed.

    `python -m monai.bundle run` knows no other way to return an exit code.
    """
    counts = f"{len(report.done)} done, {len(report.skipped)} done before, {len(report.failed)} failed"
    print(f"{counts}; results in {report.output}")
    if report.demonstration:
        print("Demonstration weights: these answers show how the software works; they are not for diagnosis.")
    for record in report.failed:
        print(f"failed {record.key}: {record.reason}", file=sys.stderr)
    if report.exit_code:
        raise SystemExit(report.exit_code)
