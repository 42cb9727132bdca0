"""Plans for a cluster that is not there: does a model fit, on how many hosts, and what does the planner expect?"""
