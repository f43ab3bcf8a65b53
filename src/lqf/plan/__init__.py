"""What a run of the workflow will take: jobs, downloads, disk, and time on a GPU (`lqf plan`).

Nothing here imports torch: a plan is printed in the time that it takes to read the configuration.
"""
