"""What the benches share: workloads, h2load, the open-loop generator as a process, processes and what they cost."""
