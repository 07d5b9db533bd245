"""Speed, measured: every figure is a ratio or a rate taken within one run on one machine."""
