"""`radclear benchmark`: slices per second, share of the machine's peak, and where a study's time goes."""

from __future__ import annotations

import argparse

from radclear.cli.run_options import positive_int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backbone",
        action="append",
        metavar="NAME",
        help="backbone to measure; may be repeated (default: vit_small, vssm_clear and mambaout_tiny)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda … (default: auto)")
    parser.add_argument(
        "--batch-size", metavar="N", type=positive_int, default=8, help="slices per forward pass (default: 8)"
    )
    parser.add_argument(
        "--rounds", metavar="N", type=positive_int, default=5, help="repeats; the fastest counts (default: 5)"
    )
    parser.add_argument(
        "--no-scan", dest="scan", action="store_false", help="leave out the selective scan's own figures"
    )
    parser.add_argument(
        "--no-study", dest="study", action="store_false", help="leave out the time split of a whole study"
    )
    parser.add_argument(
        "--study-backbone",
        metavar="NAME",
        default="mambaout_tiny",
        help="backbone of the whole study, with random weights (default: mambaout_tiny)",
    )


def run(args: argparse.Namespace) -> int:
    import torch

    from radclear.backbones import keep_freed_memory, resolve_precision
    from radclear.backbones.scan.measure import measure_core
    from radclear.benchmark.encoders import DEFAULT_BACKBONES, measure_encoders
    from radclear.benchmark.study_time import measure_study
    from radclear.cli.run_options import resolve_device

    device = resolve_device(args.device)
    native = resolve_precision("auto", device)
    precisions = ["float32"] if native == torch.float32 else ["float32", str(native).removeprefix("torch.")]
    print(
        f"device {device}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"batches of {args.batch_size}"
    )
    if args.scan and device == "cpu":
        # before memory is kept: a program that runs the plain loop would not keep it either
        print("selective scan 56×56×192, 16 states, one thread, speed over the naive loop:")
        core = measure_core()
        for tier, ratio in core["ratio"].items():
            print(f"  {tier:<8}{ratio:>8.1f}×  (largest relative error {core['relative_error'][tier]:.1e})")
        for tier, reason in core["unavailable"].items():
            print(f"  {tier:<8} not measured: {reason}")
    keep_freed_memory()
    print(
        f"{'backbone':<18}{'precision':<11}{'slices/s':>9}"
        f"{'× one-slice float32 loop':>26}{'% of matrix-product peak':>26}"
    )
    for speed in measure_encoders(
        args.backbone or DEFAULT_BACKBONES,
        precisions=precisions,
        device=device,
        batch_size=args.batch_size,
        rounds=args.rounds,
    ):
        print(
            f"{speed.backbone:<18}{speed.precision:<11}{speed.slices_per_second:>9.1f}"
            f"{speed.one_slice_ratio:>26.2f}{100 * speed.peak_share:>26.0f}  "
            f"(peak {speed.peak_flops / 1e9:.0f} GFLOP/s)"
        )
    if args.study:
        seconds = measure_study(
            args.study_backbone, device=device, precision="auto", batch_size=args.batch_size
        )
        total = sum(seconds.values())
        print(
            f"one uncompressed study of 64 slices of 512², {args.study_backbone}, three heads: {total:.2f} s"
        )
        for stage, value in seconds.items():
            print(f"  {stage:<10}{value:>8.3f} s{100 * value / total:>6.1f} %")
    return 0
