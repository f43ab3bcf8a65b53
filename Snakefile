# The workflow is in workflow/; this file runs it from the folder of the repository.
include: "workflow/Snakefile"


workflow.default_target = "all"
