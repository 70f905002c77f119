"""`python -m nnxp`: the command `nnxp`, of which Python has imported the package already."""

from nnxp_entry import main

main()
