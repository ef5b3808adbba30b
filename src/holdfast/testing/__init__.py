"""What tests of code on Holdfast need: crashes and full disks on demand, and the laws that any adapter has to pass."""
