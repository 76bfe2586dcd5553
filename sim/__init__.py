"""A deterministic simulation of the production code: stages, flow, store, worker, simulated cloud.

One seed drives everything: who asks what, which I/O step fails and how, what the clocks say, who
goes on first. An oracle that never reads our rows says after every use whether it was right.
`make sim` runs it; `docs/simulation.md` tells what is simulated and what is not.
"""
