"""Plans for a hypothetical cluster: does a model fit, on how many hosts, and what does the planner expect?"""
