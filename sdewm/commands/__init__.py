"""The commands of `sdewm`, one file each."""
